//! `driftless resync`.

use super::doing::Doing;
use super::{ConfigArg, output};
use crate::adapter::kafka::{KafkaAppender, KafkaLogReader};
use crate::app::prepare::{kafka_settings, peer_kafka_settings};
use crate::base::error::Result;
use crate::base::exit::Exit;
use crate::base::ids::Region;
use crate::config::Config;
use crate::ops::append;
use crate::ops::replica::Place;
use crate::ops::resync::{Resync, ResyncReport};
use serde_json::json;
use std::time::Duration;

/// Bring what a peer holds and this region does not
///
/// For a region that has lost records before it read them (an incomplete partition), has lost its Kafka, or is new. The
/// peer's versions changelog says what differs; only those vectors cross the link. They go to this region's repair topic,
/// from where its own workers take them: start them first, with everything that mirrors to and from this region.
///
/// Writers may go on meanwhile, here and there; the newest version of each vector wins as ever. Rows that the peer has
/// deleted so long ago that the delete is forgotten are deleted here. Cut short, it is run again and brings what is left.
/// An incomplete peer is refused.
///
/// Needs [regions.PEER.kafka] in the configuration, and as many partitions in both regions.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless resync --config eu.toml --from us --dry-run
  driftless resync --config eu.toml --from us
  driftless diff --config eu.toml --from us

Exit codes: 0 this region has what the peer has, 1 failed, 2 wrong usage or configuration,
3 something is left (or, with --dry-run, something is to be done), 130 interrupted")]
pub struct ResyncArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// The region to bring it from
    #[arg(long = "from", value_name = "PEER")]
    peer: String,
    /// How long a worker, here or there, may stand still before this gives up
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &ResyncArgs) -> Result<Exit> {
    let config = Config::load(args.config.path())?;
    let peer = Region::new(&args.peer);
    let kafka = kafka_settings(&config, 0);
    let mut here = KafkaLogReader::new(&kafka)?;
    let mut there = KafkaLogReader::new(&peer_kafka_settings(&config, &peer)?)?;
    let mut appender = KafkaAppender::new(&kafka, append::wake())?;
    let resync = Resync {
        here: Place::new(config.region.clone(), config.topics(), &mut here),
        there: Place::new(peer.clone(), config.topics(), &mut there),
        appender: &mut appender,
        regions: config.regions.keys().cloned().collect(),
        partitions: config.partitions,
        collections: config.collections.clone(),
        patience: args.patience,
        dry_run: args.dry_run,
    };
    let Some(report) = Doing::begin()?.run(|work| resync.run(work))? else {
        eprintln!("what has been brought stays; run it again for the rest");
        return Ok(Exit::INTERRUPTED);
    };
    if args.json {
        output::print_json(&json!({
            "here": config.region,
            "there": peer,
            "dry_run": args.dry_run,
            "partitions": report.partitions,
            "alike": report.alike,
            "brought": report.brought,
            "deleted": report.deleted,
            "bytes_compared": report.bytes_compared,
            "bytes_brought": report.bytes_brought,
            "bytes_read": report.bytes_read,
            "left": report.left,
        }))?;
    } else {
        output::print(&text(&peer, &report, args.dry_run))?;
    }
    let to_do = args.dry_run && report.brought + report.deleted > 0;
    Ok(if report.left.is_empty() && !to_do { Exit::DONE } else { Exit::DIFFERENT })
}

fn text(peer: &Region, report: &ResyncReport, dry_run: bool) -> String {
    let (would, about) = if dry_run { ("to be ", "about ") } else { ("", "") };
    let mut text = format!(
        "{} partitions, {} of them alike already\n{} changes {would}brought from {peer}, {} rows {would}deleted\n{about}{} of changes; {} read from {peer}, {} of it to compare\n",
        report.partitions,
        report.alike,
        report.brought,
        report.deleted,
        output::bytes(report.bytes_brought),
        output::bytes(report.bytes_read),
        output::bytes(report.bytes_compared),
    );
    for sentence in &report.left {
        text += &format!("left: {sentence}\n");
    }
    text
}
