//! `driftless rebuild`.

use super::confirm::confirm;
use super::past::{Past, parse_instant};
use super::{ConfigArg, output};
use crate::adapter::milvus::MilvusGenerations;
use crate::app::prepare::milvus_settings;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::ids::CollectionId;
use crate::base::time::{Clock, UnixMs};
use crate::config::Config;
use crate::ops::history::{instant, retained_since};
use crate::ops::job::JobFile;
use crate::ops::rebuild::{self, Rebuild, Rebuilt};
use crate::ops::state_dir;
use crate::port::vector::VectorAdmin;
use serde_json::json;
use std::time::Duration;

/// Make a collection in Milvus anew from the log, and put it in the old one's place
///
/// Reads the vectors changelog of this region into a new collection (`<name>__g2`, then `__g3`, ...), compares
/// counts and digests, follows what is written meanwhile, and lets the alias stand for the new one. Workers go on
/// all along, and so do readers: until the swap they see the old collection, then the new one. The old one is kept.
///
/// Killed before the swap, the alias still stands for the old collection, and the same command begins clean; after
/// it, the same command goes on.
///
/// With --at, the rows as they were at an instant go into a collection of their own, and the alias is left alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless rebuild --config us.toml --collection products
  driftless rebuild --config us.toml --collection products --at 2026-07-28T10:15:00Z
  driftless rebuild --config us.toml --drop-old --yes

Exit codes: 0 done, 1 failed; run it again, 2 wrong usage or configuration, or an instant that is
not known any more, 130 interrupted; run it again")]
pub struct RebuildArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Only this collection; may be given several times [default: all]
    #[arg(long = "collection", value_name = "NAME")]
    collections: Vec<String>,
    /// Fill a collection beside with the rows as they were at this instant (RFC 3339)
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant, conflicts_with = "drop_old")]
    at: Option<UnixMs>,
    /// Rebuild nothing: drop what earlier rebuilds have left behind, and what --at has made
    #[arg(long)]
    drop_old: bool,
    /// Drop without asking
    #[arg(long)]
    yes: bool,
    /// How long to wait for the workers, while nothing gets better
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

pub fn run(args: &RebuildArgs) -> Result<Exit> {
    let mut past = Past::open(Config::load(args.config.path())?)?;
    let mut collections: Vec<CollectionId> = Vec::new();
    for name in &args.collections {
        collections.push(past.collection(name)?);
    }
    if collections.is_empty() {
        collections = past.setting.collections.iter().map(|(id, _)| id).collect();
    }
    state_dir::prepare(&past.config.state_dir)?;
    let mut admin = MilvusGenerations::connect(past.runtime.handle().clone(), &milvus_settings(&past.config))?;
    if args.drop_old {
        return drop_old(args, &past, &mut admin, &collections);
    }
    if let Some(at) = args.at {
        check_instant(&past, at)?;
    }
    let mut done = Vec::new();
    for collection in collections {
        let exit = one(args, &mut past, &mut admin, collection, &mut done)?;
        if exit != Exit::DONE {
            return Ok(exit);
        }
    }
    if args.json {
        output::print_json(&done.iter().map(as_json).collect::<Vec<_>>())?;
    }
    Ok(Exit::DONE)
}

fn file_of(past: &Past, collection: CollectionId) -> JobFile {
    JobFile::of(&past.config.state_dir, "rebuild", &past.setting.collections.get(collection).name)
}

fn check_instant(past: &Past, at: UnixMs) -> Result<()> {
    let now = past.clock.now().wall;
    let retained = retained_since(&mut past.config.kafka_admin()?, &past.setting, now)?;
    if at >= now {
        return Err(Error::refuse(format!("{} lies in the future", instant(at))));
    }
    if at < retained {
        return Err(Error::refuse(format!(
            "{} is too long ago: what the vectors changelog surely still has begins at {} (its min.compaction.lag.ms)",
            instant(at),
            instant(retained)
        )));
    }
    Ok(())
}

fn one(
    args: &RebuildArgs,
    past: &mut Past,
    admin: &mut MilvusGenerations,
    collection: CollectionId,
    done: &mut Vec<Rebuilt>,
) -> Result<Exit> {
    let file = file_of(past, collection);
    let mut open = past.opener();
    past.work(|history, work, _| {
        let mut rebuild = Rebuild { collection, admin, open: &mut open, file: &file, patience: args.patience };
        let rebuilt = match args.at {
            Some(at) => rebuild.run_at(at, history, work)?,
            None => rebuild.run(history, work)?,
        };
        if !args.json {
            output::print(&as_text(&rebuilt))?;
        }
        done.push(rebuilt);
        Ok(Exit::DONE)
    })
}

fn as_text(rebuilt: &Rebuilt) -> String {
    let Rebuilt { new, old, rows, followed, refused } = rebuilt;
    let mut text = format!("done: {new} has {rows} rows from the changelog");
    match old {
        Some(old) => text += &format!(", {followed} changes followed; {old} is kept: `driftless rebuild --drop-old` drops it\n"),
        None => text += "; the alias is left as it was, and `driftless rebuild --drop-old` drops this one\n",
    }
    if *refused > 0 {
        text += &format!("{refused} rows are not taken by this Milvus and are left out, as before\n");
    }
    text
}

fn as_json(rebuilt: &Rebuilt) -> serde_json::Value {
    json!({
        "collection": rebuilt.new,
        "replaces": rebuilt.old,
        "rows": rebuilt.rows,
        "followed": rebuilt.followed,
        "refused": rebuilt.refused,
    })
}

fn drop_old(args: &RebuildArgs, past: &Past, admin: &mut dyn VectorAdmin, collections: &[CollectionId]) -> Result<Exit> {
    let mut dropped = Vec::new();
    for collection in collections {
        let old = rebuild::old(admin, &past.setting.collections.get(*collection).name)?;
        if old.is_empty() {
            continue;
        }
        confirm(args.yes, &format!("Drop {}?", old.join(", ")))?;
        rebuild::drop_old(admin, &old, &file_of(past, *collection))?;
        dropped.extend(old);
    }
    if args.json {
        output::print_json(&dropped)?;
    } else if dropped.is_empty() {
        output::print_line("nothing to drop")?;
    } else {
        output::print_line(&format!("dropped {}", dropped.join(", ")))?;
    }
    Ok(Exit::DONE)
}
