"""NAME restore: a task's store from its changelog, by us, by a bare client that fills a map, and by Kafka Streams.

All read the one partition of the one changelog that `examples/restore_rate.rs` has filled; Kafka Streams takes our entries
for its store's values. Ours and the bare client say themselves how long they took, from the first call to the end of the
changelog; Kafka Streams says it of the partition's restore alone, from its listener's start to its end.
"""

import re
import shutil
import statistics
import subprocess
import time
from pathlib import Path

from peers import streams_command
from process import Process
from results import spread, table

SERVERS = ("kafka-us", "registry-us", "milvus-us")
DEFAULTS = {"rounds": 3, "records": 5_000_000}
STORES = ("rocksdb", "memory")
HEAP_MIB = 8192
RESTORED_SECONDS_MAX = 600
LINE = re.compile(r"^(bare client, a map|memory store|disk store, from nothing|disk store, the tail) +(\d+) +([\d.]+) +\d+$")

ABOUT = """\
{keys:,} entries of as many keys in one partition (and a hundredth more with each round), restored {rounds} times by each,
in turns. *bare client*: librdkafka's consumer into a map of bytes. *memory store*, *disk store*: ours, with all that
belongs to a restore. *the tail*: a disk store that is there already, and {tail:,} entries behind. `streams-STORE`: Kafka
Streams' own restore of the same records.
"""


class Measurement:
    def __init__(self, bench):
        self.bench = bench
        self.keys = bench.options.records
        self.figures = {}

    def run(self):
        self.bench.kill_milvus()
        for number in range(self.bench.options.rounds):
            self.ours()
            for store in STORES:
                self.note(f"streams-{store}", *self.streams(store))
            print(f"  round {number + 1} of {self.bench.options.rounds} done", flush=True)
        return self.section()

    @property
    def application(self):
        return f"restore-rate-{self.keys}"

    def note(self, what, records, seconds):
        print(f"  {what}: {records:,} in {seconds:.1f} s, {records / seconds:,.0f}/s", flush=True)
        self.figures.setdefault(what, []).append(records / seconds)

    def ours(self):
        command = [self.bench.examples / "restore_rate", self.bench.servers.kafka, self.keys, 1]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"restore_rate failed:\n{done.stdout}{done.stderr}")
        for line in done.stdout.splitlines():
            if found := LINE.match(line):
                self.note(found[1], int(found[2]), float(found[3]))

    def streams(self, store):
        """Records and seconds of the partition that has any."""
        state = Path("/var/tmp") / f"{self.application}-state"
        options = {
            "bootstrap": self.bench.servers.kafka, "application": self.application,
            "registry": self.bench.servers.registry, "input": "vector-cdc", "state-dir": state, "store": store,
            "keep": "metadata", "decode": "lazy", "records": 1,
        }  # fmt: skip
        log = self.bench.servers.folder / f"streams-{store}.log"
        process = Process(f"streams-{store}", streams_command(self.bench.servers, HEAP_MIB, options), log)
        try:
            deadline = time.monotonic() + RESTORED_SECONDS_MAX
            while not (found := [line for line in process.told if line.get("restored", 0) >= self.keys]):
                process.check_alive()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{process.name} has not restored within {RESTORED_SECONDS_MAX} s\n{process.log_tail()}")
                time.sleep(0.05)
        finally:
            process.end()
            shutil.rmtree(state, ignore_errors=True)
        return found[0]["restored"], found[0]["seconds"]

    def section(self):
        bare = statistics.median(self.figures["bare client, a map"])
        rocks = statistics.median(self.figures["streams-rocksdb"])
        rows = []
        for what, rates in self.figures.items():
            middle = statistics.median(rates)
            rows.append([what, spread([rate / 1e6 for rate in rates], 3), f"{middle / bare:.2f}", f"{middle / rocks:.1f}"])
        head = ["", "million records/s, min / med / max", "of the bare client's", "times Kafka Streams with RocksDB"]
        rounds = self.bench.options.rounds
        return f"{ABOUT.format(keys=self.keys, rounds=rounds, tail=self.keys // 100).strip()}\n\n{table(head, rows)}"
