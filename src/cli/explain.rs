//! `driftless explain`.

use super::past::Past;
use super::{ConfigArg, output};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::ids::RowKey;
use crate::config::Config;
use crate::ops::explain::{self, Explanation, Line};
use crate::ops::history::instant;
use crate::record::change::Op;
use crate::record::id::{WrittenId, parse_id};
use serde_json::json;

/// Show why a vector is what it is: every change of it, what became of each, and what is held now
///
/// Reads the change topics and changelogs of this region as far back as they go, and asks its Milvus. Each change
/// is listed with its version, where it came from, the verdict on it and why; then what the changelogs (and so
/// the workers' stores) and Milvus hold now, and whether they agree.
///
/// Changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless explain --config us.toml products 0b6f2a0e-6f3e-4c9e-8d5b-0d9f5f1f7c11
  driftless explain --config us.toml products 4711 --json | jq '.changes[] | select(.verdict == \"conflict\")'

Verdicts:
  winner         it took the row; until which version, or it holds it now
  duplicate      the same change again
  stale          it loses to a version of the same origin
  conflict       it loses to a version of another origin
  twin           another change has the same version and the greater content hash
  refused        this region's Milvus does not take the row
  dead-lettered  it could not be applied anywhere; the reason says why
  re-keyed       its own region appended it again under its proper key
  below-floor    a replay of something that a delete, forgotten since, had beaten
  pending        not looked at yet

Exit codes: 0 all agree, 1 failed, 2 wrong usage or configuration, 3 they do not agree (a change
on its way also shows so for a moment), 130 interrupted")]
pub struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// The collection, as the configuration names it
    #[arg(value_name = "COLLECTION")]
    collection: String,
    /// The vector's id, in its canonical form
    #[arg(value_name = "ID", allow_hyphen_values = true)]
    id: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &ExplainArgs) -> Result<Exit> {
    let mut past = Past::open(Config::load(args.config.path())?)?;
    let collection = past.collection(&args.collection)?;
    let spec = past.setting.collections.get(collection);
    let id = parse_id(spec.id, WrittenId::Text(&args.id)).map_err(|rejection| Error::refuse(rejection.detail))?;
    let key = RowKey { collection, id };
    let mut store = past.store(past.setting.collections.clone())?;
    past.work(|history, work, _| {
        let explanation = explain::tell(&explain::find(history, &mut store, &key, work)?);
        if args.json {
            output::print_json(&as_json(&explanation))?
        } else {
            output::print(&as_text(&explanation))?
        }
        Ok(if explanation.agrees() { Exit::DONE } else { Exit::DIFFERENT })
    })
}

fn version_of(line: &Line) -> String {
    line.offered.seen.as_ref().map_or("?".to_owned(), |seen| seen.version.to_string())
}

fn op_of(line: &Line) -> &'static str {
    match line.offered.seen.as_ref().map(|seen| seen.op) {
        Some(Op::Upsert) => "upsert",
        Some(Op::Delete) => "delete",
        None => "?",
    }
}

fn why(line: &Line) -> String {
    match line.offered.rolled_back_to {
        Some(to) => format!("{} (written by a roll-back to {})", line.why, instant(to)),
        None => line.why.clone(),
    }
}

fn as_text(explanation: &Explanation) -> String {
    let mut text = String::new();
    if explanation.lines.is_empty() {
        text += "no change of it is in the change topics any more, or ever was\n";
    } else {
        let heads = ["stamped", "version", "op", "source", "offset", "verdict", "why"];
        let rows = explanation.lines.iter().map(|line| {
            let stamped = line.offered.seen.as_ref().map_or("?".to_owned(), |seen| instant(seen.version.hlc.wall()));
            vec![
                stamped,
                version_of(line),
                op_of(line).to_owned(),
                line.offered.source.to_string(),
                line.offered.offset.to_string(),
                line.verdict.to_owned(),
                why(line),
            ]
        });
        text += &output::table(&heads, rows.collect());
    }
    text += "\nheld now:\n";
    for held in &explanation.held {
        let mark = match held.agrees {
            Some(true) => "  ",
            Some(false) => "≠ ",
            None => "? ",
        };
        text += &format!("{mark}{}: {}\n", held.keeper, held.says);
    }
    text + if explanation.agrees() { "they agree\n" } else { "they do not agree\n" }
}

fn as_json(explanation: &Explanation) -> serde_json::Value {
    let changes = explanation.lines.iter().map(|line| {
        let version = line.offered.seen.as_ref().map(|seen| &seen.version);
        json!({
            "version": version.map(|version| json!({
                "hlc": version.hlc.0,
                "origin": version.origin,
                "sequence": version.sequence,
            })),
            "stamped": version.map(|version| instant(version.hlc.wall())),
            "op": op_of(line),
            "topic": &*line.offered.source.topic,
            "partition": line.offered.source.partition,
            "offset": line.offered.offset,
            "appended_at": line.offered.appended_at.0,
            "verdict": line.verdict,
            "why": why(line),
        })
    });
    let held = explanation.held.iter().map(|held| json!({ "keeper": held.keeper, "says": held.says, "agrees": held.agrees }));
    json!({
        "changes": changes.collect::<Vec<_>>(),
        "held": held.collect::<Vec<_>>(),
        "agrees": explanation.agrees(),
    })
}
