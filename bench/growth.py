"""NAME growth: whether a record costs the same with more threads, more workers, more partitions, and more keys.

The worker's figures are taken as NAME worker takes them, with the sink that writes nowhere. For keys it is the store
alone that can grow dear: examples/store_growth.rs, its time and, by valgrind, its instructions.
"""

import re
import shutil
import statistics
import subprocess
from dataclasses import dataclass

import worker
from lib.cluster import series
from peers import Driftless
from results import spread, table

SERVERS = worker.SERVERS
DEFAULTS = {"rounds": 3, "records": 1_000_000, "dims": [128]}
PARTITIONS = 12
KEYS_MILLIONS = (1, 5, 20)
KEYS_RECORDS = 1_000_000
TARGET = 1.2

ABOUT = """\
CPU seconds of all workers together for each million changes of {dims} dimensions, as NAME `worker` counts them: a topic of
{records:,}, a sink that writes nowhere, {rounds} rounds in turns, counted once every worker holds tasks. One thread, one
worker and {partitions} partitions are what the others are compared with (*base*). *Keys*: a store in memory of so many, and
{key_records:,} records that look up a random key and put a newer entry, each tenth a new key; instructions are valgrind's. A whole
worker's are not told: few virtual machines let a guest count them.
"""


@dataclass(frozen=True)
class Setting:
    name: str
    threads: int = 1
    workers: int = 1
    partitions: int = PARTITIONS


SETTINGS = (
    Setting("base"),
    Setting("2 threads", threads=2),
    Setting("4 threads", threads=4),
    Setting("2 workers", workers=2),
    Setting("4 workers", workers=4),
    Setting("4 partitions", partitions=4),
    Setting("48 partitions", partitions=48),
)


class Workers(Driftless):
    """Several processes that share the group, measured as one."""

    def __init__(self, setting):
        super().__init__(setting.threads, partitions=setting.partitions)
        self.name = setting.name
        self.members = [Driftless(setting.threads, partitions=setting.partitions) for _ in range(setting.workers)]

    def start(self, servers, application, given):
        started = []
        try:
            for member in self.members:
                started.append(member.start(servers, application, given))
        except BaseException:
            for process in started:
                process.end()
            raise
        return Processes(self.name, started, self.is_settled)

    def scrape(self):
        """Nothing until all of them answer."""
        told = [member.scrape() for member in self.members]
        return "\n".join(told) if all(told) else ""

    def is_settled(self):
        """All of them hold tasks, and nothing is restored any more."""
        return all(tasks(member.scrape()) for member in self.members)


def tasks(told):
    states = {labels["state"]: value for labels, value in series(told, "driftless_tasks")}
    return states.get("running") and not states.get("restoring")


class Processes:
    """As `Process`, of several."""

    def __init__(self, name, processes, is_settled):
        self.name = name
        self.processes = processes
        self.began = processes[0].began
        self.is_settled = is_settled

    def cpu_seconds(self):
        return sum(process.cpu_seconds() for process in self.processes)

    def peak_mib(self):
        return sum(process.peak_mib() for process in self.processes)

    def check_alive(self):
        for process in self.processes:
            process.check_alive()

    def end(self):
        for process in self.processes:
            process.end()

    def log_tail(self):
        return "\n".join(process.log_tail() for process in self.processes)


class Measurement(worker.Measurement):
    def run(self):
        options = self.bench.options
        self.bench.kill_milvus()
        figures = {setting.name: [] for setting in SETTINGS}
        for number in range(options.rounds):
            for partitions in sorted({setting.partitions for setting in SETTINGS}):
                self.partitions = partitions
                given = self.fill(options.dims[0])
                for setting in SETTINGS:
                    if setting.partitions == partitions:
                        figure = self.measure(Workers(setting), given)
                        figures[setting.name].append(figure)
                        print(
                            f"  round {number + 1} of {options.rounds}, {setting.name}: {figure.cpu:.2f} CPU s per million, "
                            f"{figure.rate:,.0f} records/s",
                            flush=True,
                        )
                self.kafka.delete(["vector-cdc"])
        keys = self.keys()
        about = ABOUT.format(
            records=options.records, rounds=options.rounds, partitions=PARTITIONS, dims=options.dims[0],
            key_records=KEYS_RECORDS,
        )  # fmt: skip
        return "\n\n".join([about.strip(), workers_table(figures), keys])

    def application(self, peer):
        return super().application(peer.replace(" ", "-"))

    def keys(self):
        times = {millions: [] for millions in KEYS_MILLIONS}
        for _ in range(self.bench.options.rounds):
            for millions, nanoseconds in times.items():
                nanoseconds.append(self.key_time(millions))
        print("  instructions by keys: some minutes", flush=True)
        return keys_table(times, {millions: self.key_instructions(millions) for millions in KEYS_MILLIONS})

    def key_time(self, millions):
        done = run([self.bench.examples / "store_growth", str(1_000_000 * millions)])
        return float(re.search(r"([\d.]+) ns a record", done)[1])

    def key_instructions(self, millions):
        """For each record; nothing without valgrind."""
        if not shutil.which("valgrind"):
            return None
        out = self.servers.folder / "callgrind.out"
        counting = ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted_records*"]
        run([*counting, f"--callgrind-out-file={out}", self.bench.examples / "store_growth", str(1_000_000 * millions)])
        return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)[1]) / KEYS_RECORDS


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def workers_table(figures):
    base = statistics.median(figure.cpu for figure in figures["base"])
    rows = []
    for name, measured in figures.items():
        cpu = [figure.cpu for figure in measured]
        rows.append([
            name,
            spread(cpu, 2),
            spread([figure.rate / 1000 for figure in measured]),
            f"{max(figure.peak_mib for figure in measured):,.0f}",
            f"{statistics.median(cpu) / base:.2f}",
        ])
    head = ["", "CPU s per million, min / med / max", "1 000 records/s", "peak RSS MiB, all", f"times base (at most {TARGET})"]
    return f"### Threads, workers, partitions\n\n{table(head, rows)}"


def keys_table(times, instructions):
    least = min(times)
    rows = []
    for millions, nanoseconds in times.items():
        counted = instructions[millions]
        growth = f"{statistics.median(nanoseconds) / statistics.median(times[least]):.2f}"
        if counted:
            growth += f" / {counted / instructions[least]:.2f}"
        rows.append([f"{millions} million", spread(nanoseconds, 0), f"{counted:,.0f}" if counted else "not counted", growth])
    head = ["keys", "ns a record, min / med / max", "instructions a record", f"times the fewest: ns / instructions (at most {TARGET})"]
    return f"### Keys\n\n{table(head, rows)}"
