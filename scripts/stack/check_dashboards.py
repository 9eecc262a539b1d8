#!/usr/bin/env python3
"""Checks docker/grafana: that Grafana would take the dashboards as they are written, and that they are complete.

The first by Grafana's own models, generated from its schema: a key that it does not know is dropped by a
round trip through them. Whether panels show something is tests/stack/dashboards.py's business.
"""

import json
import sys
from itertools import combinations

import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

import dashboards
import promql
from promql import ROOT

GRAFANA = ROOT / "docker/grafana"
UNITS = {"s", "ms", "bytes", "short", "cps", "wps", "percentunit"}
faults = 0


def check(name, problems):
    global faults
    problems = list(problems)
    faults += len(problems)
    for problem in problems:
        print(f"not ok - dashboards: {name}: {problem}")
    if not problems:
        print(f"ok - dashboards: {name}")


def lost(before, after, path):
    """What has become of a value on its way through Grafana's models, where it has changed."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                yield f"{path}.{key} is not known to Grafana"
            else:
                yield from lost(value, after[key], f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{path}[{index}]")
    elif before != after:
        yield f"{path} is {before!r}, and {after!r} to Grafana"


def through_grafana(file, board):
    return lost(board, json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(board))), file)


def panels_of(board):
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def overlap(one, other):
    one, other = one["gridPos"], other["gridPos"]
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in (("x", "w"), ("y", "h")))


def incomplete(file, panel):
    where = f"{file}: {panel.get('title')!r}"
    if not panel.get("title") or len(panel.get("description", "")) < 20:
        yield f"{where} lacks a title or a description"
    unit = panel["options"]["yAxis"]["unit"] if panel["type"] == "heatmap" else panel["fieldConfig"]["defaults"].get("unit")
    if unit not in UNITS:
        yield f"{where} has the unit {unit}"
    if not panel["targets"] or any(not target["legendFormat"] for target in panel["targets"]):
        yield f"{where} has no query, or one without a legend"


def plain(expression):
    """As Prometheus takes it: with Grafana's own variables filled in."""
    return expression.replace("$__rate_interval", "1m").replace("$region", ".*")


plugins.register_default_plugins()
boards = {file.name: json.loads(file.read_text()) for file in sorted((GRAFANA / "dashboards").glob("*.json"))}
known = promql.catalogue()
every_panel = [(file, panel) for file, board in boards.items() for panel in panels_of(board)]

check("they are what scripts/stack/dashboards.py writes", sorted({f"{name}.json" for name in dashboards.DASHBOARDS} ^ set(boards)) or [
    f"{name}.json is not: run it" for name in dashboards.DASHBOARDS if (GRAFANA / f"dashboards/{name}.json").read_text() != dashboards.text(name)
])  # fmt: skip
check("Grafana knows every key", (what for file, board in boards.items() for what in through_grafana(file, board)))
uids = [board["uid"] for board in boards.values()]
check("their ids are unique", {uid for uid in uids if uids.count(uid) > 1})
check("their panels' ids are unique", (
    file for file, board in boards.items() if len({panel["id"] for panel in board["panels"]}) != len(board["panels"])
))  # fmt: skip
check("no panel lies on another", (
    f"{file}: {one['title']!r} and {other['title']!r}"
    for file, board in boards.items() for one, other in combinations(board["panels"], 2) if overlap(one, other)
))  # fmt: skip
check("panels have title, description, unit and legends", (what for file, panel in every_panel for what in incomplete(file, panel)))
check("every metric and label in a query is told by somebody", (
    f"{file}: {panel['title']!r}: {what}"
    for file, panel in every_panel for target in panel["targets"] for what in promql.unknown_names(plain(target["expr"]), known)
))  # fmt: skip
shown = set().union(*(promql.metrics_named(plain(target["expr"]))[0] for _, panel in every_panel for target in panel["targets"]))
ours = {name.removesuffix("_bucket") for name in known if name.startswith("driftless_") and not name.endswith(("_sum", "_count"))}
if unseen := ours - {name.removesuffix("_bucket") for name in shown}:
    print(f"# on no panel: {', '.join(sorted(unseen))}")
source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
check("their data source is the provisioned one", [] if source["uid"] == dashboards.SOURCE["uid"] else [source["uid"]])
sys.exit(1 if faults else 0)
