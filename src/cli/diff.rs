//! `driftless diff`.

use super::doing::Doing;
use super::{ConfigArg, output};
use crate::adapter::kafka::KafkaLogReader;
use crate::adapter::system::SystemClock;
use crate::app::prepare::{kafka_settings, peer_kafka_settings};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::ids::Region;
use crate::base::metric;
use crate::base::time::{Clock, UnixMs};
use crate::config::Config;
use crate::ops::diff::{Diff, DiffReport, Difference};
use crate::ops::difference::RANGES;
use crate::ops::replica::{Place, all_partitions};
use crate::store::entry::Entry;
use metrics_exporter_prometheus::PrometheusBuilder;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Differences that are listed without --json.
const LISTED_MAX: usize = 20;

/// Compare what this region holds with what a peer holds
///
/// Reads the versions changelogs of both regions: of each vector the version that holds it, and not the vectors. Digests
/// of key ranges are compared first, then the keys of ranges that differ. What is merely on its way is no difference:
/// a key differs if it still does when each region has settled what the other had settled.
///
/// Needs [regions.PEER.kafka] in the configuration. Changes nothing.
///
/// To have it watched, run it every few minutes with --sample and --metrics: the alert DriftlessDivergence goes by that.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless diff --config eu.toml --from us
  driftless diff --config eu.toml --from us --json | jq '.ratio'
  driftless diff --config eu.toml --from us --sample 2 --metrics /var/lib/node_exporter/divergence.prom

Exit codes: 0 equal, 1 failed, 2 wrong usage or configuration, 3 differences found,
130 interrupted")]
pub struct DiffArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// The region to compare with
    #[arg(long = "from", value_name = "PEER")]
    peer: String,
    /// How long each region may take to settle what the other had settled
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Compare so many partitions only, drawn at random; vectors are spread over them by a hash of their ids
    #[arg(long, value_name = "PARTITIONS")]
    sample: Option<NonZeroUsize>,
    /// Tell Prometheus in this file what was found, as node_exporter's textfile collector reads it; it is replaced whole
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Print one JSON object, with every difference
    #[arg(long)]
    json: bool,
}

pub fn run(args: &DiffArgs) -> Result<Exit> {
    let config = Config::load(args.config.path())?;
    let peer = Region::new(&args.peer);
    let mut here = KafkaLogReader::new(&kafka_settings(&config, 0))?;
    let mut there = KafkaLogReader::new(&peer_kafka_settings(&config, &peer)?)?;
    let diff = Diff {
        here: Place::new(config.region.clone(), config.topics(), &mut here),
        there: Place::new(peer.clone(), config.topics(), &mut there),
        regions: config.regions.keys().cloned().collect(),
        partitions: config.partitions,
        compared: drawn(all_partitions(&config.topics(), config.partitions), args.sample),
        collections: config.collections.clone(),
        patience: args.patience,
    };
    let Some(report) = Doing::begin()?.run(|work| diff.run(work))? else { return Ok(Exit::INTERRUPTED) };
    if let Some(file) = &args.metrics {
        write_metrics(file, &peer, &report, SystemClock::start().now().wall)?;
    }
    if args.json {
        output::print_json(&report_json(&config, &peer, &report))?;
    } else {
        output::print(&text(&config, &peer, &report))?;
    }
    Ok(if report.differences.is_empty() { Exit::DONE } else { Exit::DIFFERENT })
}

/// So many of them, or all.
#[expect(clippy::disallowed_methods, reason = "an operator's command, not the engine: nothing is to be repeated from a seed")]
fn drawn(all: Vec<(u16, i32)>, count: Option<NonZeroUsize>) -> Vec<(u16, i32)> {
    let Some(count) = count else { return all };
    all.choose_multiple(&mut rand::rngs::SmallRng::seed_from_u64(rand::random()), count.get()).copied().collect()
}

/// Whoever collects the file sees the old one or the new one, never half of it.
fn write_metrics(file: &Path, peer: &Region, report: &DiffReport, now: UnixMs) -> Result<()> {
    let failed = |error| Error::refuse(format_args!("--metrics {}: {error}", file.display()));
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, metrics_text(peer, report, now)).map_err(failed)?;
    fs::rename(&beside, file).map_err(failed)
}

fn metrics_text(peer: &Region, report: &DiffReport, now: UnixMs) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        metric::describe();
        metrics::gauge!(metric::DIVERGENCE_RATIO, "peer" => peer.to_string()).set(report.settled_ratio());
        metrics::gauge!(metric::DIVERGENCE_CHECKED_SECONDS, "peer" => peer.to_string()).set(now.0 as f64 / 1_000.0);
    });
    recorder.handle().render()
}

