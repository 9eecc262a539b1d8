//! `driftless lag`.

mod table;

use super::output;
use super::past::setting;
use crate::adapter::kafka::KafkaLogReader;
use crate::adapter::system::{CtrlC, SystemClock};
use crate::adapter::worker;
use crate::app::prepare::kafka_settings;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::time::Clock;
use crate::config::Config;
use crate::ops::lag::outside::Outside;
use crate::ops::lag::{LagTable, told};
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use table::Trend;

/// Show how far this region is behind each region, stage by stage
///
/// With --config it looks at the region's Kafka alone, so it works while no worker does: what has arrived, and what the
/// progress records say to be settled. With --worker it asks workers, which know more stages, to the millisecond; name
/// all workers of the region, since each knows its own partitions only. Of all partitions the worst is shown.
///
/// A lag is 0 while nothing waits and heartbeats come. Changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless lag --config eu.toml
  driftless lag --config eu.toml --watch
  driftless lag --worker 127.0.0.1:9464 --worker 127.0.0.1:9465 --watch
  driftless lag --config eu.toml --json | jq '.sources[] | select(.lag_ms.acknowledged > 1000)'

Stages:
  arrived       in this region's Kafka: the link, and MirrorMaker (--config)
  polled        taken by a worker (--worker)
  merged        judged (--worker)
  acknowledged  all that it led to is acknowledged, by Milvus and the changelogs, and with --config
                said to be in a progress record, which is written each commit interval
  visible       found by a reader who asks Milvus for no consistency, as far as the worker's own
                canary row tells (--worker)

Silent partitions: those whose newest heartbeat is more than two seconds old. In its own region nobody
writes them; in another one it may as well be the link.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted")]
pub struct LagArgs {
    /// The configuration of this region; docker/driftless/us.toml is an annotated example
    #[arg(long, value_name = "FILE", required_unless_present = "worker", conflicts_with = "worker")]
    config: Option<PathBuf>,
    /// Ask this worker, at its [http] listen; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    worker: Vec<String>,
    /// Look again and again until Ctrl-C, with what the lag was
    #[arg(long)]
    watch: bool,
    /// How long to wait between two looks
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Print one JSON object, or with --watch one a line
    #[arg(long)]
    json: bool,
}

pub fn run(args: &LagArgs) -> Result<Exit> {
    let clock = SystemClock::start();
    let mut look = looker(args, clock)?;
    if !args.watch {
        let found = look()?;
        let printed = if args.json { output::print_json(&found) } else { output::print(&table::text(&found, None)) };
        return printed.map(|()| Exit::DONE);
    }
    watch(args, &clock, &mut *look)
}

type Look = Box<dyn FnMut() -> Result<LagTable>>;

fn looker(args: &LagArgs, clock: SystemClock) -> Result<Look> {
    let Some(path) = &args.config else {
        let workers = args.worker.clone();
        return Ok(Box::new(move || {
            let mut answers = Vec::new();
            for address in &workers {
                answers.push((address.clone(), worker::get(address, "/tasks")?));
            }
            told::together(&answers, clock.now().wall)
        }));
    };
    let config = Config::load(path)?;
    let mut reader = KafkaLogReader::new(&kafka_settings(&config, 0))?;
    let mut outside = Outside::new(setting(&config));
    Ok(Box::new(move || outside.look(&mut reader, &clock)))
}

/// What fails in the middle is told, and tried again: whoever watches wants to see it come back.
fn watch(args: &LagArgs, clock: &SystemClock, look: &mut dyn FnMut() -> Result<LagTable>) -> Result<Exit> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (flag, caller) = (interrupted.clone(), std::thread::current());
    let ctrl_c = CtrlC::listen(move || {
        flag.store(true, Ordering::Relaxed);
        caller.unpark();
    });
    let _ctrl_c = ctrl_c.map_err(|error| Error::fatal(format!("Ctrl-C cannot be listened to: {error}")))?;
    let mut trend = Trend::default();
    let mut first = true;
    while !interrupted.load(Ordering::Relaxed) {
        let begun = clock.now().monotonic;
        match look() {
            Ok(found) if args.json => output::print_line(&as_line(&found)?)?,
            Ok(found) => {
                trend.note(&found);
                show(&table::text(&found, Some(&trend)))?;
            }
            Err(error) if first => return Err(error),
            Err(error) => eprintln!("driftless: {error}"),
        }
        first = false;
        let due = begun + args.interval;
        while !interrupted.load(Ordering::Relaxed) && clock.now().monotonic < due {
            std::thread::park_timeout(due.saturating_sub(clock.now().monotonic));
        }
    }
    Ok(Exit::INTERRUPTED)
}

fn as_line(found: &LagTable) -> Result<String> {
    serde_json::to_string(found).map_err(|error| Error::fatal(format!("the answer is not JSON: {error}")))
}

/// In the place of the last one on a terminal, below it elsewhere.
fn show(text: &str) -> Result<()> {
    if stdout().is_terminal() {
        // Home, each line's rest cleared, and all below the last one.
        let lines = text.replace('\n', "\x1b[K\n");
        return output::print(&format!("\x1b[H{lines}\x1b[J"));
    }
    output::print(&format!("{text}\n"))
}
