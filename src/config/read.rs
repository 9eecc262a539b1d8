//! From the file's sections to values, with the defaults. Each function reads one section.

use super::secrets::{login, refuse_in_uri, secret};
use super::*;
use crate::base::section::Section;
use crate::record::collection::ORIGIN_BYTES_MAX;
use crate::region::topics::REPAIR;
use crate::topology::spec;

fn store_kind(section: &Section<'_, '_>) -> Option<StoreKind> {
    let kind = section.text("store")?;
    match kind.get_ref().as_str() {
        "memory" => Some(StoreKind::Memory),
        "disk" => Some(StoreKind::Disk),
        other => {
            let remedy = "Write \"memory\", or \"disk\" for more vectors than memory holds and for quick restarts.";
            section.fault(kind.span().start, format!("`store` = \"{other}\" is no kind of store"), remedy);
            None
        }
    }
}

/// What a file refers to outside of itself.
pub struct Surroundings<'a> {
    pub folder: &'a Path,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// `None` only if a fault has been noted.
pub fn config(root: &Section<'_, '_>, around: &Surroundings<'_>) -> Option<Config> {
    let region = region_name(root);
    let state_dir = required_text(root, "state_dir", "Name a folder for what must outlive this process.");
    let store = optional(root, "state", store_kind).unwrap_or(StoreKind::Memory);
    let application_id = application_id(root);
    let kafka = kafka(root, around);
    let (regions, peer_kafka) = regions(root, region.as_ref(), around);
    let milvus = milvus(root, around);
    let topology = topology(root, around);
    let shards = optional(root, "placement", |section| section.integer("shards", 1..=1024)).unwrap_or(1);
    let partitions = optional(root, "topics", |section| section.integer("partitions", 1..=10_000)).unwrap_or(12);
    let max_lateness = optional(root, "admission", |section| section.duration("max_lateness"));
    let worker = worker(root);
    let sink = sink(root);
    let scrub = scrub(root);
    let canary = canary(root);
    let http_listen = http_listen(root);
    let collections = collections::read(root);
    root.refuse_unknown_keys();
    let config = Config {
        region: region?,
        application_id,
        state_dir: around.folder.join(state_dir?),
        store,
        kafka: kafka?,
        regions,
        peer_kafka,
        milvus: milvus?,
        topology: topology?,
        shards: shards as u16,
        partitions: partitions as i32,
        max_lateness: max_lateness.unwrap_or(Duration::from_secs(3600)),
        worker,
        sink,
        scrub,
        canary,
        http_listen: http_listen?,
        collections: Arc::new(Collections::new(collections)),
    };
    relations::check(root, &config);
    Some(config)
}

/// A section that may be missing and has one value in it.
fn optional<T>(root: &Section<'_, '_>, name: &str, read: impl FnOnce(&Section<'_, '_>) -> Option<T>) -> Option<T> {
    let section = root.section(name)?;
    let value = read(&section);
    section.refuse_unknown_keys();
    value
}

fn required_text(section: &Section<'_, '_>, key: &str, remedy: &str) -> Option<String> {
    section.require(key, remedy);
    let text = section.text(key)?;
    if text.get_ref().trim().is_empty() {
        section.fault(text.span().start, format!("`{key}` in {} is empty", section.title()), remedy);
        return None;
    }
    Some(text.into_inner())
}

fn region_name(root: &Section<'_, '_>) -> Option<Region> {
    let name = required_text(root, "region", "Name the region that this process works in, such as region = \"us\".")?;
    check_region_name(root, root.place_of("region"), &name);
    Some(Region::new(name))
}

/// A region's name becomes a part of topic names, where a dot separates.
fn check_region_name(section: &Section<'_, '_>, place: usize, name: &str) {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(good) || name.len() > ORIGIN_BYTES_MAX {
        let remedy = format!("Use at most {ORIGIN_BYTES_MAX} letters, digits, `-` and `_`: MirrorMaker's alias of that cluster.");
        section.fault(place, format!("\"{name}\" cannot be a region's name"), remedy);
    }
    refuse_reserved(section, place, name);
}

