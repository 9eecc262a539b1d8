"""Measures one NAME against servers that are up, and writes its section of RESULTS.md. Started by scripts/bench.sh."""

import argparse
import datetime
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "stack"))

import machine  # noqa: E402
import results  # noqa: E402
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient  # noqa: E402
from kafka import Kafka  # noqa: E402
from lib import wire  # noqa: E402
from lib.cluster import environment  # noqa: E402
from peers import Servers  # noqa: E402

INTERRUPTED = 130
RECORDS = {"worker": 1_000_000, "restore": 5_000_000}


class Bench:
    """What every NAME is given."""

    def __init__(self, options, folder):
        self.options = options
        examples = Path(environment("DRIFTLESS_BIN")).parent / "examples"
        self.servers = Servers(
            kafka=environment("DRIFTLESS_US_KAFKA"),
            registry=environment("DRIFTLESS_US_REGISTRY"),
            milvus=environment("DRIFTLESS_US_MILVUS"),
            driftless=Path(environment("DRIFTLESS_BIN")),
            bare_loop=examples / "bare_loop",
            streams=Path(environment("DRIFTLESS_STREAMS_DIR")),
            folder=folder,
        )
        self.examples = examples
        self.kafka = Kafka(self.servers.kafka)
        self.broker_pid = broker_pid()

    def register_schema(self):
        client = SchemaRegistryClient({"url": self.servers.registry})
        return client.register_schema("vector-cdc-value", Schema(json.dumps(wire.current_schema()), "AVRO"))

    def start_milvus(self):
        """A worker asks for it before it begins, whatever its topology."""
        stack("start", "milvus-us")

    def kill_milvus(self):
        """At rest it still takes a fifth of a core."""
        stack("kill", "milvus-us")


def stack(*arguments):
    done = subprocess.run([environment("DRIFTLESS_STACK"), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`stack.sh {' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def broker_pid():
    return json.loads(stack("status", "--json", "kafka-us"))["servers"][0]["pid"]


def measurement(bench):
    match bench.options.name:
        case "worker":
            from worker import Measurement
        case "restore":
            from restore import Measurement
    return Measurement(bench)


def write(options, body):
    java_side = [machine.java(), f"Kafka and Kafka Streams {environment('DRIFTLESS_KAFKA_VERSION')}"]
    head = "\n".join([
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, `scripts/bench.sh {' '.join(sys.argv[1:])}`  ",
        f"{machine.machine()}; load {options.load:.1f} before  ",
        machine.versions(*java_side, f"Milvus {environment('DRIFTLESS_MILVUS_VERSION')}"),
    ])
    results.replace_section(options.name, f"{head}\n\n{body}")
    print(f"written to {results.FILE}")


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bench.sh", add_help=False)
    parser.add_argument("name", choices=["worker", "restore"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int)
    parser.add_argument("--dims", type=lambda text: [int(each) for each in text.split(",")], default=[128, 768])
    parser.add_argument("--peers", type=lambda text: text.split(","), default=["*"])
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(arguments)
    options.records = options.records or RECORDS[options.name]
    return options


def main():
    options = parse(sys.argv[1:])
    options.load = machine.load()
    folder = Path(tempfile.mkdtemp(prefix="driftless-bench-"))
    # As Ctrl-C: what was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        bench = Bench(options, folder)
        bench.kafka.forget_quickly()
        body = measurement(bench).run()
        print(f"\n{body}\n")
        if not options.dry_run:
            write(options, body)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (AssertionError, RuntimeError, TimeoutError) as error:
        print(f"bench.sh: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
