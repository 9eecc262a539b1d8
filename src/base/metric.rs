//! The catalogue: every metric's name, once, with its help text and its labels. Base units, said by the name; labels are
//! bounded sets (regions, collections, stages, verdicts), never ids of vectors. `docs/metrics.md` is written from it, and
//! alerts and dashboards are checked against it.

/// `(name, help)` of every counter.
pub const COUNTERS: &[(&str, &str)] = &[
    (RECORDS_POLLED, "Records taken from a source topic."),
    (VERDICTS, "Records by what became of them: winner, duplicate, stale, conflict, ignored, rekeyed, dead-lettered."),
    (DEAD_LETTERS, "Records written to the dead-letter topic, by reason."),
    (SINK_ROWS, "Rows acknowledged by the vector store, by collection and op (upsert, delete)."),
    (SINK_REASSERTED_ROWS, "Rows written again after an unclean end, a lost reply or a zombie's write."),
    (SINK_BATCHES, "Batches sent to the vector store, by outcome."),
    (SINK_COALESCED, "Winners that a newer winner replaced before they were sent."),
    (COMMITS, "Progress records acknowledged."),
    (ASSIGNMENTS, "Times that the group gave this worker partitions."),
    (HEARTBEATS, "Heartbeats appended to the region's own change topic."),
    (TASK_CLOSES, "Tasks closed, by kind: clean or dirty."),
    (ZOMBIE_APPENDS, "Changelog records found that another owner wrote and that had to be answered."),
    (
        SCRUB_ROWS,
        "Rows that the scrubber has compared with their entries, by collection and finding. Written or deleted again: missing, older, forged, undeleted, stranger. Left alone: same, newer, unknown, unversioned.",
    ),
    (
        REPLICATION_GAPS,
        "Holes found in a source: what its origin appended never came, or was deleted before it was read. The partition is incomplete.",
    ),
    (
        SOURCE_REPLAYS,
        "Times that a source's topic was found to be another log (created again, or without its end) and is read from its beginning.",
    ),
    (TOMBSTONES_FORGOTTEN, "Tombstones dropped because they lie below the floor."),
    (
        STORES_DROPPED,
        "Stores kept on disk, and those of standbys, that could not be built on and are read anew from their changelog's beginning: older than it keeps deletes, damaged, or of another log; the worker's log says which.",
    ),
    (RESTORED_ENTRIES, "Records of row keys read from changelogs by restores that came to their end."),
];

/// `(name, help)` of every gauge.
pub const GAUGES: &[(&str, &str)] = &[
    (BUILD_INFO, "1, for the version that runs."),
    (
        THREAD_BUSY_RATIO,
        "Share of its time that a stream thread was not waiting for anything, lately. At 1 it is what holds its tasks up: more threads, or more workers.",
    ),
    (TASKS, "Tasks held by this worker, by state."),
    (STORE_ENTRIES, "Entries in the versions store, tombstones included."),
    (STORE_BYTES, "Resident bytes of the versions store."),
    (STANDBY_TASKS, "Standby tasks kept by this worker."),
    (STANDBY_LAG_RECORDS, "Offsets of its changelog that the standby which is furthest behind has not read."),
    (STANDBY_BYTES, "Resident bytes of the standbys' versions stores."),
    (STORE_DISK_BYTES, "Bytes of the versions store on disk."),
    (RESTORE_REMAINING, "Offsets of the changelogs that restores under way have still to read."),
    (BUFFERED_BYTES, "Bytes of records polled and not yet processed."),
    (
        INCOMPLETE_PARTITIONS,
        "Partitions held here of whose sources something never came, or was deleted before it was settled; `driftless resync` fills them.",
    ),
    (
        PARKED_CHANGES,
        "Changes of a collection whose rows the vector store does not take: passed over, so that other collections go on, and still to be judged. They hold back their sources' settled offsets, and are lost if the topics' retention deletes them.",
    ),
    (
        APPLY_LAG_SECONDS,
        "How far behind its origin a source is, by stage (polled, merged, acknowledged, visible), the worst partition's: 0 when idle, grows when anything before it hangs. NaN, like every gauge of a task's sources, while nothing is known: until all that a worker was given at first is restored, and when it holds no task any more.",
    ),
    (
        VISIBILITY_DELAY_SECONDS,
        "How long a row that the vector store had acknowledged was not found by a query of the lowest consistency: the worker's own canary row, last time; while that is not found, its age if it is more. NaN until it was measured. Stage visible of the lag is made with it.",
    ),
    (
        HEARTBEAT_OVERDUE_PARTITIONS,
        "Partitions of a source whose newest heartbeat is more than two intervals old: its writers, its log or the link are down.",
    ),
    (STALLED_SECONDS, "How long nothing of a source has settled although something waits, the worst partition's."),
    (
        CONFIGURATION_DISAGREEMENTS,
        "Settings that must be equal in all regions and, by its newest heartbeat, are not in the source's: admission bound, collections.",
    ),
    (
        DIVERGENCE_RATIO,
        "Vectors of which this region and a peer hold different versions although each has settled what the other had settled, as a share of all; told by `driftless diff --metrics`, not by workers.",
    ),
    (DIVERGENCE_CHECKED_SECONDS, "When that was found, in Unix time."),
    (
        CLOCK_AHEAD_SECONDS,
        "By how much a peer's clock is ahead of this worker's (below 0: behind), at least and at most, by heartbeats that echo each other.",
    ),
    (
        FRONTIER_AGE_SECONDS,
        "Age of the append time up to which an origin is settled in every partition held here; the oldest origin holds back the floor below which tombstones are forgotten.",
    ),
    (
        FLOOR_AGE_SECONDS,
        "Age of the lowest floor of the partitions held here, under the origin that holds it back (0 under the others): tombstones that are younger are kept, and strangers that are younger left alone. Infinite while that origin has said nothing yet.",
    ),
    (
        SCRUB_PROGRESS,
        "Share that the scrubber's present pass has looked at, by walk: entries (this worker's keys, read back), rows (whole collections, for rows that nobody knows).",
    ),
    (SCRUB_PASS_AGE_SECONDS, "Time since the scrubber last finished a pass, by walk; of several tasks the longest."),
];

