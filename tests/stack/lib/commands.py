"""Driftless' commands, run as an operator does."""

import json
import subprocess

from . import scenario

COMMAND_SECONDS = 600


def give_peers(cluster):
    """Into each region's configuration, how commands reach the other regions' Kafka."""
    for name in cluster.regions:
        config = cluster.folder / f"{name}-1.toml"
        peers = "".join(
            f'\n[regions.{peer}.kafka]\nbootstrap_servers = "{cluster.regions[peer].kafka}"\n'
            for peer in cluster.peers_of(name)
        )
        config.write_text(config.read_text() + peers)


def command(cluster, region, name, *arguments):
    """Exit code and JSON answer."""
    config = cluster.folder / f"{region}-1.toml"
    line = [cluster.binary, name, "--config", str(config), "--json", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    answer = json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr[-scenario.LINE_SHOWN :]}
    return done.returncode, answer
