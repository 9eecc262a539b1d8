use super::*;
use crate::base::ids::Region;
use crate::ops::finding::Level;
use crate::port::admin::RegisteredSchema;
use crate::region::topics::TopicNames;
use std::collections::BTreeMap;

/// A cluster in memory.
struct Cluster {
    brokers: i32,
    topics: BTreeMap<Arc<str>, TopicState>,
    created: Vec<Arc<str>>,
}

impl LogAdmin for Cluster {
    fn broker_count(&mut self) -> Result<i32> {
        Ok(self.brokers)
    }

    fn describe(&mut self, topics: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, TopicState>> {
        Ok(self
            .topics
            .iter()
            .filter(|(name, _)| topics.contains(name))
            .map(|(name, state)| (name.clone(), state.clone()))
            .collect())
    }

    fn create(&mut self, topic: &TopicToCreate) -> Result<Creation> {
        if self.topics.contains_key(&topic.name) {
            return Ok(Creation::AlreadyThere);
        }
        let state = TopicState {
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            settings: topic.settings.iter().cloned().collect(),
        };
        self.topics.insert(topic.name.clone(), state);
        self.created.push(topic.name.clone());
        Ok(Creation::Created)
    }
}

fn plan() -> TopicPlan {
    TopicPlan {
        names: TopicNames::new("app", 1),
        peers: vec![Region::new("us"), Region::new("ap")],
        partitions: 12,
        replication_factor: 3,
        bootstrap_servers: "kafka:9092".to_owned(),
    }
}

fn cluster() -> Cluster {
    Cluster { brokers: 3, topics: BTreeMap::new(), created: Vec::new() }
}

#[test]
fn what_is_created_is_what_the_check_recommends_and_is_created_once() {
    let mut cluster = cluster();
    create(&mut cluster, &plan()).unwrap();
    let names: Vec<&str> = cluster.created.iter().map(|name| &**name).collect();
    assert_eq!(
        names,
        [
            "us.vector-cdc",
            "ap.vector-cdc",
            "app-repair",
            "app-versions-changelog",
            "app-vectors-changelog",
            "app-dead-letter",
            "app-conflicts",
            "vector-cdc"
        ]
    );
    assert!(check(&mut cluster, &plan()).unwrap().iter().all(|finding| finding.level == Level::Ok));
    let again = create(&mut cluster, &plan()).unwrap();
    assert!(again.iter().all(|topic| topic.creation == Creation::AlreadyThere));
}

#[test]
fn each_difference_is_told_with_why_it_matters_and_the_command_that_mends_it() {
    let mut cluster = cluster();
    create(&mut cluster, &plan()).unwrap();
    let set = |cluster: &mut Cluster, topic: &str, key: &str, value: &str| {
        cluster.topics.get_mut(topic).unwrap().settings.insert(key.to_owned(), value.to_owned());
    };
    set(&mut cluster, "vector-cdc", "message.timestamp.type", "CreateTime");
    set(&mut cluster, "vector-cdc", "retention.ms", "-1");
    set(&mut cluster, "us.vector-cdc", "message.timestamp.type", "LogAppendTime");
    set(&mut cluster, "us.vector-cdc", "retention.ms", "259200000");
    cluster.topics.get_mut("ap.vector-cdc").unwrap().partitions = 6;
    cluster.topics.remove("app-conflicts");
    let findings = check(&mut cluster, &plan()).unwrap();
    let told: Vec<String> = findings
        .iter()
        .filter(|finding| finding.level != Level::Ok)
        .map(|finding| format!("{:?} {}: {} | {}", finding.level, finding.subject, finding.message, finding.remedy))
        .collect();
    let expected = [
        "Fail topic us.vector-cdc: message.timestamp.type = LogAppendTime, recommended CreateTime",
        "Warn topic us.vector-cdc: retention.ms = 259200000, recommended at least 1209600000",
        "Fail topic ap.vector-cdc: 6 partitions, but [topics] partitions = 12",
        "Fail topic app-conflicts: does not exist",
        "Fail topic vector-cdc: message.timestamp.type = CreateTime, recommended LogAppendTime",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}");
    }
    assert!(told[0].ends_with("--entity-name us.vector-cdc --add-config message.timestamp.type=CreateTime"), "{}", told[0]);
    assert!(told[2].contains("kafka-topics --bootstrap-server kafka:9092 --alter --topic ap.vector-cdc --partitions 12"));
}

#[test]
fn a_replication_factor_above_the_number_of_brokers_is_refused_before_anything_is_made() {
    let mut cluster = Cluster { brokers: 1, ..cluster() };
    let error = create(&mut cluster, &plan()).unwrap_err();
    let told = "[kafka] replication_factor = 3, but the cluster has 1 broker; write replication_factor = 1, or add brokers";
    assert_eq!(error.to_string(), told);
    assert!(cluster.created.is_empty());
}

struct Registry(Option<RegisteredSchema>);

impl RegistryAdmin for Registry {
    fn latest(&mut self, _subject: &str) -> Result<Option<RegisteredSchema>> {
        Ok(self.0.clone())
    }

    fn by_id(&mut self, _id: u32) -> Result<Option<String>> {
        Ok(self.0.clone().map(|schema| schema.text))
    }

    fn register(&mut self, _subject: &str, schema: &str) -> Result<u32> {
        self.0 = Some(RegisteredSchema { id: 7, text: schema.to_owned() });
        Ok(7)
    }
}

#[test]
fn the_registered_schema_is_compared_by_its_meaning() {
    let mut registry = Registry(None);
    let level = |registry: &mut Registry| check_schema(registry, &plan()).unwrap()[0].level;
    assert_eq!(level(&mut registry), Level::Warn);
    assert_eq!(register_schema(&mut registry, &plan()).unwrap(), [("vector-cdc-value".to_owned(), 7)]);
    assert_eq!(level(&mut registry), Level::Ok);
    let spaced: serde_json::Value = serde_json::from_str(avro::SCHEMA_TEXT).unwrap();
    registry.0.as_mut().unwrap().text = format!("{spaced:#}");
    assert_eq!(level(&mut registry), Level::Ok);
    registry.0.as_mut().unwrap().text = "\"string\"".to_owned();
    assert_eq!(level(&mut registry), Level::Warn);
}
