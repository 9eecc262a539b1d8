"""What the stack consists of: for each server its ports, configuration, command and ready check.

Configuration comes from docker/, the same files that docker/compose.yml mounts; only addresses
and folders are added here. How processes are started, watched and stopped is stack.py's business.
"""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
KAFKA_DIR, JMX_DIR, REGISTRY_DIR, MILVUS_DIR = (
    Path(os.environ[f"DRIFTLESS_{name}_DIR"]) for name in ("KAFKA", "JMX", "REGISTRY", "MILVUS")
)
HOST = "127.0.0.1"
REGIONS = ("us", "eu")
# Joins the others where it is asked for. What docker/mirrormaker/mm2.properties says of them is said of it below.
THIRD_REGION = "ap"
LINK_DELAY_MS = 30
# As DESIGN section 3 has it for production; one region of three brokers loses nothing with one of them.
REPLICATED = """\
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
broker.session.timeout.ms=6000
"""

# Small heaps, and no optimising compiler: it would be busy for as long as most tests last.
JVM = ["-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
if os.environ.get("DRIFTLESS_STACK_JVM") == "optimising":
    JVM.remove("-XX:TieredStopAtLevel=1")


def java(stack, heap, *arguments):
    home = os.environ.get("JAVA_HOME")
    command = f"{home}/bin/java" if home else "java"
    return [command, *JVM, f"-Xmx{heap}", f"-Djava.io.tmpdir={stack.tmp}", *arguments]


def kafka_java(stack, heap, *arguments):
    log4j = f"-Dlog4j2.configurationFile={ROOT}/scripts/stack/log4j2.properties"
    return java(stack, heap, log4j, "-cp", f"{KAFKA_DIR}/*", *arguments)


def read_env_file(path):
    """The variables of a file that docker compose reads as env_file."""
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def http_ok(url, body=None):
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"} if body else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10 if body else 2) as reply:
            return reply.status == 200
    except OSError:
        return False


def listening(port):
    try:
        socket.create_connection((HOST, port), timeout=1).close()
        return True
    except OSError:
        return False


class Server:
    """One server. `stack` gives it its ports and its data folder; it keeps nothing of its own."""

    needs = ()  # Names of the servers that must be ready before this one starts.
    ports = ()  # Names of its ports; the first is the one that clients use.
    stop_seconds_max = 15

    def __init__(self, name, region=None):
        self.name = name
        self.region = region

    def prepare(self, stack):
        """Writes configuration and returns (command, environment)."""
        raise NotImplementedError

    def ready(self, stack):
        """Asks the server whether it can serve."""
        raise NotImplementedError

    def once_ready(self, stack):
        """What has to be done each time the server has come up."""

    def variables(self, stack):
        """What `stack.sh env` tells about it."""
        return {}

    def address(self, stack, port=None):
        return f"{HOST}:{stack.port(self.name, port or self.ports[0])}"

    def data(self, stack):
        return stack.data / self.name


class Kafka(Server):
    """One broker, which is a voter of its region's quorum too."""

    ports = ("local", "remote", "controller", "metrics")

    def __init__(self, name, region, nodes):
        """`nodes`: the names of all brokers of the region, this one among them."""
        super().__init__(name, region)
        self.nodes = nodes

    def prepare(self, stack):
        local, remote, controller, metrics = (self.address(stack, port) for port in self.ports)
        # Whoever connects to the remote listener is told to come back through the link.
        through_link = f"{HOST}:{stack.port('link', self.name)}"
        voters = ",".join(
            f"{number}@{HOST}:{stack.port(node, 'controller')}" for number, node in enumerate(self.nodes, 1)
        )
        shared = (DOCKER / "kafka/broker.properties").read_text()
        config = self.data(stack) / "server.properties"
        # Of a key that is there twice, Kafka takes the last.
        config.write_text(
            shared
            + "\n# Added by scripts/stack.sh\n"
            + f"node.id={self.nodes.index(self.name) + 1}\n"
            + f"listeners=LOCAL://{local},REMOTE://{remote},CONTROLLER://{controller}\n"
            + f"advertised.listeners=LOCAL://{local},REMOTE://{through_link}\n"
            + f"controller.quorum.voters={voters}\n"
            + f"log.dirs={self.data(stack)}/log\n"
            + (REPLICATED if len(self.nodes) >= 3 else "")
        )
        if not (self.data(stack) / "log/meta.properties").exists():
            # Sixteen bytes in base64, as Kafka wants it.
            cluster_id = base64.urlsafe_b64encode(f"driftless-{self.region}-000".encode())[:22]
            storage_tool = kafka_java(stack, "128m", "kafka.tools.StorageTool")
            subprocess.run(
                [*storage_tool, "format", "-t", cluster_id.decode(), "-c", config],
                check=True, stdout=stack.log(self.name), stderr=subprocess.STDOUT,
            )
        direct = "-XX:MaxDirectMemorySize=128m"
        names = DOCKER / "kafka/jmx.yml"
        exporter = f"-javaagent:{JMX_DIR}/jmx_prometheus_javaagent.jar={metrics}:{names}"
        return kafka_java(stack, "512m", direct, exporter, "kafka.Kafka", str(config)), {}

    def ready(self, stack):
        # The client would log each refused connection, so it comes in only once the port is open.
        if not listening(stack.port(self.name, "local")):
            return False
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.address(stack), "log_level": 0})
        try:
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def variables(self, stack):
        name = f"DRIFTLESS_{self.region.upper()}_KAFKA"
        metrics = ",".join(f"{HOST}:{stack.port(node, 'metrics')}" for node in self.nodes)
        return {name: bootstrap(stack, self.nodes), f"{name}_METRICS": metrics}


