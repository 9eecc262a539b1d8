//! `driftless doctor`.

use super::ConfigArg;
use super::topics::print_findings;
use crate::adapter::kafka::KafkaLogReader;
use crate::adapter::milvus::{MilvusAdmin, Severity};
use crate::adapter::system::SystemClock;
use crate::app::prepare::{kafka_settings, milvus_settings};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::config::Config;
use crate::ops::doctor;
use crate::ops::finding::{Finding, Level, worst};
use std::time::Duration;

/// What a short time tick gives, with room to spare.
const VISIBLE_GOAL: Duration = Duration::from_millis(120);

/// Find out whether everything in a configuration can be reached and fits together
///
/// Looks at the state folder, Kafka and its topics, how producers partition, every region's registry and the
/// change schema, Milvus with its version, health and collections, and the clocks. Each finding says how it is
/// and, where something is wrong, what to do.
///
/// Changes nothing, but for one row in a collection of its own (`driftless_probe`), by which it measures after
/// how long an acknowledged row is seen.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless doctor --config us.toml
  driftless doctor --config us.toml --json | jq '.findings[] | select(.level == \"fail\")'

Exit codes: 0 nothing failed (there may be warnings), 1 the doctor itself failed,
2 wrong configuration, 3 something failed")]
pub struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &DoctorArgs) -> Result<Exit> {
    let config = Config::load(args.config.path())?;
    let plan = config.topic_plan();
    let mut findings = vec![Finding::ok("configuration", format!("{} has no faults", args.config.path().display()))];
    findings.push(match super::topology::check(&config.topology) {
        Ok(nodes) => Finding::ok("topology", format!("{}: {nodes} nodes, no faults", config.topology.name)),
        Err(faults) => Finding::fail("topology", faults.to_string(), "See `driftless topology validate`."),
    });
    findings.push(doctor::state_folder(&config.state_dir));
    let kafka = doctor::kafka(&mut config.kafka_admin()?, &plan);
    let reached = kafka.first().is_some_and(|finding| finding.level == Level::Ok);
    findings.extend(kafka);
    if reached {
        let mut reader = KafkaLogReader::new(&kafka_settings(&config, 0))?;
        findings.extend(doctor::change_records(&mut reader, &plan, &SystemClock::start()));
    }
    for region in config.regions.keys() {
        let mut registry = config.registry_client(region)?;
        findings.extend(doctor::registry(region.as_str(), &mut registry, *region == config.region, &plan));
    }
    findings.extend(milvus(&config)?);
    print_findings(&findings, args.json)?;
    Ok(if worst(&findings) == Level::Fail { Exit::DIFFERENT } else { Exit::DONE })
}

/// Version, health and collections.
fn milvus(config: &Config) -> Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::fatal(format!("no thread for Milvus' client: {error}")))?;
    Ok(runtime.block_on(async { examine(config).await.unwrap_or_else(|error| vec![doctor::unreached("milvus", &error)]) }))
}

async fn examine(config: &Config) -> Result<Vec<Finding>> {
    let admin = MilvusAdmin::connect(&milvus_settings(config)).await?;
    let mut findings = vec![Finding::ok("milvus", format!("version {} at {}", admin.version().await?, config.milvus.uri))];
    let sick = admin.health().await?;
    if !sick.is_empty() {
        findings.push(Finding::warn("milvus", format!("calls itself unhealthy: {}", sick.join(", ")), "Look at its own log."));
    }
    findings.push(visibility(&admin).await);
    let wrong = admin.check(&config.collections).await?;
    for (_, spec) in config.collections.iter() {
        if !wrong.iter().any(|finding| finding.collection == spec.name) {
            findings.push(Finding::ok(
                format!("collection {}", spec.name),
                "fits the configuration, or is created by the first worker",
            ));
        }
    }
    for found in wrong {
        let subject = format!("collection {}", found.collection);
        findings.push(match found.severity {
            Severity::Refuse => Finding::fail(subject, found.problem, found.remedy),
            Severity::Warn => Finding::warn(subject, found.problem, found.remedy),
        });
    }
    Ok(findings)
}

/// Milvus' default of 200 ms between time ticks is what holds an acknowledged row back.
async fn visibility(admin: &MilvusAdmin) -> Finding {
    let subject = "milvus visibility";
    let measured = match admin.measure_visibility().await {
        Ok(measured) => measured,
        Err(error) => return doctor::unreached(subject, &error),
    };
    let seen = format!(
        "an acknowledged row is seen after {} ms (at most {} ms)",
        measured.visible.as_millis(),
        measured.visible_max.as_millis()
    );
    if measured.visible < VISIBLE_GOAL {
        return Finding::ok(subject, seen);
    }
    Finding::warn(subject, seen, "Set proxy.timeTickInterval = 20 in Milvus' own configuration (its default is 200 ms).")
}
