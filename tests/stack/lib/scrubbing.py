"""Waiting until the scrubber has gone round."""

import time

POLL_SECONDS = 0.5


def wait_scrubbed(cluster, seconds_max):
    """Two passes of each task, begun and ended from now on. Returns what is missing."""
    began = {worker: passes(worker) for worker in cluster.workers.values()}
    deadline = time.monotonic() + seconds_max
    while missing := [worker.name for worker, before in began.items() if passes(worker) < before + 2]:
        if time.monotonic() > deadline:
            return missing
        cluster.check_alive()
        time.sleep(POLL_SECONDS)
    return []


def passes(worker):
    """Whole passes through the entries of the task that has fewest."""
    return min((task["scrub"]["passes"] for task in worker.tasks() if task.get("scrub")), default=0)
