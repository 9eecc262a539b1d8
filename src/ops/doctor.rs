//! What can be found out about an installation before, or beside, its workers: one finding for each thing that
//! was looked at. The caller brings the connections; what cannot be reached is a finding too.

use crate::base::error::{Error, Result};
use crate::base::ids::TopicPartition;
use crate::base::time::{Clock, UnixMs};
use crate::ops::finding::Finding;
use crate::ops::scan::scan;
use crate::ops::{state_dir, topics};
use crate::port::admin::{LogAdmin, RegistryAdmin};
use crate::port::log::LogReader;
use crate::record::headers::HEARTBEAT_KEY_PREFIX;
use crate::region::partitioner::partition_for_key;
use std::path::Path;

/// Records of each partition that are looked at for how their producers partition.
const SAMPLE_RECORDS: i64 = 200;
/// A broker's stamp may be this much ahead of our clock before it is worth telling.
const CLOCK_TOLERANCE_MS: i64 = 1_000;

/// Turns a check that could not be made into a finding. Messages are `what; remedy`.
pub fn unreached(subject: &str, error: &Error) -> Finding {
    let text = error.to_string();
    match text.split_once("; ") {
        Some((what, remedy)) => Finding::fail(subject, what, remedy),
        None => Finding::fail(subject, text, "Look at its own log."),
    }
}

pub fn state_folder(folder: &Path) -> Finding {
    match state_dir::prepare(folder) {
        Ok(()) => Finding::ok("state_dir", format!("{} can be written", folder.display())),
        Err(error) => unreached("state_dir", &error),
    }
}

/// Brokers, topics and their settings.
pub fn kafka(admin: &mut dyn LogAdmin, plan: &topics::plan::TopicPlan) -> Vec<Finding> {
    let brokers = match admin.broker_count() {
        Ok(brokers) => brokers,
        Err(error) => return vec![unreached("kafka", &error)],
    };
    let mut findings = vec![Finding::ok("kafka", format!("{} at {}", topics::broker_words(brokers), plan.bootstrap_servers))];
    match topics::check(admin, plan) {
        Ok(checked) => findings.extend(checked),
        Err(error) => findings.push(unreached("topics", &error)),
    }
    findings
}

/// A region's registry; of the own region also the schemas that our producers write with.
pub fn registry(name: &str, registry: &mut dyn RegistryAdmin, own: bool, plan: &topics::plan::TopicPlan) -> Vec<Finding> {
    let subject = format!("registry of {name}");
    match topics::check_schema(registry, plan) {
        Ok(schemas) => {
            let mut findings = vec![Finding::ok(subject, "answers")];
            if own {
                findings.extend(schemas);
            }
            findings
        }
        Err(error) => vec![unreached(&subject, &error)],
    }
}

/// Looks at the newest records of the local change topics: where their keys lie, and what the brokers' clock
/// stamped them with.
pub fn change_records(reader: &mut dyn LogReader, plan: &topics::plan::TopicPlan, clock: &dyn Clock) -> Vec<Finding> {
    let mut findings = Vec::new();
    for shard in 0..plan.names.shards() {
        let topic = plan.names.local(shard);
        let subject = format!("records of {topic}");
        match sample(reader, &topic) {
            Ok(sample) => findings.extend(sample.findings(&subject, clock.now().wall)),
            Err(error) => findings.push(unreached(&subject, &error)),
        }
    }
    findings
}

#[derive(Default)]
struct Sample {
    keyed: usize,
    keyless: usize,
    misplaced: usize,
    newest: Option<UnixMs>,
}

fn sample(reader: &mut dyn LogReader, topic: &str) -> Result<Sample> {
    let mut sample = Sample::default();
    let partitions = reader.partition_count(topic)?.unwrap_or(0);
    for number in 0..partitions {
        let partition = TopicPartition::new(topic, number);
        let end = reader.bounds(&partition)?.end;
        scan(reader, &partition, end - SAMPLE_RECORDS, &mut |record| {
            sample.newest = sample.newest.max(Some(record.appended_at));
            match &record.key {
                Some(key) if key.starts_with(HEARTBEAT_KEY_PREFIX.as_bytes()) => {}
                Some(key) => {
                    sample.keyed += 1;
                    sample.misplaced += usize::from(partition_for_key(key, partitions) != number);
                }
                None => sample.keyless += 1,
            }
        })?;
    }
    Ok(sample)
}

