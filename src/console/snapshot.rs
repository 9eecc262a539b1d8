//! What the page is sent, as JSON: `/console/state` with the whole history, an event of `/console/events` with its
//! newest column.

use super::conditions::Condition;
use super::flow::{NodeFlow, flow};
use super::history::HistoryView;
use super::links::LinkView;
use super::plant::{About, Observation, RegionObserved};
use super::rates::{Rates, SourceRates};
use super::tap::Recent;
use crate::base::ids::Region;
use crate::stream::report::{RestoreReport, SourceReport, TaskReport};
use crate::task::lag::Stage;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

#[derive(Serialize)]
pub struct Snapshot<'a> {
    pub about: &'a About,
    /// The demo's links can be cut and healed.
    pub switchable: bool,
    pub tick: u64,
    pub now_ms: i64,
    pub lag_ms_promised: i64,
    pub regions: Vec<RegionView>,
    pub links: Vec<LinkRow>,
    pub tasks: Vec<TaskView<'a>>,
    pub conditions: Vec<Condition>,
    pub ended: Vec<&'a Condition>,
    pub recent: &'a Recent,
    pub happened: &'a VecDeque<Happened>,
    pub history: HistoryView<'a>,
}

/// Somebody did something.
#[derive(Debug, Clone, Serialize)]
pub struct Happened {
    pub at_ms: i64,
    pub what: String,
}

#[derive(Serialize)]
pub struct RegionView {
    pub region: Region,
    pub joined: bool,
    pub tasks: usize,
    pub running: usize,
    pub rows: Option<usize>,
    pub entries: usize,
    pub store_bytes: usize,
    pub applied_per_second: f64,
    pub flow: Vec<NodeFlow>,
}

#[derive(Serialize)]
pub struct LinkRow {
    #[serde(flatten)]
    pub link: LinkView,
    pub polled_per_second: f64,
    pub applied_per_second: f64,
    pub dead_letters_per_second: f64,
    pub conflicts_per_second: f64,
}

#[derive(Serialize)]
pub struct TaskView<'a> {
    pub region: &'a Region,
    pub task: &'a str,
    pub partition: i32,
    pub state: &'static str,
    pub restore: Option<&'a RestoreReport>,
    /// The worst of its sources', and whose that is.
    pub lag_ms: Option<i64>,
    pub lag_of: Option<&'a str>,
    /// The most that any source's lag has grown since it was polled.
    pub work_ms: i64,
    pub open_records: usize,
    pub in_flight: usize,
    pub parked: u64,
    pub buffered_bytes: usize,
    pub entries: usize,
    pub store_bytes: usize,
}

pub fn region(observed: &RegionObserved, about: &About, rates: Option<&Rates>) -> RegionView {
    let report = &observed.report;
    let mut whole = SourceRates::default();
    if let Some(rates) = rates {
        for origin in &about.regions {
            whole.add(&rates.of(origin));
        }
    }
    RegionView {
        region: observed.region.clone(),
        joined: report.joined,
        tasks: report.tasks.len(),
        running: report.tasks.iter().filter(|task| task.state == "running").count(),
        rows: observed.rows,
        entries: report.tasks.iter().map(|task| task.entries).sum(),
        store_bytes: report.tasks.iter().map(|task| task.store_bytes).sum(),
        applied_per_second: whole.applied,
        flow: flow(&about.topology, &whole),
    }
}

pub fn link_row(link: LinkView, rates: &BTreeMap<Region, Rates>) -> LinkRow {
    let rates = rates.get(&link.to).map(|rates| rates.of(&link.from)).unwrap_or_default();
    LinkRow {
        polled_per_second: rates.polled,
        applied_per_second: rates.applied,
        dead_letters_per_second: rates.dead_letters.values().sum(),
        conflicts_per_second: rates.verdicts.get("conflict").copied().unwrap_or_default(),
        link,
    }
}

pub fn tasks(observation: &Observation) -> Vec<TaskView<'_>> {
    let tasks = observation.regions.iter().flat_map(|region| region.report.tasks.iter().map(|task| (&region.region, task)));
    tasks.map(|(region, task)| task_view(region, task)).collect()
}

fn task_view<'a>(region: &'a Region, task: &'a TaskReport) -> TaskView<'a> {
    let lags = task.sources.iter().filter_map(|source| Some((*source.lag_ms.get(Stage::Acknowledged.name())?, &*source.region)));
    let worst = lags.max_by_key(|(lag_ms, _)| *lag_ms);
    let lag_at = |source: &SourceReport, stage: Stage| source.lag_ms.get(stage.name()).copied().unwrap_or(0);
    let work = task.sources.iter().map(|source| lag_at(source, Stage::Acknowledged) - lag_at(source, Stage::Polled));
    TaskView {
        region,
        task: &task.task,
        partition: task.partition,
        state: task.state,
        restore: task.restore.as_ref(),
        lag_ms: worst.map(|(lag_ms, _)| lag_ms),
        lag_of: worst.map(|(_, region)| region),
        work_ms: work.max().unwrap_or(0),
        open_records: task.sources.iter().map(|source| source.open_records).sum(),
        in_flight: task.in_flight,
        parked: task.parked.values().sum(),
        buffered_bytes: task.buffered_bytes,
        entries: task.entries,
        store_bytes: task.store_bytes,
    }
}