/// `(name, help)` of every histogram.
pub const HISTOGRAMS: &[(&str, &str)] = &[
    (SINK_WRITE_SECONDS, "Time from sending a batch to the vector store's reply."),
    (SINK_BATCH_ROWS, "Rows in a batch."),
    (
        APPLY_SECONDS,
        "Time from the origin's append, by its clock put right, to the poll of each heartbeat (stage polled) or to the vector store's acknowledgement of each row (stage acknowledged).",
    ),
    (COMMIT_SECONDS, "Time from appending a progress record to its acknowledgement."),
    (RESTORE_SECONDS, "Time to restore a task's store."),
];

/// What series of one name are told apart by; a name that is not here has one series. `source` and `origin` are regions.
pub const LABELS: &[(&str, &[&str])] = &[
    (RECORDS_POLLED, &["source"]),
    (VERDICTS, &["source", "verdict"]),
    (DEAD_LETTERS, &["source", "reason"]),
    (SINK_ROWS, &["collection", "op"]),
    (SINK_REASSERTED_ROWS, &["collection"]),
    (SINK_BATCHES, &["collection", "outcome"]),
    (SINK_COALESCED, &["collection"]),
    (TASK_CLOSES, &["kind"]),
    (SCRUB_ROWS, &["collection", "finding"]),
    (REPLICATION_GAPS, &["source"]),
    (SOURCE_REPLAYS, &["source"]),
    (BUILD_INFO, &["version"]),
    (THREAD_BUSY_RATIO, &["thread"]),
    (TASKS, &["state"]),
    (PARKED_CHANGES, &["collection"]),
    (APPLY_LAG_SECONDS, &["source", "stage"]),
    (STALLED_SECONDS, &["source"]),
    (HEARTBEAT_OVERDUE_PARTITIONS, &["source"]),
    (CONFIGURATION_DISAGREEMENTS, &["source"]),
    (DIVERGENCE_RATIO, &["peer"]),
    (DIVERGENCE_CHECKED_SECONDS, &["peer"]),
    (CLOCK_AHEAD_SECONDS, &["origin", "bound"]),
    (FRONTIER_AGE_SECONDS, &["origin"]),
    (FLOOR_AGE_SECONDS, &["origin"]),
    (SCRUB_PROGRESS, &["walk"]),
    (SCRUB_PASS_AGE_SECONDS, &["walk"]),
    (SINK_WRITE_SECONDS, &["collection"]),
    (SINK_BATCH_ROWS, &["collection"]),
    (APPLY_SECONDS, &["source", "stage"]),
];

pub fn labels(name: &str) -> &'static [&'static str] {
    LABELS.iter().find(|(labelled, _)| *labelled == name).map_or(&[], |(_, labels)| labels)
}

