//! `driftless worker`.

use super::ConfigArg;
use super::topology::standard_types;
use crate::app;
use crate::base::error::Result;
use crate::base::exit::Exit;
use crate::config::Config;
use crate::ops::state_dir;

/// Keep this region's Milvus equal to the last writer of every vector
///
/// Joins the consumer group of this region's workers, restores the state of the partitions it is given, and
/// runs until it is told to stop. Workers come and go as they like: partitions move to those that are there.
///
/// SIGTERM or Ctrl-C stops it in good order: what is under way is acknowledged and committed, the group left.
/// A second signal ends it at once; nothing is lost by that either, only read again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless worker --config us.toml
  driftless worker --config us.toml --log-format json --log-level info,driftless::stream=debug

While it runs (at [http] listen, by default 127.0.0.1:9464):
  /              the console
  /metrics       for Prometheus
  /health/live   200 while the process works
  /health/ready  200 once its partitions are restored and caught up
  /tasks         its tasks as JSON

Exit codes: 0 stopped in good order, 1 failed, 2 wrong configuration, 130 ended by a second signal")]
pub struct WorkerArgs {
    #[command(flatten)]
    config: ConfigArg,
}

pub fn run(args: &WorkerArgs) -> Result<Exit> {
    let config = Config::load(args.config.path())?;
    state_dir::prepare(&config.state_dir)?;
    app::run_worker(config, &standard_types())
}
