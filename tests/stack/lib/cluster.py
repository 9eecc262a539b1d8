"""The regions under test and the Driftless workers in them, started and hurt as a test asks.

The servers are scripts/stack.sh's; this only talks to them. Workers are children of the test, and
nothing else is ever signalled.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import OFFSET_END, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from . import verifier
from .generator import register_schemas
from .rawlog import CDC_TOPIC, mirror_of

PARTITIONS = 12
READY_SECONDS = 90
STOP_SECONDS = 30
LOG_LINES_SHOWN = 15


@dataclass(frozen=True)
class Region:
    name: str
    kafka: str
    registry: str
    milvus: str

    @property
    def brokers(self):
        return self.kafka.count(",") + 1


def regions_from_environment():
    third = ["ap"] if "DRIFTLESS_AP_KAFKA" in os.environ else []
    return {name: region_from_environment(name) for name in ("us", "eu", *third)}


def region_from_environment(name):
    parts = ("KAFKA", "REGISTRY", "MILVUS")
    return Region(name, *(environment(f"DRIFTLESS_{name.upper()}_{part}") for part in parts))


def environment(variable):
    if variable not in os.environ:
        raise SystemExit(f"{variable} is not set: run this by scripts/test.sh, or after `eval $(scripts/stack.sh env)`")
    return os.environ[variable]


class Worker:
    """One `driftless worker` process and its files."""

    def __init__(self, name, binary, config, log, port):
        self.name = name
        self.command = [binary, "worker", "--config", str(config)]
        self.log = log
        self.url = f"http://127.0.0.1:{port}"
        self.process = None

    def start(self, **variables):
        """`variables` are added to this process's environment."""
        environment = {**os.environ, **variables}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def kill(self):
        """SIGKILL: no drain, no commit, no leave."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def ask_to_stop(self):
        self.process.send_signal(signal.SIGTERM)

    def wait_stopped(self):
        """The exit code; None if it had to be killed."""
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def wait_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready():
            self.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} not ready within {READY_SECONDS} s\n{self.log_tail()}")
            time.sleep(0.2)

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as reply:
                return reply.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def check_alive(self):
        if self.process and self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended by itself with {self.process.returncode}\n{self.log_tail()}")

    def metric(self, name):
        """The sum over all labels; 0 if the metric is not there."""
        return sum(value for _, value in series(self.scrape(), name))

    def tasks(self):
        """What /tasks tells of the tasks that it holds."""
        with urllib.request.urlopen(f"{self.url}/tasks", timeout=5) as reply:
            return json.load(reply)["tasks"]

    def scrape(self):
        """All of /metrics, as text."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as reply:
            return reply.read().decode()

    def resident_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    def log_tail(self):
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join([f"last lines of {self.log}:", *lines])