pub const RECORDS_POLLED: &str = "driftless_records_polled_total";
pub const VERDICTS: &str = "driftless_verdicts_total";
pub const DEAD_LETTERS: &str = "driftless_dead_letters_total";
pub const SINK_ROWS: &str = "driftless_sink_rows_total";
pub const SINK_REASSERTED_ROWS: &str = "driftless_sink_reasserted_rows_total";
pub const SINK_BATCHES: &str = "driftless_sink_batches_total";
pub const SINK_COALESCED: &str = "driftless_sink_coalesced_total";
pub const COMMITS: &str = "driftless_commits_total";
pub const COMMIT_SECONDS: &str = "driftless_commit_seconds";
pub const ASSIGNMENTS: &str = "driftless_assignments_total";
pub const BUILD_INFO: &str = "driftless_build_info";
pub const THREAD_BUSY_RATIO: &str = "driftless_thread_busy_ratio";
pub const HEARTBEATS: &str = "driftless_heartbeats_total";
pub const TASK_CLOSES: &str = "driftless_task_closes_total";
pub const ZOMBIE_APPENDS: &str = "driftless_zombie_appends_total";
pub const TOMBSTONES_FORGOTTEN: &str = "driftless_tombstones_forgotten_total";
pub const SCRUB_ROWS: &str = "driftless_scrub_rows_total";
pub const SCRUB_PROGRESS: &str = "driftless_scrub_progress_ratio";
pub const SCRUB_PASS_AGE_SECONDS: &str = "driftless_scrub_pass_age_seconds";
pub const FLOOR_AGE_SECONDS: &str = "driftless_floor_age_seconds";
pub const REPLICATION_GAPS: &str = "driftless_replication_gaps_total";
pub const SOURCE_REPLAYS: &str = "driftless_source_replays_total";
pub const STALLED_SECONDS: &str = "driftless_stalled_seconds";
pub const CONFIGURATION_DISAGREEMENTS: &str = "driftless_configuration_disagreements";
pub const VISIBILITY_DELAY_SECONDS: &str = "driftless_visibility_delay_seconds";
pub const APPLY_LAG_SECONDS: &str = "driftless_apply_lag_seconds";
pub const HEARTBEAT_OVERDUE_PARTITIONS: &str = "driftless_heartbeat_overdue_partitions";
pub const DIVERGENCE_RATIO: &str = "driftless_divergence_ratio";
pub const DIVERGENCE_CHECKED_SECONDS: &str = "driftless_divergence_checked_timestamp_seconds";
pub const CLOCK_AHEAD_SECONDS: &str = "driftless_clock_ahead_seconds";
pub const STORES_DROPPED: &str = "driftless_stores_dropped_total";
pub const RESTORED_ENTRIES: &str = "driftless_restored_entries_total";
pub const TASKS: &str = "driftless_tasks";
pub const STORE_ENTRIES: &str = "driftless_store_entries";
pub const STORE_BYTES: &str = "driftless_store_bytes";
pub const STANDBY_TASKS: &str = "driftless_standby_tasks";
pub const STANDBY_LAG_RECORDS: &str = "driftless_standby_lag_records";
pub const STANDBY_BYTES: &str = "driftless_standby_bytes";
pub const STORE_DISK_BYTES: &str = "driftless_store_disk_bytes";
pub const RESTORE_REMAINING: &str = "driftless_restore_remaining_offsets";
pub const BUFFERED_BYTES: &str = "driftless_buffered_bytes";
pub const INCOMPLETE_PARTITIONS: &str = "driftless_incomplete_partitions";
pub const PARKED_CHANGES: &str = "driftless_parked_changes";
pub const FRONTIER_AGE_SECONDS: &str = "driftless_frontier_age_seconds";
pub const SINK_WRITE_SECONDS: &str = "driftless_sink_write_seconds";
pub const SINK_BATCH_ROWS: &str = "driftless_sink_batch_rows";
pub const APPLY_SECONDS: &str = "driftless_apply_seconds";
pub const RESTORE_SECONDS: &str = "driftless_restore_seconds";

/// Gives every metric its help text.
pub fn describe() {
    for (name, help) in COUNTERS {
        metrics::describe_counter!(*name, *help);
    }
    for (name, help) in GAUGES {
        metrics::describe_gauge!(*name, *help);
    }
    for (name, help) in HISTOGRAMS {
        metrics::describe_histogram!(*name, *help);
    }
}
