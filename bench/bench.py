"""Measures one NAME against servers that are up, and writes its section of RESULTS.md. Started by scripts/bench.sh."""

import argparse
import datetime
import importlib
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
NAMES = ("worker", "restore", "milvus", "hot-keys", "latency", "regions", "memory", "growth", "start")


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
        self.broker_pid = pid_of("kafka-us")

    def register_schema(self):
        client = SchemaRegistryClient({"url": self.servers.registry})
        return client.register_schema("vector-cdc-value", Schema(json.dumps(wire.current_schema()), "AVRO"))

    def start_milvus(self):
        """A worker asks for it before it begins, whatever its topology."""
        stack("start", "milvus-us")

    def renew_milvus(self):
        """An empty one: a used one is slower."""
        for command in ("kill", "wipe", "start"):
            stack(command, "milvus-us")

    def milvus_pid(self):
        return pid_of("milvus-us")

    def kill_milvus(self):
        """At rest it still takes a fifth of a core."""
        stack("kill", "milvus-us")


def stack(*arguments):
    done = subprocess.run([environment("DRIFTLESS_STACK"), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`stack.sh {' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def pid_of(server):
    return json.loads(stack("status", "--json", server))["servers"][0]["pid"]


def module(name):
    """What is measured under this NAME: its `Measurement`, the `SERVERS` it needs, and its `DEFAULTS` of options."""
    return importlib.import_module(name.replace("-", "_"))


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
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--records", type=int)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--dims", type=lambda text: [int(each) for each in text.split(",")])
    parser.add_argument("--peers", type=lambda text: text.split(","), default=["*"])
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--servers", action="store_true", help="print the servers that it needs, and end")
    options = parser.parse_args(arguments)
    for name, value in module(options.name).DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def main():
    options = parse(sys.argv[1:])
    if options.servers:
        print(*module(options.name).SERVERS)
        return
    options.load = machine.load()
    folder = Path(tempfile.mkdtemp(prefix="driftless-bench-"))
    # As Ctrl-C: what was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        bench = Bench(options, folder)
        bench.kafka.forget_quickly()
        body = module(options.name).Measurement(bench).run()
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


if __name__ == "__main__":
    main()
