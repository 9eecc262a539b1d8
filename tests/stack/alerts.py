#!/usr/bin/env python3
"""What is shipped in docker/prometheus and docker/alertmanager against real trouble: each kind that can be made here
must reach PagerDuty or Slack in time, and be over when it is.

Faults: f34 (records deleted before they are mirrored), f69 (a link that is down, a region that is silent)."""

import json
import subprocess
import time

from confluent_kafka import OFFSET_END, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from lib import scenario
from lib.cluster import PARTITIONS
from lib.rawlog import CDC_TOPIC
from lib.watch import Watch, stack_servers, wait_until
from lib.wire import CollectionSpec

COLLECTIONS = [CollectionSpec("products", "uuid", 128, "l2")]
# From the cut of the link to the page, and from anything's end to the word that it is over: Alertmanager
# tells of changes to a group each half minute.
PAGE_SECONDS_MAX = 30
OVER_SECONDS_MAX = 120
# Alerts that wait a minute, and a minute more until everything has noticed.
SLOW_SECONDS_MAX = 150


def alerts(tap, cluster):
    addresses = {region: [cluster.workers[f"{region}-1"].url.removeprefix("http://")] for region in cluster.regions}
    cluster.start()
    with Watch(cluster.folder, addresses, stack_servers()) as watch:
        wait_until(lambda: len(watch.query('up{job="driftless"} == 1')) == 2, 30, "both workers to be scraped")
        time.sleep(20)
        tap.check("nothing fires while all is well", sorted(watch.firing() - {"MilvusSearchSlow"}))
        cut_link(tap, cluster, watch)
        bad_record(tap, cluster, watch)
        stopped_worker(tap, cluster, watch)
        gap(tap, cluster, watch)
    tap.check("workers stop cleanly on SIGTERM", cluster.stop())


def arrives(tap, what, told, seconds_max):
    """Waits for it; answers whether it came, and notes after how long."""
    try:
        took = wait_until(told, seconds_max, what)
        tap.note(f"{what} after {took:.1f} s")
        tap.check(f"{what} within {seconds_max} s", [])
    except TimeoutError as error:
        tap.check(f"{what} within {seconds_max} s", [str(error)])


def cut_link(tap, cluster, watch):
    receiver = watch.receiver
    cluster.link("cut")
    arrives(tap, "the page for lag", lambda: receiver.pages("DriftlessApplyLagFast", "trigger"), PAGE_SECONDS_MAX)
    arrives(tap, "word of the link", lambda: receiver.messages("DriftlessLinkDown", "FIRING"), 60)
    tap.check("a cut link is not taken for a silent region (f69)", sorted(watch.firing() & {"DriftlessOriginSilent"}))
    lags_as(tap, cluster, "while the link is cut", lambda us, eu: us > 15_000 and eu < 1_000)
    cluster.link("heal")
    over = "DriftlessApplyLagFast"
    arrives(tap, "the end of the page for lag", lambda: receiver.pages(over, "resolve"), OVER_SECONDS_MAX)
    arrives(tap, "word that the link is back", lambda: receiver.messages("DriftlessLinkDown", "RESOLVED"), OVER_SECONDS_MAX)
    lags_as(tap, cluster, "when it is healed", lambda us, eu: us < 1_000 and eu < 1_000)


def lags_as(tap, cluster, when, right):
    """Asks `driftless lag` in eu, of Kafka alone and of the worker, which must agree on what is far behind."""
    worker = cluster.workers["eu-1"]
    for how in (["--config", str(cluster.folder / "eu-1.toml")], ["--worker", worker.url]):
        asked = subprocess.run([cluster.binary, "lag", *how, "--json"], capture_output=True, text=True, timeout=60)
        tap.check(f"`driftless lag {how[0]}` ends with 0 {when}", [asked.stderr] if asked.returncode else [])
        sources = json.loads(asked.stdout or '{"sources": []}')["sources"]
        lags = {each["source"]: each["lag_ms"].get("acknowledged", -1) for each in sources}
        wrong = [] if len(lags) == 2 and right(lags["us"], lags["eu"]) else [f"{lags}"]
        tap.check(f"`driftless lag {how[0]}` is right {when}", wrong)


def bad_record(tap, cluster, watch):
    producer = Producer({"bootstrap.servers": cluster.regions["us"].kafka})
    producer.produce(CDC_TOPIC, b"{not a change", b"key")
    producer.flush()
    arrives(tap, "word of a dead letter", lambda: watch.receiver.messages("DriftlessDeadLetters", "FIRING"), 60)


def stopped_worker(tap, cluster, watch):
    """The only one of us; it comes back with other admission bounds than eu has, and then with the right ones."""
    worker, receiver = cluster.workers["us-1"], watch.receiver
    worker.ask_to_stop()
    worker.wait_stopped()
    arrives(tap, "the page for a region without workers", lambda: receiver.pages("DriftlessRegionUnserved", "trigger"), 60)
    arrives(tap, "word of a silent region (f69)", lambda: receiver.messages("DriftlessOriginSilent", "FIRING"), 60)
    config = cluster.folder / "us-1.toml"
    right = config.read_text()
    config.write_text(right + '\n[admission]\nmax_lateness = "2h"\n')
    worker.start()
    worker.wait_ready()
    served = "DriftlessRegionUnserved"
    arrives(tap, "the end of that page", lambda: receiver.pages(served, "resolve"), OVER_SECONDS_MAX)
    arrives(tap, "word that regions disagree", lambda: receiver.messages("DriftlessRegionsDisagree", "FIRING"), SLOW_SECONDS_MAX)
    worker.ask_to_stop()
    worker.wait_stopped()
    config.write_text(right)
    worker.start()
    worker.wait_ready()
    agree = "DriftlessRegionsDisagree"
    arrives(tap, "word that they agree again", lambda: receiver.messages(agree, "RESOLVED"), SLOW_SECONDS_MAX)


def gap(tap, cluster, watch):
    """What us wrote while MirrorMaker was down is deleted before MirrorMaker is back."""
    cluster.stack("stop", "mm2")
    time.sleep(5)
    admin = AdminClient({"bootstrap.servers": cluster.regions["us"].kafka})
    everything = [TopicPartition(CDC_TOPIC, partition, OFFSET_END) for partition in range(PARTITIONS)]
    for deletion in admin.delete_records(everything).values():
        deletion.result()
    cluster.stack("start", "mm2")
    told = watch.receiver.pages
    arrives(tap, "the page for a gap (f34)", lambda: told("DriftlessReplicationGap", "trigger"), 90)


if __name__ == "__main__":
    scenario.run("alerts", COLLECTIONS, {"us": 1, "eu": 1}, alerts)
