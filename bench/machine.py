"""On what the figures were measured."""

import os
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def machine():
    """One line."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text()).group(1)) / 2**20
    cpu = cpu.group(1) if cpu else platform.machine()
    return f"{os.cpu_count()} × {cpu}, {memory:.0f} GiB, Linux {platform.release()}"


def versions(*programs):
    """One line. `programs`: lines of others beside our own."""
    commit = output("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*")
    librdkafka = re.search(r'name = "rdkafka-sys"\nversion = "[^+"]*\+?([^"]*)"', (ROOT / "Cargo.lock").read_text())
    ours = f"Driftless {commit or 'of no commit'}"
    rust = output("rustc", "--version")
    return ", ".join(filter(None, [ours, f"librdkafka {librdkafka.group(1)}", rust, *programs]))


def java():
    home = os.environ.get("JAVA_HOME")
    said = subprocess.run([f"{home}/bin/java" if home else "java", "-version"], capture_output=True, text=True).stderr
    return f"Java {re.search(r'version .(.+?).$', said.splitlines()[0]).group(1)}" if said else None


def load():
    return os.getloadavg()[0]


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def cores():
    return os.cpu_count()


def busy_seconds():
    """Of all processors together, since the start."""
    user, nice, system, idle, iowait, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
