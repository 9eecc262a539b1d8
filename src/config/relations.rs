//! What must hold between values of different sections. Each fault stands at the value that is easier to change.

use super::Config;
use crate::adapter::kafka::KafkaSettings;
use crate::base::section::Section;
use crate::ops::topics::plan::CHANGE_RETENTION;
use std::time::Duration;

/// gRPC servers of Milvus take messages of up to 64 MiB.
const MILVUS_MESSAGE_BYTES_MAX: usize = 64 << 20;

pub fn check(root: &Section<'_, '_>, config: &Config) {
    let at = |section: &str, key: &str| match root.section(section) {
        Some(section) => section.place_of(key),
        None => root.place(),
    };
    let shown = humantime::format_duration;
    let session = property_ms(config, "session.timeout.ms");
    let heartbeat = property_ms(config, "heartbeat.interval.ms");
    let rpc_deadline = config.milvus.rpc_deadline;
    if rpc_deadline >= session {
        let message = format!("`rpc_deadline` = {} is not below the session time-out of {}", shown(rpc_deadline), shown(session));
        let remedy =
            "Lower it, or raise session.timeout.ms in [kafka.properties]: a write must have ended before a partition moves.";
        root.fault(at("milvus", "rpc_deadline"), message, remedy);
    }
    if heartbeat * 3 > session {
        let message =
            format!("heartbeat.interval.ms of {} is over a third of the session time-out {}", shown(heartbeat), shown(session));
        root.fault(
            at("kafka", "properties"),
            message,
            "Lower it, or raise session.timeout.ms, so that one lost heartbeat evicts nobody.",
        );
    }
    if config.worker.drain_timeout < rpc_deadline {
        let message =
            format!("`drain_timeout` = {} is below `rpc_deadline` = {}", shown(config.worker.drain_timeout), shown(rpc_deadline));
        root.fault(at("worker", "drain_timeout"), message, "Raise it: a stop must be able to wait for the write under way.");
    }
    if config.sink.linger >= rpc_deadline {
        let message = format!("`linger` = {} is not below `rpc_deadline` = {}", shown(config.sink.linger), shown(rpc_deadline));
        root.fault(at("sink", "linger"), message, "Lower it: some milliseconds are enough to fill a batch.");
    }
    if config.sink.hold >= rpc_deadline {
        let message = format!("`hold` = {} is not below `rpc_deadline` = {}", shown(config.sink.hold), shown(rpc_deadline));
        root.fault(at("sink", "hold"), message, "Lower it: rows are late by as much; 100ms spares most writes of a hot key.");
    }
    if config.sink.batch_bytes > MILVUS_MESSAGE_BYTES_MAX / 2 {
        let message = format!("`batch_bytes` = {} is over half of what Milvus takes in one message", config.sink.batch_bytes);
        root.fault(at("sink", "batch_bytes"), message, "Lower it to 32MiB or less; 2MiB is usually best.");
    }
    if config.worker.standby_replicas > 0 && config.kafka.properties.0.contains_key("client.id") {
        let message = "client.id in [kafka.properties] makes all workers look like one process, so none would keep standbys";
        root.fault(
            at("kafka", "properties"),
            message,
            "Remove it, or leave `standby_replicas` at 0: each worker then names itself.",
        );
    }
    if config.max_lateness >= CHANGE_RETENTION {
        let message = format!("`max_lateness` = {} reaches the change topics' retention of 72h", shown(config.max_lateness));
        root.fault(at("admission", "max_lateness"), message, "Lower it; 1h is usual.");
    }
}

/// As it is passed through, or as we set it.
fn property_ms(config: &Config, name: &str) -> Duration {
    let given = config.kafka.properties.0.get(name).and_then(|value| value.parse().ok());
    let default = || KafkaSettings::group_default(name).and_then(|value| value.parse().ok());
    Duration::from_millis(given.or_else(default).unwrap_or(0))
}
