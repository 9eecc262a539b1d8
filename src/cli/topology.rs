//! `driftless topology describe|validate`.

use super::output;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::fault::Faults;
use crate::config::TopologyFile;
use crate::processor;
use crate::topology::build::{NodeTypes, Topology};
use crate::topology::{describe, spec};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Subcommand)]
pub enum TopologyCommand {
    Describe(DescribeArgs),
    Validate(ValidateArgs),
}

/// Print a topology as Kafka Streams does
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless topology describe
  driftless topology describe my-topology.toml --json

Exit codes: 0 printed, 2 the file has faults (they are told as by `validate`)")]
pub struct DescribeArgs {
    /// A topology file; without it, the built-in one
    file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Report every fault of a topology file, with line, column and remedy
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless topology validate my-topology.toml
  driftless topology validate my-topology.toml --json | jq '.faults[].message'

Exit codes: 0 no faults, 2 faults")]
pub struct ValidateArgs {
    /// A topology file
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(command: &TopologyCommand) -> Result<Exit> {
    match command {
        TopologyCommand::Describe(args) => describe(args),
        TopologyCommand::Validate(args) => validate(args),
    }
}

fn describe(args: &DescribeArgs) -> Result<Exit> {
    let topology = match &args.file {
        Some(file) => parse(file)??,
        None => Topology::parse(spec::REPLICATE_FILE, spec::REPLICATE, &standard_types())?,
    };
    if args.json {
        output::print_json(&describe::json(&topology))?;
    } else {
        output::print(&describe::text(&topology))?;
    }
    Ok(Exit::DONE)
}

fn validate(args: &ValidateArgs) -> Result<Exit> {
    let parsed = parse(&args.file)?;
    let file = args.file.display().to_string();
    match parsed {
        Ok(_) if args.json => output::print_json(&json!({ "file": file, "faults": [] }))?,
        Ok(topology) => output::print_line(&format!("{file}: {} nodes, no faults", topology.nodes.len()))?,
        Err(faults) => {
            if args.json {
                output::print_json(&json!({ "file": file, "faults": faults }))?;
            } else {
                let count = if faults.len() == 1 { "1 fault".to_owned() } else { format!("{} faults", faults.len()) };
                output::print_line(&format!("{faults}\n\n{file}: {count}"))?;
            }
            return Ok(Exit::WRONG);
        }
    }
    Ok(Exit::DONE)
}

fn parse(file: &Path) -> Result<std::result::Result<Topology, Faults>> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::refuse(format!("{name}: {error}; name a readable topology file")))?;
    Ok(Topology::parse(&name, &text, &standard_types()))
}

/// The number of nodes, if it has no faults.
pub(super) fn check(file: &TopologyFile) -> std::result::Result<usize, Faults> {
    Topology::parse(&file.name, &file.text, &standard_types()).map(|topology| topology.nodes.len())
}

pub(super) fn standard_types() -> NodeTypes {
    let mut types = NodeTypes::default();
    processor::register_standard(&mut types);
    types
}
