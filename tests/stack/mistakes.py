#!/usr/bin/env python3
"""Twelve plausible mistakes, made on purpose: each command's answer names the place and the remedy.

With --table, prints what was told as a Markdown table as well.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility

DRIFTLESS = os.environ["DRIFTLESS_BIN"]
US_KAFKA, US_REGISTRY, US_MILVUS = (os.environ[f"DRIFTLESS_US_{part}"] for part in ("KAFKA", "REGISTRY", "MILVUS"))
EU_REGISTRY = os.environ["DRIFTLESS_EU_REGISTRY"]
# As many as the other tests of this folder give the change topics.
PARTITIONS = 12
COLLECTION = "mistakes"
FOLDER = Path(tempfile.mkdtemp(prefix="driftless-mistakes-"))
APPLICATION = f"mistakes-{int(time.time())}"

CONFIG = f"""\
region = "us"
application_id = "{APPLICATION}"
state_dir = "{FOLDER}/state"
[kafka]
bootstrap_servers = "{US_KAFKA}"
replication_factor = 1
[regions.us]
registry = "{US_REGISTRY}"
[regions.eu]
registry = "{EU_REGISTRY}"
[milvus]
uri = "{US_MILVUS}"
[topics]
partitions = {PARTITIONS}
[[collections]]
name = "{COLLECTION}"
id = "uuid"
dimension = 8
"""
TOPOLOGY = (Path(__file__).parents[2] / "topologies/replicate.toml").read_text()


@dataclass
class Mistake:
    name: str
    command: str
    # What is written in place of what.
    change: tuple
    exit_code: int
    # Words that the answer must hold: the place, what is wrong, the remedy.
    told: tuple
    topology: bool = False


def unused_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


NOBODY = unused_address()
BLOCKED = FOLDER / "blocked"
MISTAKES = [
    Mistake("wrong port", "doctor", (US_KAFKA, NOBODY), 3, (f"Kafka at {NOBODY} is not reached", "[kafka] bootstrap_servers")),
    Mistake(
        "missing topic",
        "topics check",
        (APPLICATION, f"{APPLICATION}-none"),
        3,
        (f"topic {APPLICATION}-none-versions-changelog: does not exist", "driftless topics create"),
    ),
    Mistake(
        "partition counts that differ",
        "topics check",
        (f"partitions = {PARTITIONS}", "partitions = 5"),
        3,
        (f"topic vector-cdc: {PARTITIONS} partitions", "[topics] partitions = 5", f"write [topics] partitions = {PARTITIONS}"),
    ),
    Mistake("unknown key", "doctor", ("uri =", "url ="), 2, (":12:1: unknown key `url` in [milvus]", "Did you mean `uri`?")),
    Mistake("wrong dimension", "doctor", ("dimension = 8", "dimension = 16"), 3, (f"collection {COLLECTION}", "16", "8")),
    Mistake("registry down", "doctor", (EU_REGISTRY, f"http://{NOBODY}"), 3, (f"registry http://{NOBODY}", "[regions] registry")),
    # The configuration has no regular expressions; a bad duration is the nearest kin.
    Mistake(
        "bad duration",
        "doctor",
        ("[topics]", '[admission]\nmax_lateness = "1 fortnight"\n[topics]'),
        2,
        (':14:16: `max_lateness` = "1 fortnight" is not a usable duration', "Write a number with its unit"),
    ),
    Mistake(
        "duplicate node name",
        "topology validate",
        ('name = "dedup"', 'name = "admit"'),
        2,
        (":23:8: the name `admit` is given twice", "a name of its own"),
        topology=True,
    ),
    Mistake(
        "cycle",
        "topology validate",
        ('parents = ["changes"]', 'parents = ["lww_merge"]'),
        2,
        (":18:8: the nodes form a cycle: admit → dedup → lww_merge → admit", "Take one of these parents away"),
        topology=True,
    ),
    Mistake(
        "store used by nobody",
        "topology validate",
        ('name = "versions"', 'name = "versoins"'),
        2,
        (":13:8: the store `versoins` is used by nobody", "Name it in the stores of a processor, or remove it"),
        topology=True,
    ),
    Mistake(
        "replication factor above the brokers",
        "topics create",
        ("replication_factor = 1", "replication_factor = 3"),
        2,
        ("[kafka] replication_factor = 3, but the cluster has 1 broker", "write replication_factor = 1, or add brokers"),
    ),
    Mistake(
        "no permission to write the state folder",
        "worker",
        (f"{FOLDER}/state", f"{BLOCKED}/state"),
        2,
        (f"state_dir {BLOCKED}/state cannot be written", "give this user the right to write there"),
    ),
]


def main():
    block_state_folder()
    create_collection()
    made = run("topics create", CONFIG, "good.toml")
    if made.returncode != 0:
        raise SystemExit(f"`topics create` failed with {made.returncode}:\n{made.stdout}")
    answers = [(mistake, make(mistake)) for mistake in MISTAKES]
    drop_collection()
    if "--table" in sys.argv:
        print_table(answers)


def make(mistake):
    good, bad = mistake.change
    text = TOPOLOGY if mistake.topology else CONFIG
    assert good in text, f"{mistake.name}: nothing to replace"
    answer = run(mistake.command, text.replace(good, bad, 1), f"{mistake.name.replace(' ', '-')}.toml", mistake.topology)
    missing = [words for words in mistake.told if words not in answer.stdout]
    if answer.returncode != mistake.exit_code:
        missing.append(f"exit code {mistake.exit_code}, not {answer.returncode}")
    print(f"{'not ok' if missing else 'ok'} - {mistake.name}: the message names the place and the remedy", flush=True)
    for words in missing:
        print(f"#   not told: {words}")
    if missing:
        print("#   told instead:", *answer.stdout.splitlines(), sep="\n#     ")
    return answer


def run(command, text, file, topology=False):
    path = FOLDER / file
    path.write_text(text)
    arguments = [DRIFTLESS, *command.split(), *([] if topology else ["--config"]), str(path)]
    return subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)


def block_state_folder():
    """A folder without the right to write stops everybody but root; below a file nobody can make one."""
    if os.geteuid() == 0:
        BLOCKED.write_text("")
    else:
        BLOCKED.mkdir(mode=0o500)


def create_collection():
    """As a worker would have made it for vectors of 8 dimensions."""
    connections.connect(uri=US_MILVUS)
    drop_collection()
    fields = [
        FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=36),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=8),
        FieldSchema("_hlc", DataType.INT64),
        FieldSchema("_origin", DataType.VARCHAR, max_length=64),
        FieldSchema("_seq", DataType.INT64),
    ]
    Collection(f"{COLLECTION}__g1", CollectionSchema(fields, enable_dynamic_field=True))
    utility.create_alias(f"{COLLECTION}__g1", COLLECTION)


def drop_collection():
    if utility.has_collection(f"{COLLECTION}__g1"):
        utility.drop_alias(COLLECTION)
        utility.drop_collection(f"{COLLECTION}__g1")


def print_table(answers):
    print("\n| mistake | command | exit code | what is told |\n|---|---|---|---|")
    for mistake, answer in answers:
        lines = answer.stdout.replace(f"{FOLDER}/", "").splitlines()
        start = next((n for n, line in enumerate(lines) if mistake.told[0] in line), 0)
        told = " ".join(line.strip() for line in lines[start : start + 2]).replace("|", "\\|")
        print(f"| {mistake.name} | `{mistake.command}` | {answer.returncode} | {told} |")


if __name__ == "__main__":
    main()
