#!/usr/bin/env python3
"""Writes Grafana's dashboards, docker/grafana/dashboards/*.json, from the panels below.

Each panel: what it shows, why one would look at it, its unit, its queries. `check_dashboards.py` holds
them against the catalogue of metrics; `tests/stack/dashboards.py` evaluates each on a running Prometheus.
"""

import json

from promql import ROOT

FOLDER = ROOT / "docker/grafana/dashboards"
SOURCE = {"type": "prometheus", "uid": "driftless-prometheus"}
HERE = 'region=~"$region"'
RATE = "[$__rate_interval]"
WIDTH = 24


def query(expr, legend, **more):
    return {"expr": expr, "legendFormat": legend, **more}


def quantiles(metric, by, selector=HERE):
    """p50 and p99 of a histogram, by a label."""
    per = f"sum by ({by}, le) (rate({metric}_bucket{{{selector}}}{RATE}))"
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return [query(f"histogram_quantile({q}, {per})", f"p{q * 100:.0f} {legend}") for q in (0.5, 0.99)]


def lines(title, description, unit, *queries, width=12, stacked=False):
    custom = {"fillOpacity": 25 if stacked else 0, "lineWidth": 1, "showPoints": "never"}
    custom["stacking"] = {"group": "A", "mode": "normal" if stacked else "none"}
    return {
        "type": "timeseries", "title": title, "description": description, "targets": queries, "width": width,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {
            "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }  # fmt: skip


def number(title, description, unit, expr, red_from, width=6):
    steps = [{"color": "green", "value": None}, {"color": "red", "value": red_from}]
    return {
        "type": "stat", "title": title, "description": description, "width": width,
        "targets": [query(expr, "{{region}}")],
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}}, "overrides": []},
        "options": {
            "colorMode": "background", "graphMode": "area", "justifyMode": "auto", "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "textMode": "auto",
        },
    }  # fmt: skip


def heat(title, description, stage, width=12):
    """One for each chosen region."""
    expr = f'sum by (le) (rate(driftless_apply_seconds_bucket{{{HERE}, stage="{stage}"}}{RATE}))'
    return {
        "type": "heatmap", "title": title, "description": description, "width": width, "repeat": "region",
        "repeatDirection": "h", "targets": [query(expr, "{{le}}", format="heatmap")],
        "fieldConfig": {"defaults": {"custom": {"scaleDistribution": {"type": "linear"}}}, "overrides": []},
        "options": {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Turbo", "steps": 64, "scale": "exponential", "exponent": 0.5},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"show": True, "yHistogram": False},
            "yAxis": {"axisPlacement": "left", "unit": "s"},
        },
    }  # fmt: skip


def row(title):
    return {"type": "row", "title": title, "width": WIDTH, "collapsed": False, "panels": []}


