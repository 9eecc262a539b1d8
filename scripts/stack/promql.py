"""What PromQL expressions name, and what there is to be named: for the checks of alerts and dashboards.

There is: our own catalogue (docs/metrics.md, which a test writes from src/base/metric.rs), Milvus' and
the JMX exporter's names as seen on the real servers (tests/fixtures/metrics), what rules record, and
`up`, which is Prometheus' own.
"""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "docker/prometheus/rules").glob("*.yml"))
# Labels of every series: its target's.
TARGET_LABELS = {"job", "region", "instance"}
KEYWORDS = {"and", "or", "unless", "by", "on", "without", "ignoring", "group_left", "group_right", "offset", "bool"}


def rule_groups():
    return [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]


def all_rules():
    return [rule for group in rule_groups() for rule in group["rules"]]


def catalogue():
    """Every metric's labels by its name; of a histogram those of its parts too."""
    known = {"up": set()}
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| [^|]* \| ([^|]*) \|", (ROOT / "docs/metrics.md").read_text(), re.M)
    for file in (ROOT / "tests/fixtures/metrics").glob("*.txt"):
        rows += re.findall(r"^(\w+) (\w+) ?(.*)$", file.read_text(), re.M)
    for name, kind, labels in rows:
        labels = set(filter(None, re.split(r"[ ,]+", labels)))
        parts = {"_bucket": {"le"}, "_sum": set(), "_count": set()} if kind == "histogram" else {"": set()}
        known |= {name + suffix: labels | more for suffix, more in parts.items()}
    for rule in all_rules():
        if "record" in rule:
            known[rule["record"]] = set(rule.get("labels", ())) | {"source", "region"}
    return known


def metrics_named(expression):
    """The metrics that an expression names, and the labels it selects or groups by."""
    bare = re.sub(r'"[^"]*"|#[^\n]*', "", expression)
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", " ".join(re.findall(r"\{([^}]*)\}", bare))))
    for words in re.findall(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)", bare):
        labels |= set(re.findall(r"\w+", words))
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    words = re.findall(r"(?<![\w:.$])[a-zA-Z_:][\w:]*\b(?!\s*\()", bare)
    return {word for word in words if word not in KEYWORDS}, labels


def unknown_names(expression, known):
    """What an expression names and nothing tells, in words."""
    metrics, labels = metrics_named(expression)
    if not metrics:
        return ["names no metric"]
    wrong = [f"no metric {name}" for name in sorted(metrics - set(known))]
    have = set().union(TARGET_LABELS, *(known.get(name, set()) for name in metrics))
    return wrong + [f"no label {label}" for label in sorted(labels - have)]
