//! A client that has lost every broker is told of them again.
//!
//! A broker that is starting may answer with topics and no broker at all. librdkafka then drops all brokers it knows
//! (since 2.10; confluentinc/librdkafka issue 5301), has nobody left to ask, and never asks again: a region with one
//! broker, or one whose brokers all restart, would lose the worker without a word. Naming the bootstrap servers once
//! more, as a re-bootstrap of KIP-899 does, is harmless where they are still known.

use super::native;
use rdkafka::client::{Client, ClientContext};
use std::collections::VecDeque;
use std::ffi::{CString, NulError};
use std::time::{Duration, Instant};

/// After all brokers were said to be down. More than one, since a broker that is just being dropped counts as known.
const AFTER: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];

pub(super) struct Revival {
    servers: CString,
    due: VecDeque<Instant>,
}

impl Revival {
    pub fn new(bootstrap_servers: &str) -> Result<Self, NulError> {
        Ok(Self { servers: CString::new(bootstrap_servers)?, due: VecDeque::new() })
    }

    /// Looked at with every poll. `all_down`: librdkafka has said so since the last look.
    pub fn look<C: ClientContext>(&mut self, all_down: bool, client: &Client<C>) {
        if !all_down && self.due.is_empty() {
            return;
        }
        if self.is_due(all_down, Instant::now()) {
            self.revive(client);
        }
    }

    fn is_due(&mut self, all_down: bool, now: Instant) -> bool {
        if all_down {
            self.due = AFTER.iter().map(|after| now + *after).collect();
        }
        let due = self.due.front().is_some_and(|due| *due <= now);
        if due {
            self.due.pop_front();
        }
        due
    }

    /// At once.
    pub fn revive<C: ClientContext>(&self, client: &Client<C>) {
        native::name_brokers(client, &self.servers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_named_again_a_while_after_they_went_and_while_they_are_said_to_be_gone() {
        let mut revival = Revival::new("127.0.0.1:1").unwrap();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut named = Vec::new();
        for second in 0..200 {
            if revival.is_due(second == 5 || second == 100, at(second)) {
                named.push(second);
            }
        }
        assert_eq!(named, [7, 15, 65, 102, 110, 160]);
    }
}
