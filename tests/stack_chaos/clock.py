"""Wrong clocks: a worker whose wall clock is ahead or steps while everyone else's is right
(scripts/stack/wrong_clock.c).

What is admitted depends on stamps and append times alone, so a worker's clock must change nothing. Producers' wrong
stamps come with the load itself: hours ahead and hours late, in both regions.
"""

import subprocess
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "scripts/stack/wrong_clock.c"
WRONG_SECONDS = 12


def an_hour_ahead(scene):
    with_clock(scene, [3600])


def stepping(scene):
    with_clock(scene, [0, -30, 30, -5, 0])


def with_clock(scene, offsets):
    """Starts the only worker of a region under a clock that is so many seconds off, one after the other."""
    library, setting = scene.cluster.folder / "wrong_clock.so", scene.cluster.folder / "clock"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    setting.write_text(str(offsets[0]))
    worker = scene.cluster.workers["eu-1"]
    restart(worker, LD_PRELOAD=str(library), WRONG_CLOCK=str(setting))
    for offset in offsets:
        setting.write_text(str(offset))
        scene.stay(WRONG_SECONDS / len(offsets))
    restart(worker)


def restart(worker, **variables):
    worker.kill()
    worker.start(**variables)
    worker.wait_ready()
