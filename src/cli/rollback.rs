//! `driftless rollback`.

use super::confirm::confirm;
use super::past::{Past, parse_instant};
use super::{ConfigArg, output};
use crate::adapter::kafka::KafkaAppender;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::ids::Region;
use crate::base::time::{Clock, UnixMs};
use crate::config::Config;
use crate::merge::hlc::Hlc;
use crate::ops::history::{History, instant, retained_since};
use crate::ops::rollback::job::{Job, file_of};
use crate::ops::rollback::{Plan, Rollback, Scribe, Undo, Written};
use crate::ops::{append, state_dir, topics};
use serde_json::json;
use std::time::Duration;

/// Undo what was written after an instant, in every region
///
/// For each vector that was changed since then, the newest change that is not undone is written once more (or a
/// delete, where there was none), to this region's change topic, from where every region follows. All of these
/// carry the instant at which the roll-back began: whatever is written meanwhile, anywhere, wins.
///
/// First it shows what would be done, and asks. Killed half-way, the same command goes on where it was. Done twice,
/// the second time finds nothing to do.
///
/// How far back it can go: min.compaction.lag.ms of the vectors changelog, 72 h as `topics create` sets it. Instants
/// are compared with the changes' stamps.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless rollback --config us.toml --to 2026-07-28T10:15:00Z --dry-run
  driftless rollback --config us.toml --to 2026-07-28T12:15:00+02:00 --collection products --origin us
  driftless rollback --config us.toml --to 2026-07-28T10:15:00Z --where deploy=1742 --yes

Exit codes: 0 done (or nothing to do), 1 failed; run it again to go on, 2 wrong usage or
configuration, or an instant that is not known any more, 130 interrupted; run it again to go on")]
pub struct RollbackArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// The instant to go back to: RFC 3339, with Z or an offset
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
    to: UnixMs,
    /// Only vectors of this collection; may be given several times
    #[arg(long = "collection", value_name = "NAME")]
    collections: Vec<String>,
    /// Undo only what was written in this region
    #[arg(long, value_name = "REGION")]
    origin: Option<String>,
    /// Undo only changes with this in their metadata; given several times, with all of it
    #[arg(long = "where", value_name = "KEY=VALUE", value_parser = parse_mark)]
    marked: Vec<(String, String)>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// How long to wait for another region, or for the workers here, while nothing gets better
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn parse_mark(text: &str) -> std::result::Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| "write KEY=VALUE".to_owned())
}

pub fn run(args: &RollbackArgs) -> Result<Exit> {
    let mut past = Past::open(Config::load(args.config.path())?)?;
    let undo = undo(args, &past)?;
    state_dir::prepare(&past.config.state_dir)?;
    let file = file_of(&past.config.state_dir, &undo);
    let (job, resumed) = match file.read::<Job>()? {
        Some(job) => (job, true),
        None => (Job::new(undo.until, one_off_writer()), false),
    };
    let kafka = past.kafka.clone();
    past.work(|history, work, config| {
        let mut registry = config.registry_client(&config.region)?;
        let registered = topics::register_schema(&mut registry, &config.topic_plan())?;
        let schema_id = registered.first().map_or(0, |(_, id)| *id);
        let scribe = Scribe { stamps: job.stamps(), writer: job.writer, schema_id, to: undo.to };
        let mut rollback = Rollback { undo: Undo { until: Hlc(job.until), ..undo }, scribe, patience: args.patience };
        if resumed {
            let begun = instant(Hlc(job.until).wall());
            work.note(format!("going on with the roll-back of {begun}, kept in {}", file.path().display()));
        }
        let plan = rollback.plan(history, work)?;
        if !args.json {
            output::print(&preview(&plan, history, args.to, Hlc(job.until)))?;
        }
        if args.dry_run {
            return finish(args, &plan, history, None);
        }
        if plan.rows() > 0 {
            confirm(args.yes, &format!("Restore {} and delete {} vectors in every region?", plan.restored, plan.deleted))?;
        }
        let mut note_stamps = |stamps: &[Hlc]| {
            let stamps = stamps.iter().map(|stamp| stamp.0).collect();
            file.write(&Job { stamps, ..job.clone() })
        };
        // On disk before the first change is in the log.
        note_stamps(&rollback.scribe.stamps)?;
        let mut appender = KafkaAppender::new(&kafka, append::wake())?;
        let written = rollback.carry_out(&plan, history, &mut appender, work, &mut note_stamps)?;
        file.remove()?;
        finish(args, &plan, history, Some(written))
    })
}

