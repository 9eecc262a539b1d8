"""Prometheus and Alertmanager beside a stack, with the configuration that we ship, and somebody who is told.

Only addresses are added to that configuration: what is scraped, and where PagerDuty and Slack are, both
of which are a receiver of ours on loopback. All are children of the test and end with it.
"""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DOCKER = Path(__file__).resolve().parents[3] / "docker"
READY_SECONDS = 30


class Receiver:
    """Takes what is meant for PagerDuty and Slack, and notes when it came."""

    def __init__(self):
        self.told = []  # (monotonic time, "pagerduty" or "slack", what it says)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.told.append((time.monotonic(), self.path.strip("/"), said))
                self.send_response(202 if self.path == "/pagerduty" else 200)
                self.end_headers()
                self.wfile.write(b'{"status": "success"}')

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def pages(self, alert, action):
        """When PagerDuty was told of an alert: action "trigger" or "resolve"."""
        return [at for at, to, said in self.told if to == "pagerduty" and said["event_action"] == action and alert in json.dumps(said)]

    def messages(self, alert, status):
        """When Slack was: status "FIRING" or "RESOLVED"."""
        said = [(at, json.dumps(said)) for at, to, said in self.told if to == "slack"]
        return [at for at, text in said if f"[{status}" in text and alert in text]


class Watch:
    """`workers`: {region: addresses}, such as {"us": ["127.0.0.1:9464"]}."""

    def __init__(self, folder, workers, servers=()):
        self.folder, self.workers, self.servers = Path(folder), workers, servers
        self.receiver = Receiver()
        self.processes = []

    def __enter__(self):
        alertmanager, prometheus = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.url = f"http://{prometheus}"
        try:
            self.start_alertmanager(alertmanager)
            self.start_prometheus(prometheus, alertmanager)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()
        self.receiver.server.shutdown()

    def start_alertmanager(self, address):
        home = self.folder / "alertmanager"
        shutil.copytree(DOCKER / "alertmanager", home)
        (home / "secrets/pagerduty-key").write_text("of-nobody")
        (home / "secrets/slack-url").write_text(f"{self.receiver.url}/slack")
        config = home / "alertmanager.yml"
        # The one thing that cannot be given by a file of secrets.
        config.write_text(f"global: {{ pagerduty_url: '{self.receiver.url}/pagerduty' }}\n" + config.read_text())
        program = shutil.which("prometheus-alertmanager") or "alertmanager"
        self.run(program, home, address, f"--config.file={config}", f"--storage.path={home}/data", "--cluster.listen-address=")

    def start_prometheus(self, address, alertmanager):
        home = self.folder / "prometheus"
        shutil.copytree(DOCKER / "prometheus", home)
        self.scrape("workers", [({"region": region}, addresses) for region, addresses in self.workers.items()])
        self.scrape("servers", self.servers)
        self.scrape("alertmanagers", [({}, [alertmanager])])
        self.run("prometheus", home, address, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data")

    def scrape(self, what, targets):
        """Prometheus sees the change of the file by itself."""
        groups = [{"labels": labels, "targets": addresses} for labels, addresses in targets]
        draft = self.folder / f"prometheus/targets/{what}.new"
        draft.write_text(json.dumps(groups))  # JSON is YAML.
        draft.replace(draft.with_suffix(".yml"))

    def run(self, program, home, address, *arguments):
        with (self.folder / f"{home.name}.log").open("wb") as log:
            command = [program, *arguments, f"--web.listen-address={address}"]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=home)
        self.processes.append(process)
        wait_until(lambda: answers(f"http://{address}/-/ready"), READY_SECONDS, f"{program} to be ready")

    def query(self, expression):
        """The series that an expression gives now: [(labels, value)]. ValueError if Prometheus refuses it."""
        url = f"{self.url}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                result = json.load(reply)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from error
        return [(series["metric"], float(series["value"][1])) for series in result]

    def firing(self):
        return {labels["alertname"] for labels, _ in self.query('ALERTS{alertstate="firing"}')}


def stack_servers():
    """What the stack's Kafka and Milvus tell, as `stack.sh env` has it."""
    targets = []
    for region in ("us", "eu"):
        kafka = os.environ.get(f"DRIFTLESS_{region.upper()}_KAFKA_METRICS")
        milvus = os.environ.get(f"DRIFTLESS_{region.upper()}_MILVUS_METRICS")
        if kafka:
            targets.append(({"job": "kafka", "region": region}, kafka.split(",")))
        if milvus:
            targets.append(({"job": "milvus", "region": region}, [urllib.parse.urlparse(milvus).netloc]))
    return targets


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def wait_until(condition, seconds, what):
    """How long it took; TimeoutError if it took longer."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.2)
    return time.monotonic() - begin
