"""A full disk: one broker's log on a small file system of its own, filled to its last byte under load.

Needs to be root and allowed to mount; where not, the fault is left out and said so. Milvus' and the registries' data
are not tried: their files are not what this project answers for. A worker keeps nothing in its state folder.
"""

import errno
import os
import shutil
import subprocess
from pathlib import Path

BROKER = "kafka-us-3"
SIZE_MIB = 256
CHUNK = bytes(1024 * 1024)


def full(scene):
    data = Path(os.environ["DRIFTLESS_STACK_HOME"]) / "data" / BROKER
    log, aside = data / "log", data / "log.aside"
    scene.stack("stop", BROKER)
    log.rename(aside)
    log.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", log], capture_output=True)
    if mounted.returncode != 0:
        log.rmdir()
        aside.rename(log)
        scene.stack("start", BROKER)
        scene.tap.note(f"left out, since nothing can be mounted here: {mounted.stderr.decode().strip()}")
        return
    try:
        copy(aside, log)
        scene.stack("start", BROKER)
        fill(log / "filler")
        scene.until("the broker ends, its disk being full", lambda: not runs(BROKER))
        scene.check("f12 a broker whose disk is full ends, and its region goes on", acknowledges(scene))
        (log / "filler").unlink()
        scene.stack("start", BROKER)
        scene.stay(3)
    finally:
        scene.stack("stop", BROKER)
        shutil.rmtree(aside)
        copy(log, aside)
        subprocess.run(["umount", log], check=True)
        log.rmdir()
        aside.rename(log)
        scene.stack("start", BROKER)


def copy(source, destination):
    destination.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", "--sparse=always", f"{source}/.", destination], check=True)


def fill(path):
    with path.open("wb", buffering=0) as filler:
        for size in (len(CHUNK), 4096, 1):
            try:
                while True:
                    filler.write(CHUNK[:size])
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def runs(server):
    done = subprocess.run([os.environ["DRIFTLESS_STACK"], "status", server], capture_output=True, text=True)
    return "stopped" not in done.stdout


def acknowledges(scene):
    before = scene.stream.acks("us")
    scene.stay(8)
    return scene.stream.acks("us") > before
