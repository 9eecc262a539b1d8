#!/usr/bin/env python3
"""Checks docker/compose.yml as far as that goes without a Docker engine.

Every file it names exists, every service that one waits for or talks to is there, and the files
under docker/ that it mounts are the ones that the stack reads too, so that the two cannot drift
apart. Prints "ok - …" and "not ok - …" lines, as every stack test does.
"""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
REGIONS = ("us", "eu")
faults = 0


def check(name, problems):
    global faults
    problems = list(problems)
    faults += len(problems)
    for problem in problems:
        print(f"not ok - compose: {name}: {problem}")
    if not problems:
        print(f"ok - compose: {name}")


def mounted_files(service):
    """The files of ours that a service gets, as paths; named volumes left out."""
    sources = [volume.split(":")[0] for volume in service.get("volumes", ())]
    sources += [service["env_file"]] if "env_file" in service else []
    return [(DOCKER / source).resolve() for source in sources if source.startswith(".")]


def addresses(service):
    """The host:port pairs in a service's environment and, for our own, in their configuration."""
    text = " ".join(str(value) for value in service.get("environment", {}).values())
    for file in mounted_files(service):
        if file.suffix == ".toml" and file.exists():
            text += file.read_text()
    return re.findall(r"\b((?:kafka|registry|milvus)-\w+):(\d+)", text)


compose = yaml.safe_load((DOCKER / "compose.yml").read_text())
services = compose["services"]

PARTS = ("kafka", "mirrormaker", "registry", "milvus", "topics", "worker")
WATCHERS = {"prometheus", "alertmanager", "grafana"}
expected = {f"{part}-{region}" for part in PARTS for region in REGIONS} | WATCHERS
check("each region is complete", sorted(expected ^ set(services)))

files = {name: mounted_files(service) for name, service in services.items()}
check("mounted files exist", (f"{n}: {f}" for n in files for f in files[n] if not f.exists()))
builds = [service["build"] for service in services.values() if "build" in service]
dockerfiles = {(DOCKER / build["context"] / build.get("dockerfile", "Dockerfile")).resolve() for build in builds}
check("Dockerfiles exist", (str(f) for f in dockerfiles if not f.is_file()))



def never_fulfilled(other, condition):
    """Whether waiting for a service that way would be for ever."""
    if condition == "service_healthy":
        return "healthcheck" not in services.get(other, {})
    return other not in services


check(
    "services that are waited for exist, with a health check where one is asked for",
    (
        f"{name} waits for {other} as {how['condition']}"
        for name, service in services.items()
        for other, how in service.get("depends_on", {}).items()
        if never_fulfilled(other, how["condition"])
    ),
)
# The ports on which the images listen for other containers.
inside = {"kafka": "9092", "registry": "8080", "milvus": "19530"}
check(
    "addresses lead to services",
    (
        f"{name}: {host}:{port}"
        for name, service in services.items()
        for host, port in addresses(service)
        if host not in services or inside[host.split("-")[0]] != port
    ),
)

scrapes = re.findall(r'"([\w-]+):(\d+)"', "".join(f.read_text() for f in (DOCKER / "prometheus/targets").glob("*.yml")))
told = {"worker": "9464", "kafka": "9404", "milvus": "9091", "alertmanager": "9093"}
check("what is scraped is there", (
    f"{host}:{port}" for host, port in scrapes if host not in services or told[host.split("-")[0]] != port
))  # fmt: skip

# Those of Grafana, which there is no package of, are checked by check_dashboards.py.
stack = "".join((ROOT / file).read_text() for file in ("scripts/stack/servers.py", "tests/stack/lib/watch.py"))
others = [name for name in services if name != "grafana" and services[name]["image"] != "driftless"]
shared = {str(f.relative_to(DOCKER)) for name in others for f in files[name]}
check("its servers' files are those of the stack", (f for f in shared if f'"{f}"' not in stack))
read_by_stack = set(re.findall(r'DOCKER / "([^"]+)"', stack))
check("it uses every file of the stack", read_by_stack - shared)

published = [port.split(":")[0] for service in services.values() for port in service.get("ports", ())]
check("published ports differ", {port for port in published if published.count(port) > 1})
versions = (ROOT / "scripts/stack/versions.sh").read_text()
images = " ".join([*(service["image"] for service in services.values()), *(f.read_text() for f in dockerfiles)])
stack_versions = re.findall(r"_version=([\w.]+)", versions)
check("versions are the stack's", (v for v in stack_versions if not re.search(rf":v?{re.escape(v)}\b", images)))
sys.exit(1 if faults else 0)
