//! The command line: what may be asked for, how answers are printed, and which exit code they end with.
//!
//! Results go to standard output, logs and errors to standard error. Each subcommand has a file: its arguments
//! as given, and a `run` that turns them into what the library takes.

mod confirm;
mod dead_letter;
mod demo;
mod diff;
mod doctor;
mod doing;
mod explain;
mod lag;
mod output;
mod pages;
mod past;
mod rebuild;
mod resync;
mod rollback;
mod sim;
mod topics;
mod topology;
mod worker;

pub use pages::{Page, pages};

use crate::app::logging::{self, LogFormat};
use crate::base::error::Result;
use crate::base::exit::Exit;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed; the message says at what
  2    wrong usage or configuration
  3    not converged, or differences found
  130  interrupted";

/// Keeps Milvus vector collections the same in every region
///
/// A worker in each region reads the change topics of all regions from its own Kafka (MirrorMaker 2 brings the
/// others'), keeps the last writer of each vector, and writes the winners to that region's Milvus.
///
/// Try `driftless demo`: it needs nothing installed.
#[derive(Debug, Parser)]
#[command(name = "driftless", version, after_help = EXIT_CODES, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What to log: error, warn, info, debug or trace; or by module, such as "info,driftless::stream=debug".
    /// [default: info for the worker, else warn]
    #[arg(long, global = true, help_heading = "Logging", env = "DRIFTLESS_LOG", hide_env_values = true, value_name = "LEVEL")]
    log_level: Option<String>,

    /// How to write logs, always to standard error
    #[arg(long, global = true, help_heading = "Logging", value_enum, default_value = "human", value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    Worker(worker::WorkerArgs),
    Demo(demo::DemoArgs),
    /// Look at a topology file
    #[command(subcommand)]
    Topology(topology::TopologyCommand),
    /// Make the topics of a region, or compare them with what is recommended
    #[command(subcommand)]
    Topics(topics::TopicsCommand),
    Sim(sim::SimArgs),
    Doctor(doctor::DoctorArgs),
    Diff(diff::DiffArgs),
    Resync(resync::ResyncArgs),
    /// Look at changes that could not be applied, and offer them again
    #[command(subcommand, name = "dead-letter")]
    DeadLetter(dead_letter::DeadLetterCommand),
    Lag(lag::LagArgs),
    Explain(explain::ExplainArgs),
    Rollback(rollback::RollbackArgs),
    Rebuild(rebuild::RebuildArgs),
}

/// The configuration that most commands take.
#[derive(Debug, clap::Args)]
struct ConfigArg {
    /// The configuration of this region; docker/driftless/us.toml is an annotated example
    #[arg(long = "config", value_name = "FILE")]
    path: PathBuf,
}

impl ConfigArg {
    fn path(&self) -> &Path {
        &self.path
    }
}

/// Parses the arguments of this process, runs the command and answers its exit code.
pub fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let default_level = match cli.command {
        Command::Worker(_) => "info",
        // What simulated workers complain of is what is done to them.
        Command::Sim(_) => "off",
        _ => "warn,librdkafka=off,rdkafka=off",
    };
    let level = cli.log_level.as_deref().unwrap_or(default_level);
    let outcome = logging::start(level, cli.log_format).and_then(|()| cli.command.run());
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            let text = error.to_string();
            // Several faults: each on lines of its own, so that `file:line:column` can be followed.
            let separator = if text.contains('\n') { "\n" } else { " " };
            eprintln!("driftless:{separator}{text}");
            Exit::of(&error).into()
        }
    }
}

impl Command {
    fn run(self) -> Result<Exit> {
        match self {
            Command::Worker(args) => worker::run(&args),
            Command::Demo(args) => demo::run(&args),
            Command::Topology(command) => topology::run(&command),
            Command::Topics(command) => topics::run(&command),
            Command::Sim(args) => sim::run(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Diff(args) => diff::run(&args),
            Command::Resync(args) => resync::run(&args),
            Command::DeadLetter(command) => dead_letter::run(&command),
            Command::Lag(args) => lag::run(&args),
            Command::Explain(args) => explain::run(&args),
            Command::Rollback(args) => rollback::run(&args),
            Command::Rebuild(args) => rebuild::run(&args),
        }
    }
}
