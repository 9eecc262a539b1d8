//! `driftless demo`.

use super::output;
use crate::app::logging;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::demo::{self, DemoError, DemoOptions};
use std::net::SocketAddr;

/// Three regions in one process, under trouble, and the proof that they end up the same
///
/// Needs nothing installed. Writers in each region send changes, with duplicates, late and conflicting writes
/// and skewed clocks among them; links delay by 30 ms, and one is cut for a while and healed. At the end every
/// region's content is compared vector by vector.
///
/// What is written is a function of --seed, --changes, --vectors and --dim alone: equal ones give an equal digest.
///
/// With --serve it goes on until Ctrl-C, and the console shows it: cut a link there, and watch.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless demo
  driftless demo --seed 7 --changes 100000 --seconds 30
  driftless demo --json 2>/dev/null | jq .digest
  driftless demo --serve

Progress goes to standard error: a live view on a terminal (q ends it), plain lines elsewhere.
The result goes to standard output.

Exit codes: 0 converged in spite of every kind of trouble, 1 failed, 2 wrong usage,
3 not converged (or some kind of trouble did not occur), 130 interrupted;
with --serve, Ctrl-C is the way to end it: 0")]
pub struct DemoArgs {
    /// Another seed, other changes
    #[arg(long, default_value_t = DemoOptions::default().seed, value_name = "N")]
    seed: u64,
    /// How many changes are written, in all regions together [default: 20000; with --serve 200 a second]
    #[arg(long, value_name = "N")]
    changes: Option<usize>,
    /// How many vectors they are about
    #[arg(long, default_value_t = DemoOptions::default().vectors, value_name = "N")]
    vectors: usize,
    /// Floats in each vector
    #[arg(long, default_value_t = DemoOptions::default().dim, value_name = "N")]
    dim: usize,
    /// How long the writing takes (with --serve, until it begins again with other changes); changes nothing else
    #[arg(long, default_value_t = DemoOptions::default().seconds, value_name = "N")]
    seconds: u64,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
    /// Go on writing until Ctrl-C, and serve the console at this address [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "127.0.0.1:9464", conflicts_with = "json")]
    serve: Option<SocketAddr>,
}

/// Of --serve, where --changes does not say another rate.
const SERVED_PER_SECOND: usize = 200;

pub fn run(args: &DemoArgs) -> Result<Exit> {
    let options = options(args);
    match args.serve {
        Some(listen) => serve(&options, listen),
        None => run_once(args, &options),
    }
}

fn options(args: &DemoArgs) -> DemoOptions {
    let changes = match args.serve {
        None => DemoOptions::default().changes,
        Some(_) => SERVED_PER_SECOND.saturating_mul(args.seconds as usize),
    };
    DemoOptions {
        seed: args.seed,
        changes: args.changes.unwrap_or(changes),
        vectors: args.vectors,
        dim: args.dim,
        seconds: args.seconds,
        json: args.json,
    }
}

fn serve(options: &DemoOptions, listen: SocketAddr) -> Result<Exit> {
    let told = |address| eprintln!("console: http://{address}/  (Ctrl-C ends)");
    demo::serve(options, listen, told).map(|()| Exit::DONE).map_err(to_error)
}

fn run_once(args: &DemoArgs, options: &DemoOptions) -> Result<Exit> {
    let held = demo::is_page(options).then(logging::hold);
    let ended = demo::run(options);
    drop(held);
    match ended {
        Ok(report) if args.json => {
            for sentence in report.shortcomings() {
                eprintln!("driftless: {sentence}");
            }
            output::print_json(&report).map(|()| Exit(report.exit_code()))
        }
        Ok(report) => output::print(&report.to_string()).map(|()| Exit(report.exit_code())),
        Err(DemoError::Interrupted) => Ok(Exit::INTERRUPTED),
        Err(error) => Err(to_error(error)),
    }
}

fn to_error(error: DemoError) -> Error {
    if Exit(error.exit_code()) == Exit::WRONG { Error::refuse(error) } else { Error::fatal(error) }
}
