//! The topics of one region: what they should be like ([`plan`]), made where they are missing, and compared
//! with what is there.

pub mod plan;

use crate::base::error::{Error, Result};
use crate::ops::finding::Finding;
use crate::port::admin::{Creation, LogAdmin, RegistryAdmin, TopicState, TopicToCreate};
use crate::record::avro;
use plan::{Role, Rule, Setting, TopicPlan, WantedTopic};
use std::sync::Arc;

/// What became of one topic of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicCreation {
    pub topic: Arc<str>,
    pub creation: Creation,
}

/// Makes what is missing, mirrors first: MirrorMaker would make them with settings of its own as soon as it
/// sees the topic they mirror. What exists is left as it is.
pub fn create(admin: &mut dyn LogAdmin, plan: &TopicPlan) -> Result<Vec<TopicCreation>> {
    let brokers = admin.broker_count()?;
    if plan.replication_factor > brokers {
        return Err(Error::refuse(too_few_brokers(plan.replication_factor, brokers)));
    }
    let mut creations = Vec::new();
    for wanted in plan.topics() {
        let settings = wanted.settings.iter().map(|setting| (setting.key.to_owned(), setting.value.clone())).collect();
        let topic = TopicToCreate {
            name: wanted.name.clone(),
            partitions: wanted.partitions,
            replication_factor: plan.replication_factor,
            settings,
        };
        let creation = admin.create(&topic)?;
        creations.push(TopicCreation { topic: wanted.name, creation });
    }
    Ok(creations)
}

fn too_few_brokers(replication_factor: i32, brokers: i32) -> String {
    format!(
        "[kafka] replication_factor = {replication_factor}, but the cluster has {}; write replication_factor = {brokers}, or add brokers",
        broker_words(brokers)
    )
}

pub(super) fn broker_words(brokers: i32) -> String {
    if brokers == 1 { "1 broker".to_owned() } else { format!("{brokers} brokers") }
}

/// Compares every topic of the plan with the cluster's. What is as it should be is told too.
pub fn check(admin: &mut dyn LogAdmin, plan: &TopicPlan) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let brokers = admin.broker_count()?;
    if plan.replication_factor > brokers {
        let message = too_few_brokers(plan.replication_factor, brokers);
        let (message, remedy) = message.split_once("; ").unwrap_or((&message, ""));
        findings.push(Finding::fail("replication factor", message, remedy));
    }
    let wanted = plan.topics();
    let names: Vec<Arc<str>> = wanted.iter().map(|topic| topic.name.clone()).collect();
    let found = admin.describe(&names)?;
    for topic in &wanted {
        match found.get(&topic.name) {
            Some(state) => findings.extend(compare(plan, topic, state)),
            None => findings.push(missing(topic)),
        }
    }
    Ok(findings)
}

fn missing(topic: &WantedTopic) -> Finding {
    let subject = format!("topic {}", topic.name);
    let remedy = "Run `driftless topics create` with this configuration.";
    match topic.role {
        // A worker takes a mirror up when it appears.
        Role::Mirror => Finding::warn(subject, "does not exist: nothing arrives from that region", remedy),
        Role::Repair => Finding::warn(subject, "does not exist: `driftless resync` can bring nothing", remedy),
        _ => Finding::fail(subject, "does not exist", remedy),
    }
}

fn compare(plan: &TopicPlan, topic: &WantedTopic, state: &TopicState) -> Vec<Finding> {
    let subject = format!("topic {}", topic.name);
    let mut findings = Vec::new();
    if state.partitions != topic.partitions {
        findings.push(wrong_partitions(plan, topic, state.partitions));
    }
    if state.replication_factor < plan.replication_factor {
        let message = format!("replication factor {}, recommended {}", state.replication_factor, plan.replication_factor);
        let remedy = "Fewer brokers may be lost without losing changes. Raise it by kafka-reassign-partitions.";
        findings.push(Finding::warn(&subject, message, remedy));
    }
    for setting in &topic.settings {
        let found = state.settings.get(setting.key).map_or("", String::as_str);
        if !satisfies(setting, found) {
            findings.push(wrong_setting(plan, topic, setting, found));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(subject, format!("{} partitions, settings as recommended", state.partitions)));
    }
    findings
}