/// Metrics and reports name the repair topic so, where a region's name stands.
fn refuse_reserved(section: &Section<'_, '_>, place: usize, name: &str) {
    if name == REPAIR {
        section.fault(place, format!("\"{name}\" cannot be a region's name"), "It stands for the repair topic; choose another.");
    }
}

fn application_id(root: &Section<'_, '_>) -> String {
    let Some(id) = root.text("application_id") else { return "driftless".to_owned() };
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    // Kafka's limit for a topic's name is 249; our longest suffix, with a shard's number, has 24.
    if id.get_ref().is_empty() || !id.get_ref().chars().all(good) || id.get_ref().len() > 200 {
        let message = format!("`application_id` = \"{}\" cannot begin a topic's name", id.get_ref());
        root.fault(id.span().start, message, "Use at most 200 letters, digits, `.`, `-` and `_`.");
    }
    id.into_inner()
}

fn kafka(root: &Section<'_, '_>, around: &Surroundings<'_>) -> Option<KafkaConfig> {
    root.require("kafka", "Add [kafka] with bootstrap_servers = \"HOST:PORT\".");
    let section = root.section("kafka")?;
    let client = kafka_client(&section, around);
    let replication_factor = section.integer("replication_factor", 1..=i64::from(i16::MAX)).unwrap_or(3) as i32;
    let group_instance_id = section.text("group_instance_id").map(|id| id.into_inner());
    section.refuse_unknown_keys();
    Some(KafkaConfig { replication_factor, group_instance_id, ..client? })
}

/// How a cluster is reached: what [kafka] and [regions.NAME.kafka] have in common.
fn kafka_client(section: &Section<'_, '_>, around: &Surroundings<'_>) -> Option<KafkaConfig> {
    let bootstrap_servers = required_text(section, "bootstrap_servers", "Write \"HOST:PORT\", several with commas.");
    if let Some(servers) = &bootstrap_servers {
        check_servers(section, servers);
    }
    let mechanism = mechanism(section);
    let sasl = login(section, around).map(|login| Sasl { mechanism: mechanism.clone(), login });
    if sasl.is_none() && section.has("mechanism") && !section.has("username") {
        section.fault(section.place_of("mechanism"), "`mechanism` is given without a username", "Add username and a password.");
    }
    let properties = section.section("properties").map(|properties| pass_through(&properties)).unwrap_or_default();
    let bootstrap_servers = bootstrap_servers?;
    Some(KafkaConfig { bootstrap_servers, replication_factor: 3, group_instance_id: None, sasl, properties })
}

fn check_servers(section: &Section<'_, '_>, servers: &str) {
    for server in servers.split(',').map(str::trim) {
        let port =
            server.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok())).flatten();
        if port.is_none_or(|port| port == 0) {
            let message = format!("\"{server}\" in `bootstrap_servers` has no port to connect to");
            section.fault(section.place_of("bootstrap_servers"), message, "Write HOST:PORT, such as \"kafka:9092\".");
        }
    }
}

fn mechanism(section: &Section<'_, '_>) -> String {
    const KNOWN: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
    let Some(mechanism) = section.text("mechanism") else { return KNOWN[2].to_owned() };
    if !KNOWN.contains(&mechanism.get_ref().as_str()) {
        let message = format!("unknown `mechanism` \"{}\"", mechanism.get_ref());
        section.fault(mechanism.span().start, message, format!("Choose one of {}.", KNOWN.join(", ")));
    }
    mechanism.into_inner()
}

/// Properties that the engine sets itself, because its correctness rests on them, and what to use instead.
const OURS: &[(&str, &str)] = &[
    ("acks", "It is always `all`."),
    ("auto.offset.reset", "It is always `error`: start offsets come from our own progress records."),
    ("bootstrap.servers", "Use [kafka] bootstrap_servers."),
    ("enable.auto.commit", "It is always off: offsets follow what has been acknowledged."),
    ("enable.auto.offset.store", "It is always off: offsets follow what has been acknowledged."),
    ("enable.idempotence", "It is always on."),
    ("group.id", "Use application_id."),
    ("group.instance.id", "Use [kafka] group_instance_id."),
    ("group.protocol", "It is always `classic`: librdkafka's static membership fails under `consumer`."),
    ("partition.assignment.strategy", "It is always `cooperative-sticky`."),
    ("partitioner", "Partitions are always chosen by murmur2, as Java's clients do."),
    ("sasl.mechanism", "Use [kafka] mechanism."),
    ("sasl.mechanisms", "Use [kafka] mechanism."),
    ("sasl.password", "Use [kafka] password_env or password_file."),
    ("sasl.username", "Use [kafka] username."),
];