/// What a person would call the difference.
fn words(difference: &Difference) -> &'static str {
    match (&difference.here, &difference.there) {
        (None, Some(there)) if there.tombstone => "delete not known here",
        (Some(here), None) if here.tombstone => "delete not known there",
        (None, _) => "missing here",
        (_, None) => "missing there",
        (Some(here), Some(there)) if here.version < there.version => "older here",
        (Some(here), Some(there)) if here.version > there.version => "older there",
        _ => "other content",
    }
}

fn text(config: &Config, peer: &Region, report: &DiffReport) -> String {
    let here = &config.region;
    let mut text = format!(
        "{} partitions compared: {} rows in {here}, {} in {peer}; {} of {} key ranges differed at first; {} read from {peer}\n",
        report.partitions,
        report.rows_here,
        report.rows_there,
        report.ranges_different,
        report.partitions * RANGES,
        output::bytes(report.bytes),
    );
    for sentence in &report.unsettled {
        text += &format!("not settled in time: {sentence}; some differences may be on their way\n");
    }
    if report.differences.is_empty() {
        return text + "equal\n";
    }
    text += &format!("{} keys differ ({:.6} of all)\n\n", report.differences.len(), report.ratio());
    let shown = |entry: &Option<Entry>| entry.as_ref().map_or("-".to_owned(), |entry| entry.version.to_string());
    let rows = report.differences.iter().take(LISTED_MAX).map(|difference| {
        vec![
            config.collections.get(difference.key.collection).name.clone(),
            difference.key.id.to_string(),
            difference.partition.to_string(),
            words(difference).to_owned(),
            shown(&difference.here),
            shown(&difference.there),
        ]
    });
    let (ours, theirs) = (format!("in {here}"), format!("in {peer}"));
    text += &output::table(&["collection", "id", "partition", "what", &ours, &theirs], rows.collect());
    if report.differences.len() > LISTED_MAX {
        text += &format!("and {} more; --json lists all\n", report.differences.len() - LISTED_MAX);
    }
    text
}

fn report_json(config: &Config, peer: &Region, report: &DiffReport) -> Value {
    let entry = |entry: &Option<Entry>| {
        entry.as_ref().map(|entry| {
            json!({
                "hlc": entry.version.hlc.0, "origin": entry.version.origin, "sequence": entry.version.sequence,
                "deleted": entry.tombstone,
            })
        })
    };
    let differences = report.differences.iter().map(|difference| {
        json!({
            "collection": config.collections.get(difference.key.collection).name,
            "id": difference.key.id.to_string(),
            "shard": difference.shard,
            "partition": difference.partition,
            "what": words(difference),
            "here": entry(&difference.here),
            "there": entry(&difference.there),
            "settled": difference.settled,
        })
    });
    json!({
        "here": config.region,
        "there": peer,
        "partitions": report.partitions,
        "rows_here": report.rows_here,
        "rows_there": report.rows_there,
        "key_ranges": report.partitions * RANGES,
        "key_ranges_different": report.ranges_different,
        "different": report.differences.len(),
        "ratio": report.ratio(),
        "unsettled": report.unsettled,
        "bytes": report.bytes,
        "differences": differences.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{CollectionId, RowKey, VectorId};

    #[test]
    fn what_is_told_to_prometheus_leaves_out_what_may_be_on_its_way() {
        let difference = |id, settled| {
            let key = RowKey { collection: CollectionId(0), id: VectorId::Int(id) };
            Difference { shard: 0, partition: 0, key, here: None, there: None, settled }
        };
        let differences = vec![difference(1, true), difference(2, false), difference(3, false)];
        let report = DiffReport { rows_here: 400, rows_there: 390, differences, ..DiffReport::default() };
        let text = metrics_text(&Region::new("us"), &report, UnixMs(1_700_000_000_500));
        assert!(text.contains("driftless_divergence_ratio{peer=\"us\"} 0.0025\n"), "{text}");
        assert!(text.contains("driftless_divergence_checked_timestamp_seconds{peer=\"us\"} 1700000000.5\n"), "{text}");
        assert!(text.contains("# HELP driftless_divergence_ratio "), "{text}");
        assert!(!text.contains("apply_lag"), "{text}");
    }

    #[test]
    fn a_sample_is_of_different_partitions_and_never_more_than_there_are() {
        let all: Vec<(u16, i32)> = (0..12).map(|partition| (0, partition)).collect();
        let mut drawn_here = drawn(all.clone(), NonZeroUsize::new(5));
        drawn_here.sort();
        drawn_here.dedup();
        assert_eq!(drawn_here.len(), 5);
        assert_eq!(drawn(all.clone(), NonZeroUsize::new(99)).len(), 12);
        assert_eq!(drawn(all.clone(), None), all);
    }
}