/// A task reads one partition of every source, so their counts must be equal; nothing can lower a count.
fn wrong_partitions(plan: &TopicPlan, topic: &WantedTopic, found: i32) -> Finding {
    let wanted = topic.partitions;
    let message = format!("{found} partitions, but [topics] partitions = {wanted}: partition i of every topic belongs together");
    let remedy = if found < wanted {
        format!(
            "Raise it: kafka-topics --bootstrap-server {} --alter --topic {} --partitions {wanted}; or write \
             [topics] partitions = {found} in every region, if the others have as many.",
            plan.bootstrap_servers, topic.name
        )
    } else {
        format!(
            "Partitions cannot be taken away: write [topics] partitions = {found} in every region and run `driftless topics create`."
        )
    };
    Finding::fail(format!("topic {}", topic.name), message, remedy)
}

fn wrong_setting(plan: &TopicPlan, topic: &WantedTopic, setting: &Setting, found: &str) -> Finding {
    let relation = match setting.rule {
        Rule::Exactly => "recommended",
        Rule::AtLeast => "recommended at least",
        Rule::AtMost => "recommended at most",
    };
    let found = if found.is_empty() { "unset" } else { found };
    let message = format!("{} = {found}, {relation} {}: {}", setting.key, setting.value, setting.why);
    let remedy = format!(
        "kafka-configs --bootstrap-server {} --alter --entity-type topics --entity-name {} --add-config {}={}",
        plan.bootstrap_servers, topic.name, setting.key, setting.value
    );
    let subject = format!("topic {}", topic.name);
    if setting.required { Finding::fail(subject, message, remedy) } else { Finding::warn(subject, message, remedy) }
}

/// Kafka writes "no limit" as -1.
fn satisfies(setting: &Setting, found: &str) -> bool {
    if setting.rule == Rule::Exactly {
        return found == setting.value;
    }
    let (Ok(found), Ok(wanted)) = (found.parse::<i64>(), setting.value.parse::<i64>()) else { return false };
    let unlimited = found == -1;
    match setting.rule {
        Rule::AtLeast => unlimited || found >= wanted,
        _ => !unlimited && found <= wanted,
    }
}

/// Registers the change schema in this region's registry, for each local change topic.
pub fn register_schema(registry: &mut dyn RegistryAdmin, plan: &TopicPlan) -> Result<Vec<(String, u32)>> {
    let mut registered = Vec::new();
    for subject in plan.subjects() {
        let id = registry.register(&subject, avro::SCHEMA_TEXT)?;
        registered.push((subject, id));
    }
    Ok(registered)
}

/// Is the change schema the newest one of each subject?
pub fn check_schema(registry: &mut dyn RegistryAdmin, plan: &TopicPlan) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for subject in plan.subjects() {
        let place = format!("schema {subject}");
        findings.push(match registry.latest(&subject)? {
            None => Finding::warn(place, "is not registered", "Run `driftless topics create` with this configuration."),
            Some(found) if same_schema(&found.text) => Finding::ok(place, format!("id {}, as this version writes it", found.id)),
            Some(found) => Finding::warn(
                place,
                format!("the newest, id {}, is not the one that this version writes", found.id),
                "Changes of either can be read. Run `driftless topics create` to register this version's.",
            ),
        });
    }
    Ok(findings)
}

/// Equal as JSON: registries change spaces and the order of keys.
fn same_schema(text: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok().map(without_docs);
    parse(text).is_some_and(|found| Some(found) == parse(avro::SCHEMA_TEXT))
}

fn without_docs(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter(|(key, _)| key != "doc").map(|(key, value)| (key, without_docs(value))).collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_docs).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