DASHBOARDS = {
    "lag": ("Driftless: lag", [
        number("Worst lag", "How far this region is behind the origin that it is furthest behind of, all stages included. 0 when idle.", "s", f'max by (region) (driftless_apply_lag_seconds{{{HERE}, stage="acknowledged"}})', 0.15),
        number("Silent partitions", "Partitions of a peer or of its own whose newest heartbeat is more than two seconds old.", "short", f"sum by (region) (driftless_heartbeat_overdue_partitions{{{HERE}}})", 1),
        number("Gaps", "Holes found in what peers wrote, since the workers started. More than 0: the region is incomplete.", "short", f"sum by (region) (driftless_replication_gaps_total{{{HERE}}})", 1),
        number("Stalled", "How long nothing has settled although something waits.", "s", f"max by (region) (driftless_stalled_seconds{{{HERE}}})", 30),
        row("Lag by stage"),
        lines("Lag: polled", "The way from the origin's log into this region's workers: link and MirrorMaker. The worst partition's.", "s", query(f'max by (region, source) (driftless_apply_lag_seconds{{{HERE}, stage="polled"}})', "{{source}} → {{region}}"), width=6),
        lines("Lag: merged", "Polled, and judged: the worker's own part.", "s", query(f'max by (region, source) (driftless_apply_lag_seconds{{{HERE}, stage="merged"}})', "{{source}} → {{region}}"), width=6),
        lines("Lag: acknowledged", "All of it, until Milvus and the changelogs have acknowledged. What is above the threshold for long wakes somebody.", "s", query(f'max by (region, source) (driftless_apply_lag_seconds{{{HERE}, stage="acknowledged"}})', "{{source}} → {{region}}"), query('driftless:apply_lag_seconds:max{stage="acknowledged"}', "threshold"), width=6),
        lines("Lag: visible", "And until a reader who asks Milvus for no consistency finds it: as far as the worker's canary row tells, whose own time is shown beside.", "s", query(f'max by (region, source) (driftless_apply_lag_seconds{{{HERE}, stage="visible"}})', "{{source}} → {{region}}"), query(f"max by (region) (driftless_visibility_delay_seconds{{{HERE}}})", "canary, {{region}}"), width=6),
        row("Latency"),
        heat("Latency in $region: to Milvus' acknowledgement", "Each row, from the origin's append to Milvus' acknowledgement.", "acknowledged"),
        heat("Latency in $region: the way here", "Each heartbeat, from the origin's append to this region's worker: what the link alone takes, traffic or none.", "polled"),
        lines("Latency of rows", "Half of all rows, and all but one in a hundred, are acknowledged within this time of their append.", "s", *quantiles("driftless_apply_seconds", "region, source", f'{HERE}, stage="acknowledged"')),
        lines("Latency of heartbeats", "The same of heartbeats, which every partition has each second: the link's own.", "s", *quantiles("driftless_apply_seconds", "region, source", f'{HERE}, stage="polled"')),
        row("What lag is measured by"),
        lines("Silent partitions", "Partitions whose newest heartbeat is more than two seconds old. At home: nobody writes them. Elsewhere only: the link.", "short", query(f"max by (region, source) (driftless_heartbeat_overdue_partitions{{{HERE}}})", "{{source}} → {{region}}"), width=8),
        lines("Stalled", "How long nothing of a source has settled although something waits.", "s", query(f"max by (region, source) (driftless_stalled_seconds{{{HERE}}})", "{{source}} → {{region}}"), query("driftless:stalled_seconds:max", "threshold"), width=8),
        lines("Clocks", "The bounds within which a peer's clock is ahead of this region's. Lag is put right by them where they exclude 0.", "s", query(f"max by (region, origin, bound) (driftless_clock_ahead_seconds{{{HERE}}})", "{{origin}} from {{region}}, {{bound}}"), width=8),
    ]),
    "throughput": ("Driftless: throughput", [
        lines("Records polled", "What comes in, by origin; heartbeats included.", "cps", query(f"sum by (region, source) (rate(driftless_records_polled_total{{{HERE}}}{RATE}))", "{{source}} → {{region}}"), stacked=True),
        lines("Rows acknowledged", "What Milvus has taken.", "wps", query(f"sum by (region, collection, op) (rate(driftless_sink_rows_total{{{HERE}}}{RATE}))", "{{region}} {{collection}} {{op}}"), stacked=True),
        lines("Verdicts", "What becomes of records. Duplicates after MirrorMaker's restart and stale changes are usual; conflicts are lost writes of another region.", "cps", query(f"sum by (region, verdict) (rate(driftless_verdicts_total{{{HERE}}}{RATE}))", "{{region}} {{verdict}}"), stacked=True),
        lines("Dead letters", "What could not be applied, by reason; kept for replay.", "cps", query(f"sum by (region, reason) (rate(driftless_dead_letters_total{{{HERE}}}{RATE}))", "{{region}} {{reason}}"), stacked=True),
        lines("Commits", "Progress records acknowledged. None while records come in: nothing settles.", "cps", query(f"sum by (region) (rate(driftless_commits_total{{{HERE}}}{RATE}))", "{{region}}"), width=8),
        lines("Heartbeats written", "One for each partition each second, by whoever holds it.", "cps", query(f"sum by (region) (rate(driftless_heartbeats_total{{{HERE}}}{RATE}))", "{{region}}"), width=8),
        lines("Buffered", "Records polled and not yet processed. At its limit the source is paused.", "bytes", query(f"sum by (region, instance) (driftless_buffered_bytes{{{HERE}}})", "{{instance}}"), width=8),
        lines("Threads busy", "Share of its time that each stream thread is not waiting. A thread at 1 holds its tasks up: more threads, or more workers.", "percentunit", query(f"max by (region, instance, thread) (driftless_thread_busy_ratio{{{HERE}}})", "{{instance}} {{thread}}"), width=8),
        lines("Time of a commit", "From appending a progress record to its acknowledgement.", "s", *quantiles("driftless_commit_seconds", "region"), width=8),
        lines("Assignments", "Times that the group gave a worker partitions: a rebalance moves tasks, which are restored where they go.", "short", query(f"sum by (region, instance) (increase(driftless_assignments_total{{{HERE}}}{RATE}))", "{{instance}}"), width=8),
        lines("Configured differently", "Settings that must be equal in all regions and are not. Regions that judge differently diverge.", "short", query(f"max by (region, source) (driftless_configuration_disagreements{{{HERE}}})", "{{region}} and {{source}}"), width=24),
    ]),
    "sink": ("Driftless: sink", [
        lines("Time of a write", "From sending a batch to Milvus' reply.", "s", *quantiles("driftless_sink_write_seconds", "region, collection")),
        lines("Rows in a batch", "Small when quiet, large under load.", "short", *quantiles("driftless_sink_batch_rows", "region, collection")),
        lines("Batches by outcome", "Halved: a bad row is looked for. Retried: Milvus was busy, or did not answer.", "cps", query(f"sum by (region, collection, outcome) (rate(driftless_sink_batches_total{{{HERE}}}{RATE}))", "{{region}} {{collection}} {{outcome}}")),
        lines("Coalesced", "Winners that a newer one replaced before they were sent: rows saved.", "wps", query(f"sum by (region, collection) (rate(driftless_sink_coalesced_total{{{HERE}}}{RATE}))", "{{region}} {{collection}}")),
        lines("Parked", "Changes of collections that Milvus takes no rows of. They wait in Kafka.", "short", query(f"max by (region, collection) (driftless_parked_changes{{{HERE}}})", "{{region}} {{collection}}")),
        lines("Reasserted", "Rows written again after an unclean end or a lost reply.", "wps", query(f"sum by (region, collection) (rate(driftless_sink_reasserted_rows_total{{{HERE}}}{RATE}))", "{{region}} {{collection}}")),
        row("Milvus, by its own account"),
        lines("Search and query", "Time at the proxy. Its buckets are powers of two.", "ms", *quantiles("milvus_proxy_sq_latency", "region, query_type"), query("milvus:search_p99_milliseconds:max", "threshold of search")),
        lines("Mutations", "Time of an insert, upsert or delete at the proxy.", "ms", *quantiles("milvus_proxy_mutation_latency", "region, msg_type")),
    ]),
    "recovery": ("Driftless: recovery", [
        lines("Tasks", "Restoring ones do not serve their partitions.", "short", query(f"sum by (region, state) (driftless_tasks{{{HERE}}})", "{{region}} {{state}}"), width=8),
        lines("To be restored", "Offsets of the changelogs that restores under way have still to read.", "short", query(f"sum by (region, instance) (driftless_restore_remaining_offsets{{{HERE}}})", "{{instance}}"), width=8),
        lines("Restores", "How long the tasks' restores took since the workers started.", "s", *(query(f"histogram_quantile({q}, sum by (region, le) (driftless_restore_seconds_bucket{{{HERE}}}))", f"p{q * 100:.0f} {{{{region}}}}") for q in (0.5, 0.99)), width=8),
        lines("Tasks closed", "Dirty: what was under way is done again by whoever is next.", "cps", query(f"sum by (region, kind) (rate(driftless_task_closes_total{{{HERE}}}{RATE})) or vector(0)", "{{region}} {{kind}}"), width=8),
        lines("Records read by restores", "Counted when a restore ends.", "cps", query(f"sum by (region) (rate(driftless_restored_entries_total{{{HERE}}}{RATE})) or vector(0)", "{{region}}"), width=8),
        lines("Answers to zombies", "Changelog records of somebody who no longer held the task. Rare, or something is wrong with the group.", "cps", query(f"sum by (region) (rate(driftless_zombie_appends_total{{{HERE}}}{RATE}))", "{{region}}"), width=8),
        lines("Standbys", "Tasks whose changelog this region's workers read on, ready to take over.", "short", query(f"sum by (region, instance) (driftless_standby_tasks{{{HERE}}})", "{{instance}}"), width=12),
        lines("Standbys behind", "Records that the standby furthest behind has not read: what a fail-over waits for.", "short", query(f"max by (region, instance) (driftless_standby_lag_records{{{HERE}}})", "{{instance}}"), width=12),
        row("State"),
        lines("Entries", "Row keys known, tombstones included.", "short", query(f"sum by (region) (driftless_store_entries{{{HERE}}})", "{{region}}"), width=8),
        lines("Stores", "Memory, and disk where the store is there.", "bytes", query(f"sum by (region) (driftless_store_bytes{{{HERE}}})", "{{region}} memory"), query(f"sum by (region) (driftless_store_disk_bytes{{{HERE}}})", "{{region}} disk"), query(f"sum by (region) (driftless_standby_bytes{{{HERE}}})", "{{region}} standbys"), width=8),
        lines("Tombstones forgotten", "Deletes that nothing admissible can contradict any more.", "cps", query(f"sum by (region) (rate(driftless_tombstones_forgotten_total{{{HERE}}}{RATE}))", "{{region}}"), width=8),
        lines("Age of frontiers", "Up to which append time all of an origin is settled. The oldest holds back the forgetting of tombstones.", "s", query(f"max by (region, origin) (driftless_frontier_age_seconds{{{HERE}}})", "{{origin}} in {{region}}"), width=8),
        lines("Sources read again", "Topics that were another log than before.", "short", query(f"sum by (region, source) (driftless_source_replays_total{{{HERE}}})", "{{source}} in {{region}}"), width=8),
        lines("Replicas in sync", "The least of all our partitions. Below two, nothing can be written.", "short", query(f'min by (region) (max by (region, topic, partition) (kafka_cluster_partition_insyncreplicascount{{{HERE}, topic=~"(.+[.])?vector-cdc.*|driftless-.+"}}))', "{{region}}"), query("kafka:in_sync_replicas:min", "threshold"), width=8),
    ]),
}  # fmt: skip

