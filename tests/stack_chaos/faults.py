"""What is done to the servers and workers, one fault after the other, with the load running throughout.

A fault is a function that does the harm, checks that it has struck, and heals it. Its name in `FULL` begins with the
numbers of the scenarios that it plays.
"""

import time
import urllib.request
from dataclasses import dataclass
from typing import Callable

import clock
import disk

# Longer than the session time-outs of the group (10 s), of a broker (6 s) and of MirrorMaker's workers (6 s), and
# than the deadline of a request to Milvus (5 s).
STALL_SECONDS = 14
# Milvus ends itself some time after a stop that has cost it its own sessions, as it does in production, where a
# supervisor starts it again.
SUPERVISED = ("milvus-us", "milvus-eu")
SUPERVISION_SECONDS = 5
CUT_SECONDS = 12
SLOW_MS = 500


@dataclass(frozen=True)
class Fault:
    name: str
    strike: Callable  # of a Scene
    family: str = ""  # the short pass draws one of each family; without one a fault is played in the full pass alone


class Scene:
    """What a fault may lay hands on."""

    def __init__(self, tap, cluster, stream):
        self.tap = tap
        self.cluster = cluster
        self.stream = stream
        self.supervised_at = time.monotonic()

    def stack(self, *words):
        self.cluster.stack(*words)

    def stay(self, seconds):
        """Lets the load run on; workers must not end by themselves meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.cluster.check_alive()
            time.sleep(0.5)

    def supervise(self):
        """Between faults: starts what has ended by itself, if that is its way. Workers must not."""
        self.cluster.check_alive()
        if time.monotonic() > self.supervised_at + SUPERVISION_SECONDS:
            self.stack("start", *SUPERVISED)
            self.supervised_at = time.monotonic()

    def check(self, name, good, detail=""):
        self.tap.check(name, [] if good else [detail or "it is not so"])

    def describe(self, name):
        """Writes what each worker says of its tasks and counts; returns the folder."""
        folder = self.cluster.folder / name.replace(" ", "-")
        folder.mkdir()
        for worker in self.cluster.workers.values():
            for page in ("tasks", "metrics"):
                try:
                    with urllib.request.urlopen(f"{worker.url}/{page}", timeout=5) as reply:
                        text = reply.read().decode()
                except OSError as error:
                    text = f"no answer: {error}"
                (folder / f"{worker.name}.{page}").write_text(text)
        return folder

    def until(self, what, condition, seconds_max=120):
        deadline = time.monotonic() + seconds_max
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"never: {what}")
            time.sleep(0.5)


def killed(server, seconds=3):
    def strike(scene):
        scene.stack("kill", server)
        scene.stay(seconds)
        scene.stack("start", server)

    return strike


def stopped(server, seconds=STALL_SECONDS):
    def strike(scene):
        scene.stack("pause", server)
        try:
            scene.stay(seconds)
        finally:
            scene.stack("resume", server)

    return strike


def worker_killed(scene):
    worker = scene.cluster.workers["us-1"]
    worker.kill()
    scene.stay(3)
    worker.start()
    worker.wait_ready()


def only_worker_killed(scene):
    worker = scene.cluster.workers["eu-1"]
    worker.kill()
    scene.stay(3)
    worker.start()
    worker.wait_ready()


def worker_stopped(scene):
    worker = scene.cluster.workers["us-2"]
    worker.pause()
    scene.stay(STALL_SECONDS)
    members = scene.cluster.group_members("us")
    scene.check("f01 a worker stopped past its session loses its place in the group", members == 1, f"{members} members")
    worker.resume()


def two_of_three_brokers_killed(scene):
    scene.stack("kill", "kafka-us-2", "kafka-us-3")
    scene.stay(3)
    before = scene.stream.acks("us")
    scene.stay(6)
    after = scene.stream.acks("us")
    scene.check(
        "f19 with two of three brokers gone nothing is acknowledged", before == after, f"{after - before} acknowledgements"
    )
    scene.stack("start", "kafka-us-2", "kafka-us-3")
    scene.until("acknowledgements again", lambda: scene.stream.acks("us") > after)


def milvus_killed_and_its_worker_too(scene):
    scene.stack("kill", "milvus-eu")
    worker = scene.cluster.workers["eu-1"]
    worker.kill()
    scene.stack("start", "milvus-eu")
    worker.start()
    worker.wait_ready()


def registry_gone(way):
    """The worker of the other region is started anew meanwhile, so that it has to ask."""

    def strike(scene):
        scene.stack(way, "registry-us")
        try:
            worker = scene.cluster.workers["eu-1"]
            worker.kill()
            worker.start()
            # Nothing may be refused for want of a schema: the dead letters are compared at the end.
            scene.stay(STALL_SECONDS)
        finally:
            scene.stack("start" if way == "kill" else "resume", "registry-us")
        worker.wait_ready()

    return strike


def link_cut(scene):
    scene.stack("link", "cut")
    try:
        scene.stay(CUT_SECONDS)
    finally:
        scene.stack("link", "heal")


def link_slow(scene):
    scene.stack("link", "delay", str(SLOW_MS))
    try:
        scene.stay(CUT_SECONDS)
    finally:
        scene.stack("link", "delay", "30")


def link_cut_while_workers_die(scene):
    scene.stack("link", "cut", "us")
    try:
        worker_killed(scene)
        only_worker_killed(scene)
    finally:
        scene.stack("link", "heal", "us")


FULL = [
    Fault("f54 f24 one of two workers killed", worker_killed, "worker"),
    Fault("f54 f24 the only worker of a region killed", only_worker_killed, "worker"),
    Fault("f01 f63 a worker stopped past its session and continued", worker_stopped, "worker"),
    Fault("f12 one of three brokers killed", killed("kafka-us-2"), "broker"),
    Fault("f12 one of three brokers stopped and continued", stopped("kafka-us-3"), "broker"),
    Fault("f19 f12 two of three brokers killed at once", two_of_three_brokers_killed),
    Fault("f12 f15 the only broker of a region killed", killed("kafka-eu"), "broker"),
    Fault("f12 the only broker of a region stopped and continued", stopped("kafka-eu")),
    Fault("f33 MirrorMaker killed", killed("mm2"), "link"),
    Fault("f33 MirrorMaker stopped and continued", stopped("mm2")),
    Fault("f64 the link cut", link_cut, "link"),
    Fault("f69 the link slow", link_slow),
    Fault("f64 f54 workers killed while the link is cut", link_cut_while_workers_die),
    Fault("f47 Milvus killed", killed("milvus-us"), "store"),
    Fault("f47 f61 Milvus stopped and continued", stopped("milvus-eu"), "store"),
    Fault("f47 f54 Milvus killed and its worker with it", milvus_killed_and_its_worker_too),
    Fault("f65 the registry of the origin killed while a worker starts", registry_gone("kill"), "store"),
    Fault("f65 the registry of the origin stopped while a worker starts", registry_gone("pause")),
    Fault("a broker's disk full", disk.full),
    Fault("f41 f56 the clock of a worker an hour ahead", clock.an_hour_ahead),
    Fault("f42 the clock of a worker stepping back and forth", clock.stepping),
]


def short(random):
    """One fault of each family, in the order of `FULL`."""
    families = {}
    for fault in FULL:
        if fault.family:
            families.setdefault(fault.family, []).append(fault)
    drawn = [random.choice(faults) for faults in families.values()]
    return [fault for fault in FULL if fault in drawn]
