//! What a worker answers over HTTP: metrics, health, tasks.

use crate::adapter::system::SystemClock;
use crate::base::error::{Error, Result};
use crate::base::ids::Region;
use crate::base::time::{Clock, UnixMs};
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
use tokio::net::TcpListener;

#[derive(Clone)]
pub struct Served {
    pub metrics: PrometheusHandle,
    pub threads: Vec<Watch>,
    /// Where there are any.
    pub standbys: Option<Standbys>,
    pub collections: Arc<Collections>,
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
        whole.reckon(now);
        (whole, now)
    }

    fn tasks(&self) -> Tasks {
        let (whole, _) = self.report();
        let standby_tasks = self.standbys.as_ref().map(Standbys::reports).unwrap_or_default();
        Tasks { ready: whole.is_ready(), tasks: whole.tasks, standby_tasks, totals: whole.totals, walks: whole.walks }
    }

    fn render(&self) -> String {
        let (report, now) = self.report();
        report.publish_gauges(&self.collections, &self.regions, now);
        if let Some(standbys) = &self.standbys {
            standbys.publish_gauges();
        }
        self.metrics.render()
    }
}

/// Takes the address; serves once [`serve`] is spawned.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        Error::refuse(format_args!("[http] listen = \"{listen}\": {error}; name a free address, such as 127.0.0.1:0"))
    })
}

pub async fn serve(listener: TcpListener, served: Served) -> Result<()> {
    let router = Router::new()
        .route("/metrics", get(|State(served): State<Served>| async move { served.render() }))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/tasks", get(|State(served): State<Served>| async move { Json(served.tasks()) }))
        .with_state(served);
    axum::serve(listener, router).await.map_err(|error| Error::fatal(format_args!("the HTTP server ended: {error}")))
}

async fn ready(State(served): State<Served>) -> (StatusCode, &'static str) {
    if served.tasks().ready { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "restoring\n") }
}
