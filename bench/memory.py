"""NAME memory: what the store takes for each vector that it tracks, and what a worker takes that has nothing to do."""

import re
import statistics
import subprocess
import time

import changes
from lib.cluster import series
from peers import Driftless, Input, create_topics, forget_state
from results import spread, table

SERVERS = ("kafka-us", "registry-us", "milvus-us")
DEFAULTS = {"rounds": 3, "records": 10_000_000, "dims": [128], "seconds": 30}
PARTITIONS = 12
BACKLOG = 100_000
APPLIED_SECONDS_MAX = 600
BYTES_TARGET, REST_TARGET_MB = 64, 40
LINE = re.compile(r"^ *(\d+) +([\d.]+) +([\d.]+) +\d+$", re.MULTILINE)
PEAK = re.compile(r"^peak: ([\d.]+) bytes; largest step .*: ([\d.]+) %", re.MULTILINE)
TOLD_AT_MILLIONS = (1, 2, 5, 10, 20, 50)

ABOUT = """\
*The store*: `examples/store_memory.rs` puts {keys:,} entries with keys of 16 bytes into a memory store; resident bytes by
the system's account, program apart, for each key. *A worker*: 1 thread, {partitions} partitions, Milvus at its end, what
the system says of it {seconds} s after it was ready with empty topics, and {seconds} s after it had applied a backlog of
{backlog:,} changes of {dims} dimensions; {rounds} rounds, a fresh process in each. RSS counts the program's own pages,
which are the file's and not this process' alone; *anonymous* is what it has allocated, the store with it. MB are 10^6
bytes.
"""


class Measurement:
    def __init__(self, bench):
        self.bench = bench
        self.kafka = bench.kafka
        self.servers = bench.servers
        self.seconds = bench.options.seconds

    def run(self):
        options = self.bench.options
        store = self.store(max(1, options.records // 1_000_000))
        figures = {"empty": [], "after a backlog": []}
        self.schema_id = self.bench.register_schema()
        for number in range(options.rounds):
            for state, figure in self.worker(options.dims[0], number).items():
                figures[state].append(figure)
                print(
                    f"  round {number + 1} of {options.rounds}, {state}: RSS {figure['Rss'] / 1e6:.1f} MB, "
                    f"anonymous {figure['Anonymous'] / 1e6:.1f} MB",
                    flush=True,
                )
        about = ABOUT.format(
            keys=options.records, partitions=PARTITIONS, seconds=self.seconds, backlog=BACKLOG, dims=options.dims[0],
            rounds=options.rounds,
        )  # fmt: skip
        return "\n\n".join([about.strip(), store, at_rest(figures)])

    def store(self, millions):
        """Its own limit is the target's."""
        done = subprocess.run([self.bench.examples / "store_memory", str(millions)], capture_output=True, text=True)
        print(done.stdout, flush=True)
        lines, peak = LINE.findall(done.stdout), PEAK.search(done.stdout)
        if not lines or not peak:
            raise RuntimeError(f"store_memory ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        told = [line for line in lines if int(line[0]) in {1_000_000 * each for each in TOLD_AT_MILLIONS} or line == lines[-1]]
        rows = [
            [f"{int(keys):,}", resident, own, f"{float(resident) / BYTES_TARGET:.2f}"] for keys, resident, own in told
        ]
        head = ["keys", "resident bytes a key", "by its own account", f"of {BYTES_TARGET} bytes"]
        note = f"At its peak {peak[1]} bytes a key, the program with it; the largest step of 100 000 keys {peak[2]} %."
        return f"### The store\n\n{table(head, rows)}\n\n{note}"

    def worker(self, dimension, number):
        application = f"memory-{number}-{int(time.time())}"
        self.kafka.delete(["vector-cdc"])
        self.bench.renew_milvus()
        create_topics(self.servers, application, dimension, PARTITIONS)
        peer = Driftless(1, sink=None, partitions=PARTITIONS)
        process = peer.start(self.servers, application, Input(dimension, 0, 0, self.schema_id, 0))
        try:
            self.wait(process, lambda: running(peer.scrape()) == PARTITIONS, "has not begun")
            time.sleep(self.seconds)
            empty = self.look(process, peer)
            made = changes.Changes(dimension, self.schema_id, BACKLOG, seed=number)
            changes.fill(self.servers.kafka, made)
            ruler = self.kafka.partitions(f"{application}-vectors-changelog")
            self.wait(process, lambda: self.kafka.end_sum(ruler) >= made.winners, "has not applied its backlog")
            time.sleep(self.seconds)
            full = self.look(process, peer)
        finally:
            process.end()
        self.kafka.delete(["vector-cdc"])
        self.kafka.forget(application)
        forget_state(self.servers, application)
        return {"empty": empty, "after a backlog": full}

    def wait(self, process, done, complaint):
        deadline = time.monotonic() + APPLIED_SECONDS_MAX
        while not done():
            process.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the worker {complaint} after {APPLIED_SECONDS_MAX} s\n{process.log_tail()}")
            time.sleep(0.1)

    def look(self, process, peer):
        told = peer.scrape()
        return {
            **process.memory(),
            "peak": process.peak_mib() * 2**20,
            "entries": sum(value for _, value in series(told, "driftless_store_entries")),
            "store": sum(value for _, value in series(told, "driftless_store_bytes")),
        }


def running(told):
    return sum(value for labels, value in series(told, "driftless_tasks") if labels["state"] == "running")


def at_rest(figures):
    shown = {"RSS": "Rss", "PSS": "Pss", "anonymous": "Anonymous", "of files (PSS)": "Pss_File", "peak RSS": "peak"}
    head = ["", *(f"{name} MB" for name in shown), "entries in the store", "store's account MB", f"RSS of {REST_TARGET_MB} MB, med"]
    rows = []
    for state, measured in figures.items():
        resident = statistics.median(figure["Rss"] / 1e6 for figure in measured)
        rows.append([
            state,
            *(spread([figure[field] / 1e6 for figure in measured]) for field in shown.values()),
            f"{measured[0]['entries']:,.0f}",
            f"{max(figure['store'] for figure in measured) / 1e6:.1f}",
            f"{resident / REST_TARGET_MB:.2f}",
        ])
    return f"### A worker at rest (min / med / max)\n\n{table(head, rows)}"