def bootstrap(stack, nodes):
    return ",".join(f"{HOST}:{stack.port(node, 'local')}" for node in nodes)


class Link(Server):
    """The link of each region carries what the *other* region reads from it."""

    def __init__(self, name, brokers):
        """`brokers`: {region: names of its brokers}. Each broker has a port of its own here."""
        super().__init__(name)
        self.brokers = brokers
        self.ports = ("control", *(node for nodes in brokers.values() for node in nodes))

    def prepare(self, stack):
        links = [
            f"{region}=" + ",".join(f"{stack.port('link', node)}:{stack.port(node, 'remote')}" for node in nodes)
            for region, nodes in self.brokers.items()
        ]
        control = str(stack.port("link", "control"))
        script = str(ROOT / "scripts/stack/link.py")
        delay = str(LINK_DELAY_MS)
        return [stack.python, script, "--control", control, "--delay", delay, *links], {}

    def ready(self, stack):
        try:
            return "error" not in self.command(stack, "status")
        except OSError:
            return False

    def command(self, stack, line):
        with socket.create_connection((HOST, stack.port("link", "control")), timeout=5) as control:
            control.sendall(line.encode() + b"\n")
            return json.loads(control.makefile().readline())

    def variables(self, stack):
        return {"DRIFTLESS_LINK_CTL": self.address(stack)}


