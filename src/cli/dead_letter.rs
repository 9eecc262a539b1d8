//! `driftless dead-letter list|replay`.

use super::confirm::confirm;
use super::{ConfigArg, output};
use crate::adapter::kafka::{KafkaAppender, KafkaLogReader};
use crate::adapter::system::SystemClock;
use crate::app::prepare::kafka_settings;
use crate::base::error::Result;
use crate::base::exit::Exit;
use crate::base::time::Clock;
use crate::config::Config;
use crate::merge::hlc::HlcClock;
use crate::merge::version::Version;
use crate::ops::dead_letter::replay::{Decision, Offer, RegistrySchemas, Replay};
use crate::ops::dead_letter::{self, DeadLetter, Filter, superseded};
use crate::ops::{append, topics};
use crate::port::log::Append;
use crate::record::reason::Reason;
use bytes::Bytes;
use serde_json::json;
use std::collections::HashMap;

#[derive(Debug, clap::Subcommand)]
pub enum DeadLetterCommand {
    List(ListArgs),
    Replay(ReplayArgs),
}

#[derive(Debug, clap::Args)]
struct Selection {
    /// Only those with this reason; may be given several times
    #[arg(long = "reason", value_name = "REASON", value_parser = parse_reason)]
    reasons: Vec<Reason>,
    /// Only the one at this place of the dead-letter topic; may be given several times
    #[arg(long = "at", value_name = "PARTITION:OFFSET", value_parser = parse_place)]
    places: Vec<(i32, i64)>,
    /// Only the newest N
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

impl Selection {
    fn filter(&self, with_values: bool) -> Filter {
        let limit = self.limit.unwrap_or(usize::MAX);
        Filter { reasons: self.reasons.clone(), places: self.places.clone(), limit, with_values }
    }
}

/// List changes that this region could not apply, with where they came from and why
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless dead-letter list --config us.toml
  driftless dead-letter list --config us.toml --reason late --reason early --limit 20
  driftless dead-letter list --config us.toml --json | jq -r '.[].reason' | sort | uniq -c

Reasons: too-large, null-value, malformed, unknown-schema, unknown-collection, bad-id,
foreign-origin, early, late, below-floor, bad-dimension, not-finite, reserved-key,
metadata-too-large, refused-by-milvus

Exit codes: 0 listed, 1 failed, 2 wrong usage or configuration")]
pub struct ListArgs {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    selection: Selection,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// Offer changes again that this region could not apply
///
/// Each is appended to this region's change topic, bytes unchanged, so that every region judges it again; a
/// newer write of the same vector still wins. What is not admissible any more (its stamp is older than
/// [admission] max_lateness) needs --restamp: it then becomes the newest write of its vector. What came by a
/// mirror is replayed in the region where it was written.
///
/// Dead letters stay where they are; their topic's retention removes them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless dead-letter replay --config us.toml --dry-run
  driftless dead-letter replay --config us.toml --reason bad-dimension --yes
  driftless dead-letter replay --config us.toml --at 3:1742 --restamp --yes

Exit codes: 0 replayed (or nothing to do), 1 failed, 2 wrong usage or configuration,
3 some of the selected ones were not replayed; each is listed with why")]
pub struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    selection: Selection,
    /// Give what is not admissible any more a new stamp: it becomes the newest write of its vector
    #[arg(long)]
    restamp: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

pub fn run(command: &DeadLetterCommand) -> Result<Exit> {
    match command {
        DeadLetterCommand::List(args) => list(args),
        DeadLetterCommand::Replay(args) => replay(args),
    }
}

fn parse_reason(text: &str) -> std::result::Result<Reason, String> {
    Reason::from_code(text).ok_or_else(|| {
        let known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        format!("known reasons: {}", known.join(", "))
    })
}

fn parse_place(text: &str) -> std::result::Result<(i32, i64), String> {
    let place = text.split_once(':').and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
    place.ok_or_else(|| "write PARTITION:OFFSET, as `dead-letter list` shows it".to_owned())
}

fn list(args: &ListArgs) -> Result<Exit> {
    let config = Config::load(args.config.path())?;
    let mut reader = KafkaLogReader::new(&kafka_settings(&config, 0))?;
    let letters = dead_letter::list(&mut reader, &config.topics().dead_letter(), &args.selection.filter(false))?;
    if args.json {
        let list: Vec<_> = letters.iter().map(letter_json).collect();
        output::print_json(&list)?;
    } else if letters.is_empty() {
        output::print_line("no dead letters")?;
    } else {
        let heads = ["at", "reason", "source", "offset", "appended", "key", "detail"];
        let rows = letters.iter().map(|letter| {
            vec![
                place(letter),
                letter.reason.clone(),
                letter.source.to_string(),
                letter.source_offset.to_string(),
                appended(letter),
                letter.key_text(),
                letter.detail.clone(),
            ]
        });
        output::print(&output::table(&heads, rows.collect()))?;
    }
    Ok(Exit::DONE)
}

fn place(letter: &DeadLetter) -> String {
    format!("{}:{}", letter.record.partition, letter.record.offset)
}

fn appended(letter: &DeadLetter) -> String {
    let since_epoch = std::time::Duration::from_millis(u64::try_from(letter.appended_at.0).unwrap_or(0));
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since_epoch).to_string()
}

fn letter_json(letter: &DeadLetter) -> serde_json::Value {
    json!({
        "at": place(letter),
        "reason": letter.reason,
        "detail": letter.detail,
        "stage": letter.stage,
        "topic": &*letter.source.topic,
        "partition": letter.source.partition,
        "offset": letter.source_offset,
        "appended_at": letter.appended_at.0,
        "key": letter.record.key.as_ref().map(|_| letter.key_text()),
    })
}

fn replay(args: &ReplayArgs) -> Result<Exit> {
    let config = Config::load(args.config.path())?;
    let mut reader = KafkaLogReader::new(&kafka_settings(&config, 0))?;
    let letters = dead_letter::list(&mut reader, &config.topics().dead_letter(), &args.selection.filter(true))?;
    let decided = decide(&config, letters, args.restamp)?;
    let offers = decided.iter().filter_map(|(_, decision)| offer(decision));
    let holders = superseded::holders(&mut reader, offers.map(|offer| (offer.changelog.clone(), offer.row_key.clone())))?;
    print_decisions(&decided, &holders, args.json)?;
    let left = decided.iter().filter(|(_, decision)| offer(decision).is_none()).count();
    let appends: Vec<Append> =
        decided.iter().filter_map(|(_, decision)| offer(decision)).map(|offer| offer.append.clone()).collect();
    eprintln!("{} to be replayed, {left} left alone", appends.len());
    if !args.dry_run && !appends.is_empty() {
        confirm(args.yes, &format!("Replay {} changes?", appends.len()))?;
        let mut appender = KafkaAppender::new(&kafka_settings(&config, 0), append::wake())?;
        append::all(&mut appender, appends)?;
        eprintln!("replayed");
    }
    Ok(if left > 0 { Exit::DIFFERENT } else { Exit::DONE })
}

fn print_decisions(decided: &[(DeadLetter, Decision)], holders: &HashMap<Bytes, Version>, as_json: bool) -> Result<()> {
    let newer = |decision: &Decision| {
        let offer = offer(decision)?;
        holders.get(&offer.row_key).filter(|holder| **holder > offer.version).map(Version::to_string)
    };
    if as_json {
        let list = decided.iter().map(|(letter, decision)| {
            json!({ "at": place(letter), "replay": offer(decision).is_some(), "decision": words(decision), "superseded_by": newer(decision) })
        });
        return output::print_json(&list.collect::<Vec<_>>());
    }
    for (letter, decision) in decided {
        let superseded = newer(decision)
            .map_or(String::new(), |version| format!(" (superseded by version {version}: it will not be applied)"));
        output::print_line(&format!(
            "{}  {}  {}: {}{superseded}",
            place(letter),
            letter.reason,
            letter.key_text(),
            words(decision)
        ))?;
    }
    Ok(())
}

fn decide(config: &Config, letters: Vec<DeadLetter>, restamp: bool) -> Result<Vec<(DeadLetter, Decision)>> {
    let (names, peers, plan) = (config.topics(), config.peers(), config.topic_plan());
    let mut registry = config.registry_client(&config.region)?;
    let schema_id = if restamp { topics::register_schema(&mut registry, &plan)?.first().map_or(0, |(_, id)| *id) } else { 0 };
    let mut replay = Replay {
        region: config.region.clone(),
        peers: &peers,
        names: &names,
        partitions: config.partitions,
        collections: &config.collections,
        max_lateness_ms: i64::try_from(config.max_lateness.as_millis()).unwrap_or(i64::MAX),
        restamp,
        now: SystemClock::start().now().wall,
        clock: HlcClock::default(),
        writer: one_off_writer(),
        schema_id,
        schemas: RegistrySchemas::new(&mut registry),
        issued: 0,
    };
    let mut decided = Vec::new();
    for letter in letters {
        let decision = replay.decide(&letter)?;
        decided.push((letter, decision));
    }
    Ok(decided)
}

/// Any number will do, as long as two replays hardly ever have the same.
#[expect(clippy::disallowed_methods, reason = "an operator's command, not the engine: nothing is to be repeated from a seed")]
fn one_off_writer() -> u16 {
    rand::random()
}

fn offer(decision: &Decision) -> Option<&Offer> {
    match decision {
        Decision::AsItIs(offer) | Decision::Restamped(offer) => Some(offer),
        _ => None,
    }
}

fn words(decision: &Decision) -> String {
    match decision {
        Decision::AsItIs(offer) => format!("replay with its own version to {}", offer.append.to),
        Decision::Restamped(offer) => format!("replay with a new stamp to {}", offer.append.to),
        Decision::NeedsNewStamp(why) => format!("not admissible any more: {why}; --restamp makes it the newest write"),
        Decision::ElsewhereOnly(region) => format!("came by a mirror: replay it in region {region}"),
        Decision::StillRefused(why) => format!("would be refused again: {why}"),
    }
}
