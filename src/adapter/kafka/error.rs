//! librdkafka's error codes as errors with a remedy, and how often a passing fault is told.

use crate::base::error::{Error, Remedy};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// `doing` is what failed; `reason` is librdkafka's own text and may be empty.
pub(super) fn kafka_error(code: RDKafkaErrorCode, doing: &str, reason: &str) -> Error {
    let (remedy, advice) = judge(code);
    let reason = if reason.is_empty() { code.to_string() } else { reason.to_owned() };
    let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
    Error::new(remedy, format!("{doing}: {reason}{advice}"))
}

/// What cures the fault, and what to tell the operator to do.
fn judge(code: RDKafkaErrorCode) -> (Remedy, &'static str) {
    use RDKafkaErrorCode as Code;
    match code {
        Code::Fatal | Code::UnsupportedVersion => (Remedy::Fatal, "the client can't go on: restart the process"),
        Code::FencedInstanceId => {
            (Remedy::Fatal, "another process runs with the same group_instance_id: give each worker one of its own")
        }
        Code::OutOfOrderSequenceNumber
        | Code::InvalidProducerEpoch
        | Code::UnknownProducerId
        | Code::ProducerFenced
        | Code::Fenced => (Remedy::Fatal, "the producer's sequence is broken: restart the process"),
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            (Remedy::Refuse, "grant this user the right in the broker's ACLs")
        }
        Code::SaslAuthenticationFailed | Code::Authentication | Code::UnsupportedSASLMechanism | Code::SSL => {
            (Remedy::Refuse, "check the user, the password and security.protocol in the Kafka properties")
        }
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            (Remedy::Refuse, "raise the topic's max.message.bytes")
        }
        Code::InvalidSessionTimeout => (Remedy::Refuse, "set session.timeout.ms within the broker's bounds"),
        Code::InconsistentGroupProtocol => {
            (Remedy::Refuse, "all workers of a group must use the same partition.assignment.strategy")
        }
        Code::AutoOffsetReset | Code::OffsetOutOfRange => {
            (Remedy::Restore, "the offset is not in the log any more: read the partition from its start")
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            (Remedy::Retry, "create the topic: driftless topics create")
        }
        Code::PollExceeded => (Remedy::Retry, "the worker stalled longer than max.poll.interval.ms and rejoins the group"),
        Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve => {
            (Remedy::Retry, "check that the brokers in bootstrap_servers run and can be reached")
        }
        Code::MessageTimedOut => (Remedy::Retry, "the brokers took no record for message.timeout.ms"),
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            (Remedy::Retry, "fewer replicas are in sync than min.insync.replicas asks for")
        }
        _ => (Remedy::Retry, ""),
    }
}

const TELL_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Lets one error of a kind through a minute: a missing mirror alone fails every second.
#[derive(Default)]
pub(super) struct FaultTeller {
    /// By the code's number.
    told: HashMap<i32, Told>,
}

struct Told {
    at: Instant,
    kept_back: u64,
}

impl FaultTeller {
    /// The error to be told now, if any. Only passing faults are ever kept back.
    pub(super) fn tell(&mut self, code: RDKafkaErrorCode, error: Error, now: Instant) -> Option<Error> {
        if error.remedy != Remedy::Retry {
            return Some(error);
        }
        match self.told.get_mut(&(code as i32)) {
            Some(told) if now.duration_since(told.at) < TELL_AGAIN_AFTER => {
                told.kept_back += 1;
                None
            }
            Some(told) => {
                let error = match told.kept_back {
                    0 => error,
                    times => Error::retry(format!("{error} (and {times} times more since it was last told)")),
                };
                *told = Told { at: now, kept_back: 0 };
                Some(error)
            }
            None => {
                self.told.insert(code as i32, Told { at: now, kept_back: 0 });
                Some(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passing_fault_is_told_once_a_minute_and_a_lasting_one_always() {
        let mut teller = FaultTeller::default();
        let start = Instant::now();
        let missing = || kafka_error(RDKafkaErrorCode::UnknownTopicOrPartition, "fetching", "us.vector-cdc");
        let mut told = Vec::new();
        for second in 0..130 {
            let now = start + Duration::from_secs(second);
            told.extend(teller.tell(RDKafkaErrorCode::UnknownTopicOrPartition, missing(), now));
        }
        assert_eq!(told.len(), 3);
        assert!(told[1].to_string().contains("59 times more"), "{}", told[1]);
        assert!(told[0].to_string().contains("topics create"), "{}", told[0]);

        let fenced = || kafka_error(RDKafkaErrorCode::FencedInstanceId, "group", "");
        for _ in 0..2 {
            let error = teller.tell(RDKafkaErrorCode::FencedInstanceId, fenced(), start).unwrap();
            assert_eq!(error.remedy, Remedy::Fatal);
        }
    }
}