class MirrorMaker(Server):
    stop_seconds_max = 30

    def __init__(self, name, brokers):
        super().__init__(name)
        self.brokers = brokers
        self.needs = (*(node for nodes in brokers.values() for node in nodes), "link")

    def prepare(self, stack):
        addresses = {}
        for region, nodes in self.brokers.items():
            name = f"DRIFTLESS_{region.upper()}_KAFKA"
            addresses[name] = bootstrap(stack, nodes)
            addresses[f"{name}_REMOTE"] = ",".join(f"{HOST}:{stack.port('link', node)}" for node in nodes)
        main = "org.apache.kafka.connect.mirror.MirrorMaker"
        config = self.data(stack) / "mm2.properties"
        shared = (DOCKER / "mirrormaker/mm2.properties").read_text()
        added = self.third_region() + self.replication() + os.environ.get("DRIFTLESS_STACK_MIRRORMAKER", "")
        config.write_text(f"{shared}\n# Added by scripts/stack.sh\n{added}\n")
        return kafka_java(stack, "384m", main, str(config)), addresses

    def third_region(self):
        """Of a key that is there twice, the last counts."""
        if THIRD_REGION not in self.brokers:
            return ""
        lines = [
            f"clusters={','.join(self.brokers)}",
            f"{THIRD_REGION}.bootstrap.servers={kafka_variable(THIRD_REGION)}",
            f"{THIRD_REGION}.offset.flush.interval.ms=1000",
            f"{THIRD_REGION}.scheduled.rebalance.max.delay.ms=0",
            f"{THIRD_REGION}.producer.linger.ms=1",
        ]
        for here, there in self.flows():
            if THIRD_REGION in (here, there):
                lines.append(f"{there}->{here}.enabled=true")
                lines += [
                    f"{there}->{here}.source.{client}.bootstrap.servers={kafka_variable(there, '_REMOTE')}"
                    for client in ("consumer", "admin")
                ]
        return "\n".join(lines) + "\n"

    def flows(self):
        """Each region with each that it reads from."""
        return [(here, there) for here in self.brokers for there in self.brokers if here != there]

    def replication(self):
        """What it writes into a region of three brokers has three replicas there."""
        large = [region for region, nodes in self.brokers.items() if len(nodes) >= 3]
        if not large:
            return ""
        flows = [f"{other}->{region}" for region in large for other in self.brokers if other != region]
        lines = [f"{flow}{key}.replication.factor=3" for flow in flows for key in ("", ".heartbeats.topic")]
        # For these the key without a prefix rules; -1 is the brokers' own default, which differs.
        lines += [f"{topic}.storage.replication.factor=-1" for topic in ("offset", "status", "config")]
        return "\n".join(lines) + "\n"

    def ready(self, stack):
        """It has no port to ask: each flow has carried a heartbeat written since its start."""
        since = stack.started_at(self.name)
        return all(
            newest_record_time(bootstrap(stack, self.brokers[here]), f"{there}.heartbeats") > since
            for here, there in self.flows()
        )


def kafka_variable(region, suffix=""):
    return f"${{env:DRIFTLESS_{region.upper()}_KAFKA{suffix}}}"


