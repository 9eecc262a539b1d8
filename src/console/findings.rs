//! What one look finds wrong. Whether it lasts, and since when, is for [`conditions`](super::conditions).

use super::links::{Leg, LinkView};
use super::plant::{Observation, RegionObserved};
use crate::base::ids::Region;
use crate::base::time::UnixMs;
use serde::Serialize;
use std::collections::BTreeMap;

/// The promise: a change is in every region's vector store after this.
pub const LAG_MS_PROMISED: i64 = 150;
/// Ten times over: somebody should get up.
const LAG_MS_ALARM: i64 = 1_500;
/// The clocks surely differ by this, which users of "last writer" notice.
const CLOCK_MS_WARNING: i64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Passes by itself.
    Notice,
    Warning,
    Alarm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Silent,
    Behind,
    Gap,
    Absent,
    Parked,
    NotJoined,
    Restoring,
    Clock,
    Disagreement,
}

/// What tells one finding from another, from look to look.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub kind: Kind,
    /// Where it is seen.
    pub region: Region,
    /// The origin it is about.
    pub origin: Option<Region>,
    pub collection: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub subject: Subject,
    pub level: Level,
    /// When it began, as far as this look can tell.
    pub began: UnixMs,
    /// Without numbers that change from look to look: it is read aloud when it changes.
    pub title: String,
    /// Where to look, and at what.
    pub advice: String,
}

pub fn findings(observation: &Observation, links: &[LinkView]) -> Vec<Finding> {
    let mut found = Vec::new();
    for link in links {
        found.extend(of_link(link, observation.now));
    }
    for region in &observation.regions {
        found.extend(of_region(region, observation.now));
    }
    found
}

fn of_link(link: &LinkView, now: UnixMs) -> Vec<Finding> {
    let LinkView { from, to, .. } = link;
    let finding = |kind, level, began, title: String, advice: String| Finding {
        subject: Subject { kind, region: to.clone(), origin: Some(from.clone()), collection: None },
        level,
        began,
        title,
        advice,
    };
    let mut found: Vec<Finding> = lag_finding(link, now).into_iter().collect();
    if link.gaps > 0 {
        let title = format!("{to} is missing changes from {from}");
        let advice = format!(
            "They were deleted before {to} read them. The log names partitions and times; `driftless resync` makes them whole."
        );
        found.push(finding(Kind::Gap, Level::Alarm, now, title, advice));
    }
    if link.absent > 0 {
        let title = format!("{to} has no mirror of {from}'s changes");
        let advice = "Make it with `driftless topics create`, or let MirrorMaker make it. It is taken up when it appears.";
        found.push(finding(Kind::Absent, Level::Warning, now, title, advice.to_owned()));
    }
    if let Some([least, most]) = link.clock_ahead_ms
        && !link.is_own()
        && (least > CLOCK_MS_WARNING || most < -CLOCK_MS_WARNING)
    {
        let (title, way) = if least > 0 { ("ahead of", "fast") } else { ("behind", "slow") };
        let title = format!("{from}'s clock is {title} {to}'s");
        let advice =
            format!("One of them is {way}: compare both with a time server. Lags are corrected for it; who wins is not.");
        found.push(finding(Kind::Clock, Level::Warning, now, title, advice));
    }
    if !link.disagreements.is_empty() {
        let title = format!("{from} is configured otherwise than {to}");
        found.push(finding(Kind::Disagreement, Level::Alarm, now, title, link.disagreements.join("; ")));
    }
    found
}

/// A link that is silent lags as well: it is one finding, and says what is known of its cause.
fn lag_finding(link: &LinkView, now: UnixMs) -> Option<Finding> {
    let lag_ms = link.lag_ms.map_or(0, |lags| lags.acknowledged);
    let LinkView { from, to, .. } = link;
    let level = if lag_ms > LAG_MS_ALARM { Level::Alarm } else { Level::Warning };
    let silent = link.silent > 0 && link.silent == link.partitions && link.lag_ms.is_some();
    if !silent && lag_ms <= LAG_MS_PROMISED {
        return None;
    }
    let (kind, title, advice) = if silent && link.is_own() {
        let advice = "Its workers' own heartbeats don't come back: look at its Kafka.".to_owned();
        (Kind::Silent, format!("{to} does not hear itself"), advice)
    } else if silent {
        let advice = format!("Not even heartbeats come: look at MirrorMaker {from}→{to}, the network, and {from}'s Kafka.");
        (Kind::Silent, format!("{to} hears nothing from {from}"), advice)
    } else {
        let title = if link.is_own() { format!("{to} is behind its own writes") } else { format!("{to} is behind {from}") };
        (Kind::Behind, title, advice_for(link.leg.unwrap_or(Leg::Link), link))
    };
    let subject = Subject { kind, region: to.clone(), origin: Some(from.clone()), collection: None };
    Some(Finding { subject, level, began: UnixMs(now.0.saturating_sub(lag_ms)), title, advice })
}

fn advice_for(leg: Leg, link: &LinkView) -> String {
    let LinkView { from, to, .. } = link;
    match leg {
        Leg::Link if link.is_own() => format!("Changes wait before they are polled: look at {to}'s Kafka."),
        Leg::Link => format!("Changes wait before they reach {to}: look at MirrorMaker {from}→{to} and the network."),
        Leg::Merge => format!("Changes wait to be judged: look at {to}'s workers, their processors and their number."),
        Leg::Sink => format!("Changes wait to be acknowledged: look at {to}'s Milvus, then at its Kafka."),
    }
}

fn of_region(observed: &RegionObserved, now: UnixMs) -> Vec<Finding> {
    let RegionObserved { region, report, .. } = observed;
    let finding = |kind, level, collection, title: String, advice: &str| Finding {
        subject: Subject { kind, region: region.clone(), origin: None, collection },
        level,
        began: now,
        title,
        advice: advice.to_owned(),
    };
    let mut found = Vec::new();
    if !report.joined {
        let advice = "Its consumer group has not told it what it has: it may be rebalancing, or Kafka is out of reach.";
        found.push(finding(Kind::NotJoined, Level::Warning, None, format!("{region} is not in its group"), advice));
    }
    if report.tasks.iter().any(|task| task.state == "restoring") {
        let advice = "Tasks read their changelogs before they go on. How far they are stands with the tasks.";
        found.push(finding(Kind::Restoring, Level::Notice, None, format!("{region} is restoring"), advice));
    }
    let mut parked: BTreeMap<&str, u64> = BTreeMap::new();
    for (collection, count) in report.tasks.iter().flat_map(|task| &task.parked) {
        *parked.entry(collection).or_default() += count;
    }
    for (collection, _) in parked.into_iter().filter(|(_, count)| *count > 0) {
        let title = format!("{region}'s Milvus does not take rows of {collection}");
        let advice =
            "Its changes wait in the topics and other collections go on: load the collection, or look at Milvus' quotas.";
        found.push(finding(Kind::Parked, Level::Alarm, Some(collection.to_owned()), title, advice));
    }
    found
}