impl Sample {
    fn findings(&self, subject: &str, now: UnixMs) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.misplaced > 0 {
            let message = format!("{} of {} keys lie in another partition than murmur2 puts them in", self.misplaced, self.keyed);
            let remedy = "Each is appended a second time under its proper key. Let their producer use Java's default: \
                          librdkafka needs partitioner=murmur2_random.";
            findings.push(Finding::warn(subject, message, remedy));
        }
        if self.keyless > 0 {
            let message = format!("{} of the newest have no key", self.keyless);
            findings.push(Finding::warn(subject, message, "Each is appended a second time under its key: the vector id."));
        }
        if findings.is_empty() {
            let what = match self.keyed {
                0 => "none yet: how producers partition is found record by record".to_owned(),
                keyed => format!("the newest {keyed} keys lie where murmur2 puts them"),
            };
            findings.push(Finding::ok(subject, what));
        }
        if let Some(ahead) = self.newest.map(|newest| newest.since_ms(now)).filter(|ahead| *ahead > CLOCK_TOLERANCE_MS) {
            let message = format!("the broker's stamps are {ahead} ms ahead of this machine's clock");
            findings.push(Finding::warn(
                subject,
                message,
                "Let both keep their clocks by NTP: changes are admitted by the broker's.",
            ));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Region;
    use crate::base::time::Now;
    use crate::ops::finding::Level;
    use crate::ops::scan::memory::MemoryReader;
    use crate::ops::topics::plan::TopicPlan;
    use crate::record::raw::RawRecord;
    use crate::region::topics::TopicNames;
    use std::time::Duration;

    fn record(partition: i32, offset: i64, key: Option<&str>, appended_at: i64) -> RawRecord {
        RawRecord {
            topic: "vector-cdc".into(),
            partition,
            offset,
            appended_at: UnixMs(appended_at),
            key: key.map(|key| key.as_bytes().to_vec().into()),
            value: None,
            headers: Vec::new(),
        }
    }

    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> Now {
            Now { wall: UnixMs(100_000), monotonic: Duration::ZERO }
        }
    }

    fn findings(records: Vec<RawRecord>) -> Vec<Finding> {
        let plan = TopicPlan {
            names: TopicNames::new("app", 1),
            peers: vec![Region::new("eu")],
            partitions: 4,
            replication_factor: 1,
            bootstrap_servers: "kafka:9092".to_owned(),
        };
        let mut reader = MemoryReader { records, partitions: 4, ..MemoryReader::default() };
        change_records(&mut reader, &plan, &Stopped)
    }

    #[test]
    fn a_producer_that_partitions_otherwise_is_found_by_its_records() {
        let right = |key: &str| partition_for_key(key.as_bytes(), 4);
        let good = findings(vec![record(right("a"), 0, Some("a"), 1), record(3, 7, Some("driftless/heartbeat/us"), 1)]);
        assert_eq!(good.len(), 1);
        assert_eq!((good[0].level, good[0].message.as_str()), (Level::Ok, "the newest 1 keys lie where murmur2 puts them"));
        let bad = findings(vec![record((right("a") + 1) % 4, 0, Some("a"), 1), record(2, 9, None, 1)]);
        assert_eq!(bad.len(), 2);
        assert!(bad[0].message.starts_with("1 of 1 keys lie in another partition") && bad[0].remedy.contains("murmur2_random"));
        assert!(bad[1].message.contains("1 of the newest have no key"));
    }

    #[test]
    fn a_broker_whose_clock_is_ahead_is_told() {
        let found = findings(vec![record(0, 0, Some("driftless/heartbeat/us"), 103_000)]);
        assert!(
            found.iter().any(|finding| finding.level == Level::Warn && finding.message.contains("3000 ms ahead")),
            "{found:?}"
        );
    }
}