fn pass_through(section: &Section<'_, '_>) -> Properties {
    let mut properties = BTreeMap::new();
    for key in section.keys() {
        let name = key.get_ref();
        if let Some((_, instead)) = OURS.iter().find(|(ours, _)| ours == name) {
            section.fault(key.span().start, format!("`{name}` cannot be set in [kafka.properties]"), *instead);
        }
        if let Some(value) = section.scalar(name) {
            properties.insert(name.clone(), value);
        }
    }
    Properties(properties)
}

type Regions = (BTreeMap<Region, RegistryConfig>, BTreeMap<Region, KafkaConfig>);

fn regions(root: &Section<'_, '_>, own: Option<&Region>, around: &Surroundings<'_>) -> Regions {
    let (mut regions, mut peer_kafka) = Regions::default();
    root.require("regions", "Add [regions.NAME] with the registry of each region, this one too.");
    let Some(section) = root.section("regions") else { return (regions, peer_kafka) };
    for key in section.keys() {
        check_region_name(&section, key.span().start, key.get_ref());
        let Some(region) = section.section(key.get_ref()) else { continue };
        let registry = required_text(&region, "registry", "Write the URL of that region's schema registry.");
        let login = login(&region, around);
        if let Some(kafka) = peers_kafka(&region, own.is_some_and(|own| own.as_str() == key.get_ref()), around) {
            peer_kafka.insert(Region::new(key.get_ref()), kafka);
        }
        region.refuse_unknown_keys();
        if let Some(registry) = registry {
            check_url(&region, "registry", &registry);
            regions.insert(Region::new(key.get_ref()), RegistryConfig { registry, login });
        }
    }
    if let Some(own) = own.filter(|own| !section.has(own.as_str())) {
        let message = format!("[regions] does not name this region, \"{own}\"");
        root.fault(root.place_of("region"), message, format!("Add [regions.{own}], or mend `region`."));
    }
    (regions, peer_kafka)
}

fn peers_kafka(region: &Section<'_, '_>, is_own: bool, around: &Surroundings<'_>) -> Option<KafkaConfig> {
    let section = region.section("kafka")?;
    if is_own {
        section.fault(section.place(), "this region's own Kafka is given twice", "Keep [kafka] and remove this section.");
    }
    section.require("bootstrap_servers", "Write \"HOST:PORT\", several with commas.");
    let kafka = kafka_client(&section, around);
    section.refuse_unknown_keys();
    kafka
}

fn check_url(section: &Section<'_, '_>, key: &str, url: &str) {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        let message = format!("`{key}` = \"{url}\" is not a URL");
        section.fault(section.place_of(key), message, "Begin it with http:// or https://.");
    }
    refuse_in_uri(section, key, url);
}

fn milvus(root: &Section<'_, '_>, around: &Surroundings<'_>) -> Option<MilvusConfig> {
    root.require("milvus", "Add [milvus] with uri = \"http://HOST:19530\".");
    let section = root.section("milvus")?;
    let uri = required_text(&section, "uri", "Write \"http://HOST:19530\".");
    if let Some(uri) = &uri {
        check_url(&section, "uri", uri);
    }
    let database = section.text("database").map(|database| database.into_inner());
    let (login, token) = (login(&section, around), secret(&section, "token", around));
    let auth = match (login, token) {
        (Some(_), Some(_)) => {
            section.fault(section.place(), "[milvus] has both a username and a token", "Keep one of them.");
            return None;
        }
        (Some(login), None) => MilvusAuth::Login(login),
        (None, Some(token)) => MilvusAuth::Token(token),
        (None, None) => MilvusAuth::None,
    };
    let rpc_deadline = section.duration("rpc_deadline").unwrap_or(Duration::from_secs(5));
    section.refuse_unknown_keys();
    Some(MilvusConfig { uri: uri?, database, auth, rpc_deadline })
}