class Cluster:
    """Both regions, emptied of what earlier runs left, with their workers configured but not yet started."""

    def __init__(self, name, collections, workers, tables=(), stores=None):
        """`tables`: further tables of every worker's configuration, as text. `stores`: of a region, "memory" or
        "disk"."""
        self.tables = tables
        self.stores = stores or {}
        self.binary = environment("DRIFTLESS_BIN")
        self.regions = regions_from_environment()
        self.collections = collections
        # A group and internal topics of its own for every run, so that runs can share one stack.
        self.application = f"{name}-{int(time.time())}"
        self.schema_ids = {}
        self.folder = Path(tempfile.mkdtemp(prefix=f"driftless-{self.application}-"))
        self.workers = {
            f"{region}-{number}": self._configure(region, number)
            for region, count in workers.items()
            for number in range(1, count + 1)
        }

    def prepare(self):
        # Before any worker registers its own, so that an id means another schema in each region.
        registries = {region.name: region.registry for region in self.regions.values()}
        self.schema_ids = register_schemas(registries)
        for region in self.regions.values():
            verifier.connect(region.name, region.milvus)
            verifier.drop_collections(region.name, self.collections)
            truncate_cdc_topics(region, self.peers_of(region.name))
        # Both at once: MirrorMaker must not find a topic whose mirror has not been made yet.
        self.create_topics(*self.regions)

    def create_topics(self, *regions):
        for creation in [self._create_topics(region) for region in regions]:
            output, _ = creation.communicate(timeout=60)
            if creation.returncode != 0:
                raise RuntimeError(f"`topics create` failed with {creation.returncode}:\n{output}")

    def peers_of(self, region):
        return [name for name in self.regions if name != region]

    def start(self):
        for worker in self.workers.values():
            worker.start()
        for worker in self.workers.values():
            worker.wait_ready()

    def stop(self):
        """SIGTERM to all; returns what went wrong."""
        for worker in self.workers.values():
            worker.ask_to_stop()
        codes = {worker.name: worker.wait_stopped() for worker in self.workers.values()}
        for worker in self.workers.values():
            worker.process = None
        return [
            f"{name} exited with {code}" if code is not None else f"{name} did not stop within {STOP_SECONDS} s"
            for name, code in codes.items()
            if code != 0
        ]

    def check_alive(self):
        for worker in self.workers.values():
            worker.check_alive()

    def metric(self, name):
        return sum(worker.metric(name) for worker in self.workers.values())

    def group_members(self, region):
        admin = AdminClient({"bootstrap.servers": self.regions[region].kafka})
        description = admin.describe_consumer_groups([self.application])[self.application].result()
        return len(description.members)

    def link(self, *action):
        self.stack("link", *action)

    def stack(self, *arguments):
        subprocess.run([environment("DRIFTLESS_STACK"), *arguments], check=True, stdout=subprocess.DEVNULL)

    def close(self, keep_files):
        for worker in self.workers.values():
            if worker.process and worker.process.poll() is None:
                worker.kill()
        if not keep_files:
            shutil.rmtree(self.folder)

    def _create_topics(self, region):
        command = [self.binary, "topics", "create", "--config", str(self.folder / f"{region}-1.toml")]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _configure(self, region, number):
        name, port = f"{region}-{number}", free_port()
        config = self.folder / f"{name}.toml"
        config.write_text(self._toml(self.regions[region], self.folder / f"state-{name}", port))
        return Worker(name, self.binary, config, self.folder / f"{name}.log", port)

    def _toml(self, region, state_dir, port):
        tables = [
            f"region = {quoted(region.name)}",
            f"application_id = {quoted(self.application)}",
            f"state_dir = {quoted(str(state_dir))}",
            f"[kafka]\nbootstrap_servers = {quoted(region.kafka)}\nreplication_factor = {region.brokers}",
            *(f"[regions.{each.name}]\nregistry = {quoted(each.registry)}" for each in self.regions.values()),
            f"[milvus]\nuri = {quoted(region.milvus)}",
            f'[http]\nlisten = "127.0.0.1:{port}"',
            f"[topics]\npartitions = {PARTITIONS}",
            # Each scenario may be run on either: the outcome is the same.
            f"[state]\nstore = {quoted(self.stores.get(region.name, os.environ.get('DRIFTLESS_STORE', 'memory')))}",
            *self.tables,
            *map(collection_toml, self.collections),
        ]
        return "\n".join(tables) + "\n"


def collection_toml(spec):
    lines = [
        "[[collections]]",
        f"name = {quoted(spec.name)}",
        f"id = {quoted(spec.id_kind)}",
        f"dimension = {spec.dimension}",
        f"metric = {quoted(spec.metric)}",
        'index = { type = "hnsw", m = 8, ef_construction = 64 }',
    ]
    if spec.id_bytes_max:
        lines.append(f"id_max_bytes = {spec.id_bytes_max}")
    return "\n".join(lines)


def series(metrics, name):
    """The series of one name in the text of a scrape: [(labels, value)]."""
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", metrics, re.MULTILINE)
    return [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for labels, value in found]


def quoted(text):
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(text)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def truncate_cdc_topics(region, peers):
    """Drops an earlier run's records. The topics stay: MirrorMaker would not notice that they were made anew."""
    admin = AdminClient({"bootstrap.servers": region.kafka})
    topics = admin.list_topics(timeout=10).topics
    partitions = [
        TopicPartition(topic, partition, OFFSET_END)
        for topic in [CDC_TOPIC, *map(mirror_of, peers)]
        if topic in topics
        for partition in topics[topic].partitions
    ]
    if not partitions:
        return
    wait_quiet(region, partitions)
    for deletion in admin.delete_records(partitions).values():
        deletion.result()


def wait_quiet(region, partitions, quiet_seconds=2, deadline_seconds=60):
    """Until nothing is appended any more: what MirrorMaker still carries would outlive the truncation."""
    consumer = Consumer({"bootstrap.servers": region.kafka, "group.id": "stack-test-quiet"})
    deadline = time.monotonic() + deadline_seconds
    ends = None
    while ends != (ends := [consumer.get_watermark_offsets(each, timeout=10)[1] for each in partitions]):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{region.name}: something still writes to the CDC topics; is another worker running?")
        time.sleep(quiet_seconds)
    consumer.close()
