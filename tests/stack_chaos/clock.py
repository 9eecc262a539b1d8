"""Wrong clocks: a worker under libfaketime, whose wall clock is ahead or steps while everyone else's is right.

What is admitted depends on stamps and append times alone, so a worker's clock must change nothing. Producers' wrong
stamps come with the load itself: hours ahead and hours late, in both regions. Left out where there is no libfaketime.
"""

from pathlib import Path

LIBRARIES = "/usr/lib"
WRONG_SECONDS = 12


def library():
    return next(Path(LIBRARIES).glob("*/faketime/libfaketime.so.1"), None)


def an_hour_ahead(scene):
    with_clock(scene, ["+3600"])


def stepping(scene):
    with_clock(scene, ["+0", "-30", "+30", "-5", "+0"])


def with_clock(scene, offsets):
    """Starts the only worker of a region under a clock that is so many seconds off, one after the other."""
    preload = library()
    if preload is None:
        scene.tap.note("left out: there is no libfaketime (Debian: apt-get install libfaketime)")
        return
    worker = scene.cluster.workers["eu-1"]
    setting = scene.cluster.folder / "clock"
    setting.write_text(offsets[0])
    restart(
        worker,
        LD_PRELOAD=str(preload),
        FAKETIME_TIMESTAMP_FILE=str(setting),
        # The file is looked at each second; time-outs go by the clock that only ever runs.
        FAKETIME_CACHE_DURATION="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    for offset in offsets:
        setting.write_text(offset)
        scene.stay(WRONG_SECONDS / len(offsets) + 2)  # the first second or so is needed to notice
    restart(worker)


def restart(worker, **variables):
    worker.kill()
    worker.start(**variables)
    worker.wait_ready()
