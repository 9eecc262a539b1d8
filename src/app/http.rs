//! What a worker answers over HTTP: metrics, health, tasks.

use crate::base::error::{Error, Result};
use crate::stream::driver::Watch;
use crate::stream::report::{TaskReport, ThreadReport};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use std::net::SocketAddr;
use tokio::net::TcpListener;

#[derive(Clone)]
pub struct Served {
    pub metrics: PrometheusHandle,
    pub threads: Vec<Watch>,
}

#[derive(Serialize)]
struct Tasks {
    ready: bool,
    tasks: Vec<TaskReport>,
    totals: crate::task::metrics::Totals,
}

impl Served {
    /// All threads together.
    fn tasks(&self) -> Tasks {
        let reports: Vec<ThreadReport> = self.threads.iter().map(Watch::report).collect();
        let mut whole = ThreadReport::default();
        let ready = reports.iter().all(ThreadReport::is_ready);
        for report in reports {
            whole.totals.add(&report.totals);
            whole.tasks.extend(report.tasks);
        }
        whole.tasks.sort_by(|a, b| a.task.cmp(&b.task));
        Tasks { ready, tasks: whole.tasks, totals: whole.totals }
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
        .route("/metrics", get(|State(served): State<Served>| async move { served.metrics.render() }))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/tasks", get(|State(served): State<Served>| async move { Json(served.tasks()) }))
        .with_state(served);
    axum::serve(listener, router).await.map_err(|error| Error::fatal(format_args!("the HTTP server ended: {error}")))
}

async fn ready(State(served): State<Served>) -> (StatusCode, &'static str) {
    if served.tasks().ready { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "restoring\n") }
}
