//! `driftless import`.

use super::confirm::confirm;
use super::past::Past;
use super::{ConfigArg, output};
use crate::adapter::kafka::KafkaAppender;
use crate::adapter::milvus::{MilvusForeign, MilvusGenerations};
use crate::app::prepare::milvus_settings;
use crate::base::error::Result;
use crate::base::exit::Exit;
use crate::config::Config;
use crate::ops::import::place::{self, Place};
use crate::ops::import::{Import, Imported};
use crate::ops::{append, topics};
use serde_json::json;
use std::num::NonZeroU32;
use std::time::Duration;

/// Take on a collection that Milvus already held
///
/// Its rows become changes on this region's change topic, like anybody's writes, so that every region gets them. They
/// carry a stamp of nearly [topics] max_lateness ago: what anybody has written since, and writes meanwhile, wins. Rows
/// that Driftless knew before are left alone. The old collection is only read; drop it when you trust the new one.
///
/// A collection that has the configured name itself is renamed to NAME__before first (it asks), since that name is to
/// be an alias: until this is done, searches by it see the rows that have arrived; NAME__before has all of them. The
/// primary key becomes the id, the one float vector the vector, all else metadata.
///
/// Nobody may write to the old collection any more. Workers must run, here and in every region; before room is made
/// they can't, so start them when it asks for them. Killed, the same command goes on where it was.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless import products --config us.toml --dry-run
  driftless import products --config us.toml
  driftless import products --from products_2023 --config us.toml --rows-per-second 500

Exit codes: 0 every row is known here, 1 failed; run it again to go on, 2 wrong usage or
configuration, 3 some rows could not be taken on, 130 interrupted; run it again to go on")]
pub struct ImportArgs {
    /// The collection as it is configured
    #[arg(value_name = "NAME")]
    collection: String,
    #[command(flatten)]
    config: ConfigArg,
    /// What the old collection is called [default: NAME, or NAME__before once it is renamed]
    #[arg(long, value_name = "OLD")]
    from: Option<String>,
    /// Changes written in a second, at most
    #[arg(long, value_name = "ROWS", default_value = "2000")]
    rows_per_second: NonZeroU32,
    /// Only read, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Rename and write without asking
    #[arg(long)]
    yes: bool,
    /// How long to wait for workers, here and there, while nothing gets better
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The upper 16 bits of the sequences of what an import writes.
const WRITER: u16 = u16::MAX;

pub fn run(args: &ImportArgs) -> Result<Exit> {
    let mut past = Past::open(Config::load(args.config.path())?)?;
    let collection = past.collection(&args.collection)?;
    let spec = past.setting.collections.get(collection).clone();
    let (runtime, settings) = (past.runtime.handle().clone(), milvus_settings(&past.config));
    let mut admin = MilvusGenerations::connect(runtime.clone(), &settings)?;
    let place = place::find(&mut admin, &spec.name, args.from.as_deref())?;
    // Not renamed yet in a dry run.
    let old = if args.dry_run && place.is_in_the_way { &spec.name } else { &place.old };
    if !args.dry_run {
        confirm(args.yes, &question(&spec.name, &place))?;
        place::make_room(&mut admin, &spec, &place)?;
    }
    let mut rows = MilvusForeign::open(runtime, &settings, old, &spec)?;
    let kafka = past.kafka.clone();
    past.work(|history, work, config| {
        let mut registry = config.registry_client(&config.region)?;
        let registered = topics::register_schema(&mut registry, &config.topic_plan())?;
        let mut appender = KafkaAppender::new(&kafka, append::wake())?;
        let mut import = Import {
            collection,
            rows: &mut rows,
            appender: &mut appender,
            schema_id: registered.first().map_or(0, |(_, id)| *id),
            writer: WRITER,
            rows_per_second: args.rows_per_second,
            patience: args.patience,
            dry_run: args.dry_run,
        };
        let imported = import.run(history, work)?;
        if args.json {
            output::print_json(&as_json(args, &place, &imported))?;
        } else {
            output::print(&text(args, &place, &imported))?;
        }
        Ok(if imported.is_whole() { Exit::DONE } else { Exit::DIFFERENT })
    })
}

fn question(name: &str, place: &Place) -> String {
    let old = &place.old;
    if place.is_in_the_way {
        return format!(
            "Rename the collection {name} to {old}, let {name} stand for a new one, and write every row of {old} to it in every region? Searches by {name} see the rows as they arrive."
        );
    }
    format!("Write every row of {old} that is not known yet to {name}, in every region?")
}

fn text(args: &ImportArgs, place: &Place, imported: &Imported) -> String {
    let would = if args.dry_run { "would be " } else { "" };
    let mut text = format!(
        "{} rows in {}: {} {would}written ({}), {} known before, {} that no change can be made of\n",
        imported.rows,
        place.old,
        imported.written,
        output::bytes(imported.bytes),
        imported.known,
        imported.unfit
    );
    for sentence in &imported.unfit_told {
        text += &format!("not taken on: {sentence}\n");
    }
    if !args.dry_run {
        text += &match imported.missing {
            0 => format!("verified: this region knows every other id of {}\n", place.old),
            missing => format!("{missing} ids are not known here: look at the dead letters, then run it again\n"),
        };
    }
    for sentence in &imported.missing_told {
        text += &format!("missing: {sentence}\n");
    }
    text
}

fn as_json(args: &ImportArgs, place: &Place, imported: &Imported) -> serde_json::Value {
    json!({
        "collection": args.collection,
        "from": place.old,
        "dry_run": args.dry_run,
        "rows": imported.rows,
        "written": imported.written,
        "bytes": imported.bytes,
        "known": imported.known,
        "unfit": imported.unfit,
        "unfit_sample": imported.unfit_told,
        "missing": imported.missing,
        "missing_sample": imported.missing_told,
    })
}
