//! INV-8: every buffer has a limit.

use crate::stream::report::ThreadReport;
use crate::testing::sim::trace::Violations;
use std::time::Duration;

#[derive(Debug, Clone, Copy)]
pub(in crate::testing::sim) struct Limits {
    /// Of a task's input: its limit, and what one poll may bring beyond it.
    pub buffered_bytes: usize,
    pub in_flight: usize,
}

impl Limits {
    pub fn check(&self, now: Duration, worker: u64, report: &ThreadReport, violations: &Violations) {
        for task in &report.tasks {
            if task.buffered_bytes > self.buffered_bytes {
                let detail = format!(
                    "worker {worker}, task {}: {} bytes buffered, {} allowed",
                    task.task, task.buffered_bytes, self.buffered_bytes
                );
                violations.add("buffers", now, detail);
            }
            if task.in_flight > self.in_flight {
                let detail =
                    format!("worker {worker}, task {}: {} rows in flight, {} allowed", task.task, task.in_flight, self.in_flight);
                violations.add("buffers", now, detail);
            }
        }
    }
}
