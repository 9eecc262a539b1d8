"""`bench/RESULTS.md`: each NAME of scripts/bench.sh owns one section, which a run replaces."""

import re
import statistics
from pathlib import Path

FILE = Path(__file__).with_name("RESULTS.md")
TITLE = """\
# Results

Written by `scripts/bench.sh NAME`, a section each; peers take turns within one run, since a machine's speed varies by
the hour. Ratios of one run mean more than figures of two.
"""


def spread(values, digits=1):
    """min / median / max."""
    return " / ".join(f"{f(values):,.{digits}f}" for f in (min, statistics.median, max))


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def replace_section(name, body):
    text = FILE.read_text() if FILE.exists() else TITLE
    section = f"## {name}\n\n{body.strip()}\n"
    owned = re.compile(rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if owned.search(text):
        text = owned.sub(lambda _: section + "\n", text)
    else:
        text = f"{text.rstrip()}\n\n{section}"
    FILE.write_text(text.rstrip() + "\n")
