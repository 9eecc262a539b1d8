//! Lag as the workers of a region tell it at `/tasks`: each knows its own partitions, all of them together the region.

use super::{LagTable, SourceLag, Stages};
use crate::base::error::{Error, Result};
use crate::base::time::UnixMs;
use crate::task::lag::VISIBLE;
use serde::Deserialize;
use std::collections::BTreeMap;

pub const STAGES: Stages = &["polled", "merged", "acknowledged", VISIBLE];

/// Of what a worker tells, what is needed here; what a newer one adds is passed over.
#[derive(Deserialize)]
struct Tasks {
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Task {
    sources: Vec<Source>,
}

#[derive(Deserialize)]
struct Source {
    region: String,
    lag_ms: BTreeMap<String, i64>,
    open_records: i64,
    gaps: u64,
    heartbeat_overdue: bool,
    clock_ahead_ms: Option<[i64; 2]>,
}

/// `answers`: of each worker its name and what it answered.
pub fn together(answers: &[(String, Vec<u8>)], now: UnixMs) -> Result<LagTable> {
    let mut sources: BTreeMap<String, SourceLag> = BTreeMap::new();
    for (worker, answer) in answers {
        let told: Tasks = serde_json::from_slice(answer).map_err(|error| {
            Error::refuse(format_args!(
                "what {worker} answers is not a worker's /tasks: {error}; is it the [http] listen of one?"
            ))
        })?;
        for source in told.tasks.into_iter().flat_map(|task| task.sources) {
            let lag = sources.entry(source.region.clone()).or_insert_with(|| SourceLag::of(&source.region));
            add(lag, &source);
        }
    }
    Ok(LagTable { stages: STAGES, at_ms: now.0, sources: sources.into_values().collect() })
}

fn add(lag: &mut SourceLag, source: &Source) {
    for stage in STAGES {
        if let Some(lag_ms) = source.lag_ms.get(*stage) {
            lag.note(stage, *lag_ms);
        }
    }
    lag.records_behind += source.open_records;
    lag.partitions += 1;
    lag.silent_partitions += usize::from(source.heartbeat_overdue);
    lag.unknown_partitions += usize::from(source.lag_ms.is_empty());
    lag.gaps = Some(lag.gaps.unwrap_or(0) + source.gaps);
    // Each partition's bounds hold: the narrowest of all.
    lag.clock_ahead_ms = match (lag.clock_ahead_ms, source.clock_ahead_ms) {
        (Some(one), Some(other)) => Some([one[0].max(other[0]), one[1].min(other[1])]),
        (one, other) => one.or(other),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(sources: &str) -> (String, Vec<u8>) {
        (
            "w".to_owned(),
            format!(r#"{{"ready":true,"tasks":[{{"task":"0_1","sources":[{sources}]}}],"totals":{{}}}}"#).into_bytes(),
        )
    }

    fn source(region: &str, acknowledged: i64, overdue: bool) -> String {
        format!(
            r#"{{"region":"{region}","topic":"t","lag_ms":{{"polled":0,"merged":0,"acknowledged":{acknowledged},"visible":7}},"open_records":3,
            "gaps":1,"heartbeat_overdue":{overdue},"clock_ahead_ms":[-5{acknowledged},40],"added_later":{{}}}}"#
        )
    }

    #[test]
    fn of_several_workers_the_worst_partition_counts_and_records_add_up() {
        let answers =
            [worker(&source("us", 20, false)), worker(&format!("{},{}", source("us", 90, true), source("eu", 0, false)))];
        let table = together(&answers, UnixMs(7)).unwrap();
        assert_eq!(table.sources.iter().map(|lag| lag.source.as_str()).collect::<Vec<_>>(), ["eu", "us"]);
        let us = &table.sources[1];
        assert_eq!((us.lag_ms["acknowledged"], us.lag_ms["polled"], us.lag_ms["visible"]), (90, 0, 7));
        assert_eq!((us.records_behind, us.partitions, us.silent_partitions, us.gaps), (6, 2, 1, Some(2)));
        assert_eq!(us.clock_ahead_ms, Some([-520, 40]));
    }

    #[test]
    fn an_answer_of_somebody_else_is_told() {
        let wrong = together(&[("127.0.0.1:80".to_owned(), b"<html>".to_vec())], UnixMs(0)).unwrap_err().to_string();
        assert!(wrong.contains("127.0.0.1:80") && wrong.contains("[http] listen"), "{wrong}");
    }
}