/// Reads the file's text; whether it is a good topology, `topology validate` and the worker's start say.
fn topology(root: &Section<'_, '_>, around: &Surroundings<'_>) -> Option<TopologyFile> {
    let built_in = || TopologyFile { name: spec::REPLICATE_FILE.to_owned(), text: spec::REPLICATE.to_owned() };
    let Some(section) = root.section("topology") else { return Some(built_in()) };
    let file = section.text("file");
    section.refuse_unknown_keys();
    let Some(file) = file else { return Some(built_in()) };
    let path = around.folder.join(file.get_ref());
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(TopologyFile { name: path.display().to_string(), text }),
        Err(error) => {
            let message = format!("the topology {} cannot be read: {error}", path.display());
            section.fault(file.span().start, message, "Name a file, or leave [topology] out for the built-in one.");
            None
        }
    }
}

fn worker(root: &Section<'_, '_>) -> WorkerConfig {
    let mut worker = WorkerConfig {
        threads: 1,
        standby_replicas: 0,
        commit_interval: Duration::from_millis(100),
        buffer_bytes: 4 << 20,
        drain_timeout: Duration::from_secs(20),
    };
    let Some(section) = root.section("worker") else { return worker };
    worker.threads = section.integer("threads", 1..=1024).map_or(worker.threads, |threads| threads as usize);
    let replicas = section.integer("standby_replicas", 0..=64);
    worker.standby_replicas = replicas.map_or(worker.standby_replicas, |replicas| replicas as usize);
    worker.commit_interval = section.duration("commit_interval").unwrap_or(worker.commit_interval);
    worker.buffer_bytes = section.bytes("buffer_bytes").unwrap_or(worker.buffer_bytes);
    worker.drain_timeout = section.duration("drain_timeout").unwrap_or(worker.drain_timeout);
    section.refuse_unknown_keys();
    worker
}

fn sink(root: &Section<'_, '_>) -> SinkConfig {
    let mut sink = SinkConfig { batch_bytes: 2 << 20, linger: Duration::from_millis(5), hold: Duration::from_millis(100) };
    let Some(section) = root.section("sink") else { return sink };
    sink.batch_bytes = section.bytes("batch_bytes").unwrap_or(sink.batch_bytes);
    sink.linger = section.duration("linger").unwrap_or(sink.linger);
    sink.hold = section.duration("hold").unwrap_or(sink.hold);
    section.refuse_unknown_keys();
    sink
}

fn scrub(root: &Section<'_, '_>) -> ScrubSettings {
    let mut scrub = ScrubSettings::default();
    let Some(section) = root.section("scrub") else { return scrub };
    scrub.enabled = section.boolean("enabled").unwrap_or(scrub.enabled);
    scrub.period = section.duration("period").unwrap_or(scrub.period);
    scrub.pass_min = section.duration("pass_min").unwrap_or(scrub.pass_min);
    section.refuse_unknown_keys();
    scrub
}

fn canary(root: &Section<'_, '_>) -> CanaryConfig {
    let mut canary = CanaryConfig { enabled: true, period: Duration::from_secs(2) };
    let Some(section) = root.section("canary") else { return canary };
    canary.enabled = section.boolean("enabled").unwrap_or(canary.enabled);
    canary.period = section.duration("period").unwrap_or(canary.period);
    section.refuse_unknown_keys();
    canary
}

fn http_listen(root: &Section<'_, '_>) -> Option<SocketAddr> {
    let default = SocketAddr::from(([127, 0, 0, 1], 9464));
    let Some(section) = root.section("http") else { return Some(default) };
    let listen = section.text("listen");
    section.refuse_unknown_keys();
    let Some(listen) = listen else { return Some(default) };
    match listen.get_ref().parse() {
        Ok(address) => Some(address),
        Err(_) => {
            let message = format!("`listen` = \"{}\" is not an address with a port", listen.get_ref());
            section.fault(listen.span().start, message, "Write \"127.0.0.1:9464\", or \"0.0.0.0:9464\" for every interface.");
            None
        }
    }
}
