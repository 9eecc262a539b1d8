//! The idempotent producer.
//!
//! Delivery reports wait in librdkafka's queue until polled, whose first one wakes: no thread and no channel lies between.
//! What is not acknowledged yet is bounded by librdkafka's queue of records.

use super::error::{FaultTeller, kafka_error};
use super::native::Bell;
use super::rebalance::log_line;
use super::revival::Revival;
use super::settings::{KafkaSettings, unusable};
use crate::base::error::{Error, Remedy, Result};
use crate::port::log::{Ack, Append, AppendRefused, Appender, Wake};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub struct KafkaAppender {
    // Before the producer, whose queue it hangs on.
    _bell: Bell,
    producer: BaseProducer<Deliveries>,
    revival: Revival,
}

/// Called back while the producer is polled, on that thread.
#[derive(Default)]
struct Deliveries {
    acks: Mutex<Vec<Ack>>,
    teller: Mutex<FaultTeller>,
    all_down: AtomicBool,
    /// The poll has served something, so there may be more.
    served: AtomicBool,
}

impl Deliveries {
    fn acks(&self) -> MutexGuard<'_, Vec<Ack>> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KafkaAppender {
    /// `wake` is called from librdkafka's threads when there are acks to poll.
    pub fn new(settings: &KafkaSettings, wake: Wake) -> Result<Self> {
        let producer: BaseProducer<Deliveries> =
            settings.appender()?.create_with_context(Deliveries::default()).map_err(|error| unusable(&error))?;
        Ok(Self { _bell: Bell::of_main_queue(producer.client(), wake), producer, revival: settings.revival()? })
    }

    /// The producer's own words for a fatal error are kept apart from the error of the record that met it.
    fn failed(&self, append: &Append, error: &KafkaError) -> Error {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let reason = self.producer.client().fatal_error().map_or(String::new(), |(_, text)| text);
        kafka_error(code, &format!("appending to {}", append.to), &reason)
    }
}

impl Appender for KafkaAppender {
    fn append(&mut self, append: Append, token: u64) -> std::result::Result<(), AppendRefused> {
        let token = usize::try_from(token).expect("tokens fit into a pointer: only 64-bit targets are supported");
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&append.to.topic, token);
        record.partition = Some(append.to.partition);
        record.key = append.key.as_deref();
        record.payload = append.value.as_deref();
        if !append.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(append.headers.len());
            for (name, value) in &append.headers {
                headers = headers.insert(Header { key: name, value: value.as_deref() });
            }
            record.headers = Some(headers);
        }
        match self.producer.send(record) {
            Ok(()) => Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Err(AppendRefused::QueueFull(append.into())),
            Err((error, _)) => Err(AppendRefused::Failed(self.failed(&append, &error))),
        }
    }

    fn poll_acks(&mut self, acks: &mut Vec<Ack>) {
        // A poll serves one event, which may be of many records. The bell rings for the first event only, so all are taken.
        loop {
            self.producer.poll(Duration::ZERO);
            if !self.producer.context().served.swap(false, Ordering::Relaxed) {
                break;
            }
        }
        acks.append(&mut self.producer.context().acks());
        let all_down = self.producer.context().all_down.swap(false, Ordering::Relaxed);
        self.revival.look(all_down, self.producer.client());
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.served.store(true, Ordering::Relaxed);
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if code == RDKafkaErrorCode::AllBrokersDown {
            self.all_down.store(true, Ordering::Relaxed);
        }
        let error = kafka_error(code, "Kafka producer", reason);
        let told = self.teller.lock().unwrap_or_else(PoisonError::into_inner).tell(code, error, Instant::now());
        if let Some(error) = told {
            tracing::warn!("{error}");
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, message)) => Err(undelivered(error, message.topic(), message.partition())),
        };
        self.served.store(true, Ordering::Relaxed);
        self.acks().push(Ack { token: token as u64, outcome });
    }
}

fn undelivered(error: &KafkaError, topic: &str, partition: i32) -> Error {
    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
    let doing = format!("appending to {topic}[{partition}]");
    match code {
        // Purged because the appender is being dropped.
        RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight => {
            Error::new(Remedy::Restore, format!("{doing}: the appender was closed before the record was acknowledged"))
        }
        _ => kafka_error(code, &doing, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicPartition;
    use crate::record::size::{COPY_BYTES_MAX, RECORD_BYTES_MAX};
    use std::collections::BTreeMap;

    fn append(bytes: usize) -> Append {
        let header = |name: &str, bytes: usize| (name.into(), Some(vec![b'x'; bytes].into()));
        let headers = vec![header("driftless.detail", 4 << 10), header("driftless.topic", 249), header("driftless.reason", 20)];
        Append {
            to: TopicPartition::new("app-dead-letter", 0),
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: headers.into(),
        }
    }

    /// librdkafka judges by size before it looks for a broker.
    #[test]
    fn a_dead_letter_of_the_largest_record_fits_into_one_request() {
        let settings = KafkaSettings {
            bootstrap_servers: "127.0.0.1:1".into(),
            application_id: "app".into(),
            client_id: "test".into(),
            group_instance_id: None,
            properties: BTreeMap::new(),
        };
        assert_eq!(settings.appender().unwrap().get("message.max.bytes"), Some(COPY_BYTES_MAX.to_string().as_str()));
        let mut appender = KafkaAppender::new(&settings, std::sync::Arc::new(|| {})).unwrap();
        assert!(appender.append(append(RECORD_BYTES_MAX), 1).is_ok());
        assert!(matches!(appender.append(append(COPY_BYTES_MAX), 2), Err(AppendRefused::Failed(_))));
    }
}
