"""Who takes part, and how each is started: everything that a peer needs and that another must not be given.

All have the same internal topics (`driftless topics create`), of an application id of their own for each round.
"""

import os
import shutil
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from changes import collection_of
from lib.cluster import free_port, quoted
from process import Process

REGION = "us"
PARTITIONS = 4
NULL_SINK = Path(__file__).with_name("null_sink.toml")
HEAP_MIB = 1024
JAVA_ROW_BYTES = 250  # of a tree's node, a key and an array's head in the JVM
HEAP_ROOM = 2.5


@dataclass(frozen=True)
class Servers:
    kafka: str
    registry: str
    milvus: str
    driftless: Path
    bare_loop: Path
    streams: Path
    folder: Path


@dataclass(frozen=True)
class Input:
    dimension: int
    records: int
    winners: int
    schema_id: int
    bytes: int


class Peer:
    """`name` is what it is called on the command line and in the table; `ruler` which changelog has one record for
    each winner, and no other."""

    ruler = "vectors"

    def start(self, servers, application, given):
        """`application`: fresh."""
        raise NotImplementedError


class Driftless(Peer):
    def __init__(self, threads, sink=NULL_SINK, partitions=PARTITIONS, tables=()):
        """`tables`: further ones of its configuration, as text."""
        self.name = f"driftless-{threads}"
        self.tables = tables
        self.threads = threads
        self.sink = sink
        self.partitions = partitions

    def start(self, servers, application, given):
        config = self.configure(servers, application, given.dimension)
        return Process(self.name, [servers.driftless, "worker", "--config", config], config.with_suffix(".log"))

    def configure(self, servers, application, dimension):
        self.port = free_port()
        config = servers.folder / f"{application}-{self.port}.toml"
        config.write_text(worker_toml(servers, application, dimension, self.port, self.threads, self.sink, self.partitions, self.tables))
        return config

    def scrape(self):
        """All of /metrics, as text; nothing as long as nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as reply:
                return reply.read().decode()
        except OSError:
            return ""


class BareLoop(Peer):
    name = "bare-loop"

    def start(self, servers, application, given):
        command = [servers.bare_loop, servers.kafka, application, given.dimension, given.records]
        return Process(self.name, list(map(str, command)), servers.folder / f"{application}.log")


class Streams(Peer):
    """`keep`: what its changelog keeps of a winner; `decode`: how it reads changes (bench/streams)."""

    def __init__(self, store, keep, threads, decode="generic", **options):
        """`options`: more of them, for its command line."""
        self.options = options
        self.name = f"streams-{store}-{keep}-{decode}-{threads}"
        self.store, self.keep, self.threads, self.decode = store, keep, threads, decode
        self.ruler = "vectors" if keep == "split" else "versions"

    def start(self, servers, application, given):
        state = servers.folder / f"{application}-state"
        options = {
            "bootstrap": servers.kafka, "application": application, "registry": servers.registry, "input": "vector-cdc",
            "state-dir": state, "threads": self.threads, "store": self.store, "keep": self.keep, "decode": self.decode,
            "records": given.records, **self.options,
        }
        command = streams_command(servers, self.heap_mib(given), options)
        return Process(self.name, command, servers.folder / f"{application}.log")

    def heap_mib(self, given):
        """A memory store of whole changes must have room for them."""
        if self.store != "memory":
            return HEAP_MIB
        value = given.bytes / given.records if self.keep == "whole" else 0
        return int(max(HEAP_MIB, HEAP_ROOM * given.winners * (value + JAVA_ROW_BYTES) / 2**20))


def streams_command(servers, heap_mib, options):
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else "java"
    classes = f"{servers.streams}/classes:{servers.streams}/lib/*"
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [java, f"-Xmx{heap_mib}m", quiet, "-cp", classes, "driftless.bench.Main", *arguments]


def worker_toml(servers, application, dimension, port, threads=1, sink=None, partitions=PARTITIONS, tables=()):
    """`sink`: a topology's file, or our own with Milvus at its end. Nothing that looks at Milvus now and then."""
    topology = [f"[topology]\nfile = {quoted(str(sink))}"] if sink else []
    return "\n".join([
        f"region = {quoted(REGION)}",
        f"application_id = {quoted(application)}",
        f"state_dir = {quoted(str(servers.folder / f'{application}-state'))}",
        f"[kafka]\nbootstrap_servers = {quoted(servers.kafka)}\nreplication_factor = 1",
        f"[regions.{REGION}]\nregistry = {quoted(servers.registry)}",
        f"[milvus]\nuri = {quoted(servers.milvus)}",
        f'[http]\nlisten = "127.0.0.1:{port}"',
        f"[topics]\npartitions = {partitions}",
        f"[worker]\nthreads = {threads}",
        *tables,
        "[scrub]\nenabled = false",
        "[canary]\nenabled = false",
        "[[collections]]",
        f"name = {quoted(collection_of(dimension))}",
        'id = "uuid"',
        f"dimension = {dimension}",
        'metric = "l2"',
        'index = { type = "hnsw", m = 8, ef_construction = 64 }',
        *topology,
    ]) + "\n"


def create_topics(servers, application, dimension, partitions=PARTITIONS):
    """The internal topics of one application, and the change topic where it is not there."""
    config = servers.folder / f"{application}-topics.toml"
    config.write_text(worker_toml(servers, application, dimension, free_port(), partitions=partitions))
    command = [servers.driftless, "topics", "create", "--config", config]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`topics create` failed with {done.returncode}:\n{done.stdout}")


def forget_state(servers, application):
    shutil.rmtree(servers.folder / f"{application}-state", ignore_errors=True)
