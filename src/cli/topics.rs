//! `driftless topics create|check`.

use super::{ConfigArg, output};
use crate::base::error::Result;
use crate::base::exit::Exit;
use crate::config::Config;
use crate::ops::finding::{Finding, Level, worst};
use crate::ops::topics;
use crate::port::admin::Creation;
use serde_json::json;

#[derive(Debug, clap::Subcommand)]
pub enum TopicsCommand {
    Create(CreateArgs),
    Check(CheckArgs),
}

/// Make the topics of this region that are missing, and register the change schema
///
/// The local change topics, the mirrors of every peer (before MirrorMaker makes them with settings of its own),
/// the changelogs, dead letters and conflicts. What exists is left as it is: its differences are told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless topics create --config us.toml
  driftless topics create --config us.toml --json

Run it in every region, before MirrorMaker starts. Running it again does no harm.

Exit codes: 0 all topics are there, 1 failed, 2 wrong configuration (such as a replication
factor above the number of brokers), 3 an existing topic cannot be used as it is")]
pub struct CreateArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Compare the topics of this region with what is recommended, and say why it matters
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless topics check --config us.toml
  driftless topics check --config us.toml --json | jq '.findings[] | select(.level != \"ok\")'

Exit codes: 0 no differences, 1 failed, 2 wrong configuration, 3 differences found")]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(command: &TopicsCommand) -> Result<Exit> {
    match command {
        TopicsCommand::Create(args) => create(args),
        TopicsCommand::Check(args) => check(args),
    }
}

fn create(args: &CreateArgs) -> Result<Exit> {
    let config = Config::load(args.config.path())?;
    let plan = config.topic_plan();
    let mut admin = config.kafka_admin()?;
    let creations = topics::create(&mut admin, &plan)?;
    let schemas = topics::register_schema(&mut config.registry_client(&config.region)?, &plan)?;
    let mut findings = topics::check(&mut admin, &plan)?;
    findings.retain(|finding| finding.level != Level::Ok);
    if args.json {
        let topics: Vec<_> = creations
            .iter()
            .map(|made| json!({ "topic": &*made.topic, "created": made.creation == Creation::Created }))
            .collect();
        let schemas: Vec<_> = schemas.iter().map(|(subject, id)| json!({ "subject": subject, "id": id })).collect();
        output::print_json(&json!({ "topics": topics, "schemas": schemas, "differences": findings }))?;
    } else {
        for made in &creations {
            let word = if made.creation == Creation::Created { "created  " } else { "was there" };
            output::print_line(&format!("{word}  {}", made.topic))?;
        }
        for (subject, id) in &schemas {
            output::print_line(&format!("schema     {subject} has id {id}"))?;
        }
        if !findings.is_empty() {
            output::print(&format!("\n{}", output::findings_text(&findings)))?;
        }
    }
    Ok(if worst(&findings) == Level::Fail { Exit::DIFFERENT } else { Exit::DONE })
}

fn check(args: &CheckArgs) -> Result<Exit> {
    let config = Config::load(args.config.path())?;
    let plan = config.topic_plan();
    let mut findings = topics::check(&mut config.kafka_admin()?, &plan)?;
    findings.extend(topics::check_schema(&mut config.registry_client(&config.region)?, &plan)?);
    print_findings(&findings, args.json)?;
    Ok(if worst(&findings) == Level::Ok { Exit::DONE } else { Exit::DIFFERENT })
}

pub(super) fn print_findings(findings: &[Finding], as_json: bool) -> Result<()> {
    if as_json { output::print_json(&json!({ "findings": findings })) } else { output::print(&output::findings_text(findings)) }
}
