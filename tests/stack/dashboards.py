#!/usr/bin/env python3
"""Every query of every panel of docker/grafana, asked of a Prometheus that scrapes real workers, Kafka and Milvus
under load: each is taken, and none is without a point."""

import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request

from lib import scenario
from lib.watch import DOCKER, Watch, stack_servers, wait_until
from lib.wire import CollectionSpec

COLLECTIONS = [CollectionSpec("products", "uuid", 128, "l2")]
SEED = 20_240_610
CHANGES = 6_000
ROWS = 1_000
LOAD_SECONDS = 30
STEP_SECONDS = 2


def dashboards(tap, cluster):
    addresses = {region: [] for region in cluster.regions}
    for name, worker in cluster.workers.items():
        addresses[name.partition("-")[0]].append(worker.url.removeprefix("http://"))
    began = time.time()
    with Watch(cluster.folder, addresses, stack_servers()) as watch:
        cluster.start()
        load = scenario.make_load(tap, cluster, SEED, CHANGES, bad_of_each=2, rows=ROWS, seconds=LOAD_SECONDS)
        load.start()
        search(cluster)
        load.join()
        wait_until(lambda: watch.query("driftless_clock_ahead_seconds"), 30, "clocks to be compared")
        down = [labels["instance"] for labels, value in watch.query("up") if value != 1]
        tap.check("every target of the scrape configuration answers", down)
        for file in sorted((DOCKER / "grafana/dashboards").glob("*.json")):
            panels = [panel for panel in json.loads(file.read_text())["panels"] if panel["type"] != "row"]
            empty = [what for panel in panels for what in emptiness(watch, panel, began)]
            tap.check(f"no panel of {file.name} is empty ({len(panels)} panels)", empty)
        cost(tap, cluster.workers["us-1"])
        tap.check("workers stop cleanly on SIGTERM", cluster.stop())


def search(cluster):
    """What Milvus tells of searches only once there was one."""
    for region in cluster.regions.values():
        wait_until(lambda region=region: searched(region.milvus), 60, f"a search in {region.name}")


def searched(milvus):
    body = json.dumps({"collectionName": COLLECTIONS[0].name, "vector": [0.5] * 128, "limit": 3}).encode()
    request = urllib.request.Request(f"{milvus}/v1/vector/search", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)["code"] == 200


def emptiness(watch, panel, began):
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "20s").replace("$region", ".*")
        try:
            if not points(watch, expression, began):
                yield f"{panel['title']}: nothing for {expression}"
        except ValueError as error:
            yield f"{panel['title']}: {error} in {expression}"


def points(watch, expression, began):
    query = {"query": expression, "start": began, "end": time.time(), "step": STEP_SECONDS}
    url = f"{watch.url}/api/v1/query_range?" + urllib.parse.urlencode(query)
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:
            series = json.load(reply)["data"]["result"]
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error)["error"]) from error
    return sum(math.isfinite(float(value)) for each in series for _, value in each["values"])


def cost(tap, worker):
    """Of a scrape: the least of several, since the machine does other things too."""
    times, size = [], 0
    for _ in range(10):
        begin = time.monotonic()
        with urllib.request.urlopen(f"{worker.url}/metrics", timeout=5) as reply:
            size = len(reply.read())
        times.append(time.monotonic() - begin)
    tap.note(f"a scrape takes {min(times) * 1000:.1f} ms and {size / 1024:.0f} KiB")
    tap.check("a scrape costs less than 5 ms and 1 MB", [] if min(times) < 0.005 and size < 1_000_000 else [f"{times}, {size}"])


if __name__ == "__main__":
    # Their panels show something only where standbys are kept.
    standbys = ["[worker]\nstandby_replicas = 1"]
    scenario.run("dashboards", COLLECTIONS, {"us": 2, "eu": 1}, dashboards, standbys)
