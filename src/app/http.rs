//! What a worker answers over HTTP: metrics, health, tasks; and the console.

use super::canary::Visibility;
use crate::adapter::system::SystemClock;
use crate::base::error::{Error, Result};
use crate::base::ids::Region;
use crate::base::time::{Clock, UnixMs};
use crate::console::plant::{Observation, Plant, RegionObserved};
use crate::console::{Console, routes};
use crate::record::collection::Collections;
use crate::stream::driver::Watch;
use crate::stream::report::{TaskReport, ThreadReport};
use crate::stream::row_walk::WalkReport;
use crate::stream::standby::{StandbyReport, Standbys};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// A worker that is further behind than this is not ready yet.
const READY_LAG: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Served {
    pub metrics: PrometheusHandle,
    pub threads: Vec<Watch>,
    /// Where there are any.
    pub standbys: Option<Standbys>,
    pub visibility: Visibility,
    pub collections: Arc<Collections>,
    /// This worker's own first.
    pub regions: Vec<Region>,
}

#[derive(Serialize)]
struct Tasks {
    ready: bool,
    tasks: Vec<TaskReport>,
    standby_tasks: Vec<StandbyReport>,
    totals: crate::task::metrics::Totals,
    walks: Vec<WalkReport>,
}

impl Served {
    /// Of all threads, and when.
    fn report(&self) -> (ThreadReport, UnixMs) {
        let now = SystemClock::start().now().wall;
        let mut whole = ThreadReport::together(self.threads.iter().map(Watch::report).collect());
        whole.reckon(self.visibility.delay(), now);
        (whole, now)
    }

    fn tasks(&self) -> Tasks {
        let (whole, now) = self.report();
        let standby_tasks = self.standbys.as_ref().map(Standbys::reports).unwrap_or_default();
        let ready = self.shortcoming(&whole, now).is_none();
        Tasks { ready, tasks: whole.tasks, standby_tasks, totals: whole.totals, walks: whole.walks }
    }

    /// Why it is not ready, if it is not.
    fn shortcoming(&self, whole: &ThreadReport, now: UnixMs) -> Option<&'static str> {
        if !whole.is_ready() {
            return Some("restoring\n");
        }
        (!whole.is_caught_up(self.regions[0].as_str(), READY_LAG, now)).then_some("catching up\n")
    }

    fn render(&self) -> String {
        let (report, now) = self.report();
        report.publish_gauges(&self.collections, &self.regions, now);
        self.visibility.publish_gauge();
        if let Some(standbys) = &self.standbys {
            standbys.publish_gauges();
        }
        self.metrics.render()
    }
}

impl Plant for Served {
    fn observe(&self) -> Observation {
        let (report, now) = self.report();
        let region = self.regions[0].clone();
        Observation { now, regions: vec![RegionObserved { region, report, rows: None }], links: Vec::new() }
    }
}

/// Takes the address; serves once [`serve`] is spawned.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        Error::refuse(format_args!("[http] listen = \"{listen}\": {error}; name a free address, such as 127.0.0.1:0"))
    })
}

pub async fn serve(listener: TcpListener, served: Served, console: Arc<Console>) -> Result<()> {
    let router = Router::new()
        .route("/metrics", get(|State(served): State<Served>| async move { served.render() }))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/tasks", get(|State(served): State<Served>| async move { Json(served.tasks()) }))
        .with_state(served)
        .merge(routes::router(console, None));
    axum::serve(listener, router).await.map_err(|error| Error::fatal(format_args!("the HTTP server ended: {error}")))
}

async fn ready(State(served): State<Served>) -> (StatusCode, &'static str) {
    let (whole, now) = served.report();
    match served.shortcoming(&whole, now) {
        None => (StatusCode::OK, "ready\n"),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

#[cfg(test)]
mod tests;