REGION = {
    "name": "region", "label": "Region", "type": "query", "datasource": SOURCE, "hide": 0, "refresh": 2, "sort": 1,
    "multi": True, "includeAll": True, "current": {"text": "All", "value": "$__all"},
    "query": {"query": "label_values(driftless_tasks, region)", "refId": "region"},
}  # fmt: skip


def dashboard(name):
    title, panels = DASHBOARDS[name]
    placed, x, y = [], 0, 0
    for number_of, panel in enumerate(panels, 1):
        panel = dict(panel)
        width, height = panel.pop("width"), {"row": 1, "stat": 5}.get(panel["type"], 9)
        if x + width > WIDTH:
            x, y = 0, y + placed[-1]["gridPos"]["h"]
        panel |= {"id": number_of, "gridPos": {"x": x, "y": y, "w": width, "h": height}}
        if panel["type"] != "row":
            targets = [{**target, "refId": chr(ord("A") + index), "datasource": SOURCE} for index, target in enumerate(panel["targets"])]
            panel |= {"datasource": SOURCE, "targets": targets}
        placed.append(panel)
        x += width
    others = [{"title": DASHBOARDS[other][0], "type": "link", "url": f"/d/driftless-{other}", "icon": "dashboard", "keepTime": True, "includeVars": True} for other in DASHBOARDS if other != name]
    return {
        "uid": f"driftless-{name}", "title": title, "tags": ["driftless"], "schemaVersion": 39, "version": 1,
        "editable": True, "graphTooltip": 1, "refresh": "5s", "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser", "links": others, "templating": {"list": [REGION]}, "panels": placed,
    }  # fmt: skip


def text(name):
    return json.dumps(dashboard(name), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(text(name))
