//! INV-9: what cannot be applied is kept, with its reason; and nothing else is. Looked at when all is settled.

use super::{Demand, Rules, demand};
use crate::adapter::embedded::broker::Broker;
use crate::base::ids::TopicPartition;
use crate::record::headers;
use crate::record::reason::Reason;
use crate::region::topics::TopicNames;
use crate::testing::sim::trace::Violations;
use crate::testing::sim::workload::Workload;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

type Coordinates = (Arc<str>, i32, i64);

/// Why a good change may be a dead letter all the same.
const FOR_A_GOOD_CHANGE: [Reason; 2] = [Reason::RefusedByMilvus, Reason::BelowFloor];

/// Where to look in one region.
pub(in crate::testing::sim) struct Place<'a> {
    pub broker: &'a Broker,
    pub names: &'a TopicNames,
    pub sources: &'a [TopicPartition],
    /// Topics that were created again.
    pub recreated: &'a BTreeSet<Arc<str>>,
}

pub(in crate::testing::sim) fn verify(
    now: Duration,
    place: &Place<'_>,
    workload: &Workload,
    rules: &Rules,
    violations: &Violations,
) {
    let Place { broker, names, sources, recreated } = *place;
    let found = dead_letters(now, broker, names, rules, violations);
    for source in sources {
        let own = !source.topic.contains('.');
        let Ok(bounds) = broker.bounds(source) else { continue };
        let visited = broker.read(source, bounds.first, usize::MAX, |record| {
            let place = (source.topic.clone(), source.partition, record.offset);
            let reasons = found.get(&place);
            let wanted = match demand(&record, own, workload, rules) {
                Demand::DeadLetter(reason) => Some(reason),
                _ => None,
            };
            let has = |reason: Reason| reasons.is_some_and(|reasons| reasons.contains(&reason));
            if let Some(reason) = wanted.filter(|reason| !has(*reason)) {
                let detail = format!("{source} {} must be a dead letter ({reason}), found {reasons:?}", record.offset);
                violations.add("dead letters", now, detail);
            }
            // Of a topic that was created again the same places stand for other records.
            for reason in reasons.into_iter().flatten().filter(|_| !recreated.contains(&source.topic)) {
                let either = matches!(demand(&record, own, workload, rules), Demand::Either);
                if wanted != Some(*reason) && !FOR_A_GOOD_CHANGE.contains(reason) && !either {
                    let detail = format!("{source} {} is a dead letter ({reason}), wanted is {wanted:?}", record.offset);
                    violations.add("dead letters", now, detail);
                }
            }
        });
        if let Err(error) = visited {
            violations.add("dead letters", now, format!("{source} can't be read: {error}"));
        }
    }
}

fn dead_letters(
    now: Duration,
    broker: &Broker,
    names: &TopicNames,
    rules: &Rules,
    violations: &Violations,
) -> BTreeMap<Coordinates, BTreeSet<Reason>> {
    let mut found: BTreeMap<Coordinates, BTreeSet<Reason>> = BTreeMap::new();
    for partition in 0..rules.partitions {
        let at = TopicPartition::new(names.dead_letter(), partition);
        let visited = broker.read(&at, 0, usize::MAX, |record| {
            let text = |name| record.header_text(name);
            let number = |name| text(name)?.parse::<i64>().ok();
            let place =
                (|| Some((Arc::from(text(headers::TOPIC)?), number(headers::PARTITION)? as i32, number(headers::OFFSET)?)))();
            match place.zip(text(headers::REASON).and_then(Reason::from_code)) {
                Some((place, reason)) => _ = found.entry(place).or_default().insert(reason),
                None => violations.add("dead letters", now, format!("{at} {} does not say what and why", record.offset)),
            }
        });
        if let Err(error) = visited {
            violations.add("dead letters", now, format!("{at} can't be read: {error}"));
        }
    }
    found
}