fn undo(args: &RollbackArgs, past: &Past) -> Result<Undo> {
    let mut collections = Vec::new();
    for name in &args.collections {
        collections.push(past.collection(name)?);
    }
    let origin = args.origin.as_ref().map(Region::new);
    if let Some(unknown) = origin.as_ref().filter(|origin| !past.config.regions.contains_key(origin)) {
        return Err(Error::refuse(format!("[regions] does not name {unknown}")));
    }
    let now = past.clock.now().wall;
    let retained = retained_since(&mut past.config.kafka_admin()?, &past.setting, now)?;
    if args.to >= now {
        return Err(Error::refuse(format!("{} lies in the future", instant(args.to))));
    }
    if args.to < retained {
        return Err(Error::refuse(format!(
            "{} is too long ago: what the vectors changelog surely still has begins at {} (its min.compaction.lag.ms)",
            instant(args.to),
            instant(retained)
        )));
    }
    let oldest_unproven = retained.0 - past.setting.max_lateness_ms - 60_000;
    Ok(Undo {
        to: args.to,
        until: Hlc::at(now),
        collections,
        origin,
        marked: args.marked.clone(),
        proven_since: UnixMs(oldest_unproven),
    })
}

/// Any number will do, as long as two roll-backs hardly ever have the same.
#[expect(clippy::disallowed_methods, reason = "an operator's command, not the engine: nothing is to be repeated from a seed")]
fn one_off_writer() -> u16 {
    rand::random()
}

fn preview(plan: &Plan, history: &History<'_>, to: UnixMs, until: Hlc) -> String {
    let setting = history.setting;
    let mut text = format!("back to {}; what is stamped at {} or later stays\n\n", instant(to), instant(until.wall()));
    if plan.rows() == 0 {
        text += "nothing to do: every vector is as it was then\n";
    } else {
        let heads = ["collection", "restored", "deleted"];
        let rows = plan.by_collection.iter().map(|(collection, (restored, deleted))| {
            vec![setting.collections.get(*collection).name.clone(), restored.to_string(), deleted.to_string()]
        });
        text += &output::table(&heads, rows.collect());
        let peers = setting.peers.len();
        text += &format!("\n{} to each of {peers} other regions\n", output::bytes(plan.bytes));
    }
    if plan.left_alone > 0 {
        text += &format!("{} vectors have been written again since and are left alone\n", plan.left_alone);
    }
    if !plan.sample.is_empty() {
        let heads = ["vector", "version now", "gets the content of"];
        let rows = plan.sample.iter().map(|row| {
            let name = &setting.collections.get(row.key.collection).name;
            let then = row.then.as_ref().map_or("(deleted)".to_owned(), ToString::to_string);
            vec![format!("{name} {}", row.key.id), row.now.to_string(), then]
        });
        text += &format!("\n{}", output::table(&heads, rows.collect()));
    }
    text + "\n"
}

fn finish(args: &RollbackArgs, plan: &Plan, history: &History<'_>, written: Option<Written>) -> Result<Exit> {
    if args.json {
        output::print_json(&as_json(plan, history, written.as_ref()))?;
    } else if let Some(written) = written {
        output::print_line(&format!(
            "done: {} restored, {} deleted, {} written",
            written.restored,
            written.deleted,
            output::bytes(written.bytes)
        ))?;
    }
    Ok(Exit::DONE)
}

fn as_json(plan: &Plan, history: &History<'_>, written: Option<&Written>) -> serde_json::Value {
    let setting = history.setting;
    let sample = plan.sample.iter().map(|row| {
        json!({
            "collection": setting.collections.get(row.key.collection).name,
            "id": row.key.id.to_string(),
            "now": row.now.to_string(),
            "then": row.then.as_ref().map(ToString::to_string),
        })
    });
    json!({
        "restored": plan.restored,
        "deleted": plan.deleted,
        "left_alone": plan.left_alone,
        "bytes": plan.bytes,
        "peers": setting.peers.len(),
        "sample": sample.collect::<Vec<_>>(),
        "written": written.map(|written| json!({
            "restored": written.restored,
            "deleted": written.deleted,
            "bytes": written.bytes,
        })),
    })
}
