//! What a scrape costs where there is much to tell.

use super::*;
use crate::app::worker::with_buckets;
use crate::base::ids::TaskId;
use crate::base::metric::{COUNTERS, GAUGES, HISTOGRAMS, labels};
use crate::base::time::Now;
use crate::record::collection::{CollectionSpec, IdKind, IndexKind, Metric};
use crate::record::reason::Reason;
use crate::stream::report::SourceReport;
use crate::task::lag::{SourceLag, Stage, VISIBLE};
use crate::task::skew::SkewBounds;
use metrics::{Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::collections::BTreeMap;
use std::time::Instant;

const SHARDS: u16 = 4;
const PARTITIONS: i32 = 12;
const REGIONS: [&str; 3] = ["us-east-1", "eu-central-1", "ap-south-1"];
const COLLECTIONS: [&str; 4] = ["products", "articles", "user_profiles", "support_tickets"];
const SCRAPE_BYTES_MAX: usize = 1_000_000;
const SCRAPE_MAX: Duration = Duration::from_millis(5);
const SCRAPES: usize = 20;

/// More than any of them can have; only the number counts.
const WORDS: [&str; 16] = [
    "winner",
    "duplicate",
    "stale",
    "conflict",
    "twin",
    "below-floor",
    "mis-keyed",
    "rekeyed",
    "heartbeat",
    "ignored",
    "missing",
    "older",
    "forged",
    "undeleted",
    "stranger",
    "unversioned",
];

fn values(label: &str) -> Vec<&'static str> {
    match label {
        "source" | "origin" | "peer" => REGIONS.to_vec(),
        "collection" => COLLECTIONS.to_vec(),
        "stage" => Stage::ALL.map(Stage::name).into_iter().chain([VISIBLE]).collect(),
        "reason" => Reason::ALL.iter().map(|reason| reason.code()).collect(),
        "verdict" | "finding" => WORDS.to_vec(),
        "op" => vec!["upsert", "delete"],
        "outcome" => vec!["acknowledged", "halved", "refused", "retried"],
        "kind" => vec!["clean", "dirty"],
        "state" => vec!["restoring", "running", "draining"],
        "walk" => vec!["entries", "rows"],
        "thread" => vec!["0", "1", "2", "3", "4", "5", "6", "7"],
        "version" => vec![env!("CARGO_PKG_VERSION")],
        "bound" => vec!["least", "most"],
        other => panic!("which values has the label {other}?"),
    }
}

/// Every series that a name can have.
fn keys(name: &'static str) -> Vec<Key> {
    let mut sets: Vec<Vec<Label>> = vec![Vec::new()];
    for label in labels(name) {
        let longer = |set: &Vec<Label>| {
            let set = set.clone();
            values(label).into_iter().map(move |value| [set.clone(), vec![Label::new(*label, value)]].concat())
        };
        sets = sets.iter().flat_map(longer).collect();
    }
    sets.into_iter().map(|set| Key::from_parts(KeyName::from_const_str(name), set)).collect()
}

fn populate(recorder: &impl Recorder) -> usize {
    let meta = Metadata::new("test", Level::INFO, None);
    let mut series = 0;
    for (name, _) in COUNTERS {
        for key in keys(name) {
            recorder.register_counter(&key, &meta).absolute(u64::MAX / 3);
            series += 1;
        }
    }
    for (name, _) in GAUGES {
        for key in keys(name) {
            recorder.register_gauge(&key, &meta).set(12_345.678);
            series += 1;
        }
    }
    for (name, _) in HISTOGRAMS {
        for key in keys(name) {
            let histogram = recorder.register_histogram(&key, &meta);
            (0..1_000).for_each(|number| histogram.record(f64::from(number) / 100.0));
            series += 1;
        }
    }
    series
}

fn source(region: &str, now: Now) -> SourceReport {
    let mut lag = SourceLag::new(Some(now.wall), Duration::from_secs(1));
    lag.heartbeat(now.wall, now.wall, now);
    SourceReport {
        region: region.to_owned(),
        topic: format!("{region}.vector-cdc"),
        present: true,
        next_offset: 1_234_567_890,
        frontier_ms: Some(now.wall.0),
        open_records: 100,
        oldest_open_ms: Some(now.wall.0),
        lag_ms: BTreeMap::new(),
        stalled_ms: 0,
        disagreements: Vec::new(),
        gaps: 0,
        heartbeat_overdue: false,
        clock_ahead_ms: None,
        lag: lag.view([Some(now.wall); 3], Some(SkewBounds { least_ms: -5, most_ms: 5 }), now),
    }
}

fn tasks(now: Now) -> Vec<TaskReport> {
    let ids = (0..SHARDS).flat_map(|shard| (0..PARTITIONS).map(move |partition| TaskId { shard, partition }));
    let reports = ids.map(|id| {
        let sources = REGIONS.iter().map(|region| source(region, now)).collect();
        let mut report = TaskReport::restoring(id, None, Duration::ZERO, sources);
        (report.state, report.floor_ms, report.floor_held_by) = ("running", Some(now.wall.0), Some(REGIONS[1].to_owned()));
        report
    });
    reports.collect()
}

#[test]
fn a_scrape_with_every_series_of_four_shards_and_three_regions_costs_little() {
    let recorder = with_buckets(PrometheusBuilder::new()).expect("there are buckets").build_recorder();
    let now = SystemClock::start().now();
    let watch = Watch::new(Duration::from_millis(200), Arc::new(|| ()));
    watch.publish(ThreadReport { joined: true, began: true, tasks: tasks(now), ..ThreadReport::default() });
    let collections = COLLECTIONS.map(|name| CollectionSpec {
        name: name.to_owned(),
        id: IdKind::Uuid,
        dimension: 768,
        metric: Metric::Cosine,
        index: IndexKind::Auto,
        auto_create: true,
    });
    let served = Served {
        metrics: recorder.handle(),
        threads: vec![watch],
        standbys: None,
        visibility: Visibility::new(SystemClock::start()),
        collections: Arc::new(Collections::new(collections.to_vec())),
        regions: REGIONS.map(Region::new).to_vec(),
    };
    metrics::with_local_recorder(&recorder, || {
        crate::base::metric::describe();
        let series = populate(&recorder);
        served.metrics.run_upkeep();
        let mut least = Duration::MAX;
        let mut text = String::new();
        for _ in 0..SCRAPES {
            let began = Instant::now();
            text = served.render();
            least = least.min(began.elapsed());
        }
        println!("{series} metrics, {} lines, {} bytes, {least:?} at best", text.lines().count(), text.len());
        for name in [COUNTERS, GAUGES, HISTOGRAMS].concat().into_iter().map(|(name, _)| name) {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name} is not told");
        }
        assert!(text.contains("driftless_apply_lag_seconds{source=\"us-east-1\",stage=\"acknowledged\"} 0"), "{text}");
        assert!(text.len() < SCRAPE_BYTES_MAX, "{} bytes", text.len());
        assert!(cfg!(debug_assertions) || least < SCRAPE_MAX, "{least:?}");
        // All tasks go elsewhere: what was said of them does not stand there for ever.
        served.threads[0].publish(ThreadReport { joined: true, began: true, ..ThreadReport::default() });
        let text = served.render();
        assert!(text.contains("driftless_apply_lag_seconds{source=\"us-east-1\",stage=\"acknowledged\"} NaN\n"), "{text}");
        assert!(text.contains("driftless_frontier_age_seconds{origin=\"us-east-1\"} NaN\n"), "{text}");
    });
}