def newest_record_time(kafka, topic):
    """When the newest record of a topic's partition 0 was written, or 0 if there is none."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    consumer = Consumer({
        "bootstrap.servers": kafka,
        "group.id": "stack-ready",
        "enable.auto.commit": False,
        "log_level": 0,
    })
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=2)
        if end == 0:
            return 0
        consumer.assign([TopicPartition(topic, 0, end - 1)])
        newest = consumer.poll(2)
        if newest is None or newest.error():
            return 0
        return newest.timestamp()[1] / 1000
    except KafkaException:
        return 0
    finally:
        consumer.close()


class Registry(Server):
    ports = ("http",)

    def prepare(self, stack):
        jar = next(REGISTRY_DIR.glob("*-runner.jar"))
        return java(stack, "384m", "-jar", str(jar)), {
            **read_env_file(DOCKER / "registry/registry.env"),
            "QUARKUS_HTTP_HOST": HOST,
            "HTTP_PORT": str(stack.port(self.name, "http")),
            # In a file, so that a restarted registry still knows the ids it gave out.
            "REGISTRY_DATASOURCE_URL": f"jdbc:h2:file:{self.data(stack)}/registry",
        }

    def url(self, stack):
        return f"http://{self.address(stack)}/apis/ccompat/v7"

    def ready(self, stack):
        return http_ok(f"{self.url(stack)}/subjects")

    def once_ready(self, stack):
        # The same schema must not get the same id in both regions by chance: an id means
        # something only in the registry of its origin, and the tests have to notice.
        for number, dummy in enumerate({"eu": ['"string"'], THIRD_REGION: ['"string"', '"int"']}.get(self.region, [])):
            body = json.dumps({"schema": dummy}).encode()
            if not http_ok(f"{self.url(stack)}/subjects/takes-the-first-ids-{number}/versions", body):
                raise RuntimeError("it refused a first schema")

    def variables(self, stack):
        return {f"DRIFTLESS_{self.region.upper()}_REGISTRY": self.url(stack)}


class Milvus(Server):
    ports = (
        "proxy", "metrics", "proxy_internal", "etcd", "etcd_peer", "root_coord", "query_coord",
        "query_node", "index_coord", "index_node", "data_coord", "data_node",
    )  # fmt: skip

    def prepare(self, stack):
        data = self.data(stack)
        configs = data / "configs"
        configs.mkdir(exist_ok=True)
        values = {f"{port}_port": stack.port(self.name, port) for port in self.ports}
        values.update(
            etcd_data_dir=data / "etcd",
            etcd_log_path="stdout",
            local_storage_dir=data / "storage",
            rocksmq_data_dir=data / "rocksmq",
            system_log_path="",  # Standard output is enough.
        )
        template = (MILVUS_DIR / "config.yaml.template").read_text()
        (configs / "milvus.yaml").write_text(fill_template(template, values))
        shutil.copy(MILVUS_DIR / "glog.conf", configs)
        # The etcd inside takes its ports from nowhere but a file of its own.
        clients, peers = (f"http://{self.address(stack, port)}" for port in ("etcd", "etcd_peer"))
        (configs / "etcd.yaml").write_text(
            f"listen-client-urls: {clients}\n"
            f"advertise-client-urls: {clients}\n"
            f"listen-peer-urls: {peers}\n"
            f"initial-advertise-peer-urls: {peers}\n"
            f"initial-cluster: default={peers}\n"
        )
        return [str(MILVUS_DIR / "bin/milvus"), "run", "standalone"], {
            **read_env_file(DOCKER / "milvus/milvus.env"),
            "DEPLOY_MODE": "STANDALONE",
            "ETCD_CONFIG_PATH": str(configs / "etcd.yaml"),
            "LD_LIBRARY_PATH": str(MILVUS_DIR / "bin"),
            "METRICS_PORT": str(stack.port(self.name, "metrics")),
        }

    def ready(self, stack):
        # All its parts are healthy, and the proxy gets an answer from them.
        healthy = http_ok(f"http://{self.address(stack, 'metrics')}/healthz")
        return healthy and http_ok(f"http://{self.address(stack)}/v1/vector/collections")

    def variables(self, stack):
        name = f"DRIFTLESS_{self.region.upper()}_MILVUS"
        return {
            name: f"http://{self.address(stack)}",
            f"{name}_METRICS": f"http://{self.address(stack, 'metrics')}/metrics",
        }


def fill_template(template, values):
    """Fills in {{ name }}, {{ name: default }} and {{ name(type): default }}."""

    def value(match):
        name, default = match.groups()
        return str(values.get(name, default or ""))

    return re.sub(r"\{\{\s*(\w+)(?:\(\w+\))?\s*(?::\s*([^}]*?))?\s*\}\}", value, template)


def servers(brokers):
    """All servers by name, in the order of their start. `brokers`: how many each region has."""
    nodes = {region: [broker_name(region, number) for number in range(1, count + 1)] for region, count in brokers.items()}
    kafkas = [Kafka(name, region, names) for region, names in nodes.items() for name in names]
    others = (
        Link("link", nodes),
        MirrorMaker("mm2", nodes),
        *(Registry(f"registry-{region}", region) for region in brokers),
        *(Milvus(f"milvus-{region}", region) for region in brokers),
    )
    return {server.name: server for server in (*kafkas, *others)}


def broker_name(region, number):
    return f"kafka-{region}" if number == 1 else f"kafka-{region}-{number}"
