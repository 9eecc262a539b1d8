#!/usr/bin/env python3
"""Checks the alerts that we ship: docker/prometheus, docker/alertmanager, tests/alerts, docs/runbooks.

Prometheus' and Alertmanager's own tools check syntax and run the unit tests; here it is checked that
nothing is left out: every name in a rule is told by somebody, every alert has a runbook and a test
in which it stays quiet, fires and resolves, and goes to whom it should. Prints "ok - …" and
"not ok - …" lines, as every stack test does.
"""

import re
import subprocess
import sys

import yaml

import promql
from promql import ROOT

PROMETHEUS, ALERTMANAGER = ROOT / "docker/prometheus", ROOT / "docker/alertmanager/alertmanager.yml"
RUNBOOKS = ROOT / "docs/runbooks"
TESTS = sorted((ROOT / "tests/alerts").glob("*.yml"))
SECTIONS = ["## Meaning", "## Likely causes", "## Commands to type", "## What good looks like"]
# Who is woken, and who reads of it in the morning.
PAGE = {"DriftlessApplyLagFast", "DriftlessApplyLagSlow", "DriftlessReplicationGap", "DriftlessRegionUnserved"}
PAGE |= {"KafkaInSyncReplicasLow"}
faults = 0


def check(name, problems):
    global faults
    problems = list(problems)
    faults += len(problems)
    for problem in problems:
        print(f"not ok - alerts: {name}: {problem}")
    if not problems:
        print(f"ok - alerts: {name}")


def run(*command):
    """What a tool says against it; nothing if it is content."""
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True)
    return [] if ended.returncode == 0 else [ended.stdout + ended.stderr]


def receiver_of(alert):
    labels = [f"{key}={value}" for key, value in {**alert["labels"], "alertname": alert["alert"]}.items()]
    command = ["amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def untested(alert, tests):
    """What is missing in the unit tests of an alert: quiet, then firing, then quiet again, in one of them."""
    for test in tests:
        cases = [case for case in test.get("alert_rule_test", ()) if case["alertname"] == alert]
        cases.sort(key=lambda case: seconds(case["eval_time"]))
        story = "".join("!" if case.get("exp_alerts") else "." for case in cases)
        if re.search(r"\.!+\.", story):
            return []
    return [f"{alert} has no test in which it is quiet, fires and resolves"]


def seconds(duration):
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(count) * units[unit] for count, unit in re.findall(r"(\d+)([hms])", str(duration)))


def ill_described(rule):
    name, annotations = rule["alert"], rule.get("annotations", {})
    if rule.get("labels", {}).get("severity") != ("page" if name in PAGE else "chat"):
        yield f"{name}: severity is not as the list in this file has it"
    for key in ("summary", "description"):
        if not annotations.get(key):
            yield f"{name} has no {key}"
    if annotations.get("runbook") != f"docs/runbooks/{name}.md":
        yield f"{name} does not link to docs/runbooks/{name}.md"


def ill_written(name):
    page = RUNBOOKS / f"{name}.md"
    text = page.read_text() if page.exists() else ""
    if re.findall(r"^##? .*$", text, re.M) != [f"# {name}", *SECTIONS]:
        yield f"{page.relative_to(ROOT)} is not there, or has other sections than {SECTIONS}"
    if "```sh\n" not in text:
        yield f"{page.relative_to(ROOT)} has no commands to type"


rules = promql.all_rules()
alerts = [rule for rule in rules if "alert" in rule]
names = {rule["alert"] for rule in alerts}
known = promql.catalogue()

check("promtool check config", run("promtool", "check", "config", PROMETHEUS / "prometheus.yml"))
check("promtool check rules", run("promtool", "check", "rules", *promql.RULES))
check("promtool test rules", run("promtool", "test", "rules", *TESTS))
check("amtool check-config", run("amtool", "check-config", ALERTMANAGER))

wrong_names = {rule.get("alert") or rule["record"]: promql.unknown_names(rule["expr"], known) for rule in rules if not rule["expr"].startswith("vector(")}
check("every name in a rule is told by somebody", (f"{rule}: {what}" for rule, found in wrong_names.items() for what in found))
used = set().union(*(promql.metrics_named(rule["expr"])[0] for rule in rules))
check("every threshold is used", (rule["record"] for rule in rules if "record" in rule and rule["record"] not in used))

tests = [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]
check("every alert has a test in which it is quiet, fires and resolves", (what for name in sorted(names) for what in untested(name, tests)))
check("every alert is described", (what for rule in alerts for what in ill_described(rule)))
check("every alert has a runbook", (what for name in sorted(names) for what in ill_written(name)))
check("every runbook has an alert", sorted({page.stem for page in RUNBOOKS.glob("*.md")} - names - {"README"}))
listed = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|$", (RUNBOOKS / "README.md").read_text(), re.M)
check("the runbooks' list is right", sorted(set(listed) ^ {(rule["alert"], rule["labels"]["severity"]) for rule in alerts}))
check("alerts go to whom they should", (f"{rule['alert']} goes to {receiver_of(rule)}" for rule in alerts if receiver_of(rule) != rule["labels"]["severity"]))
secrets = re.findall(r"^\s*-?\s*(?:routing_key|service_key|api_url|\w*password|\w*token):.*$", ALERTMANAGER.read_text(), re.M)
check("secrets are read from files", secrets)
sys.exit(1 if faults else 0)
