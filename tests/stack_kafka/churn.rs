//! Members come, go, stall and die while records are appended to a local topic and its mirror.
//!
//! Checked: after each change the live members own every partition once; each reads both topics without a gap
//! from the offset it was told; every record is read by somebody.

use crate::broker::{self, RealLog};
use crate::member::{MemberProcess, Said};
use driftless::base::ids::TopicPartition;
use driftless::testing::conformance::log::{LogUnderTest, append};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 6;
const MEMBERS: usize = 4;
/// Two session time-outs (KIP-848's is long), the protocol's rounds, and a busy machine.
const SETTLE: Duration = Duration::from_secs(100);
const CHANGES: usize = 5;

type Coordinate = (String, i32);

struct Churn {
    log: RealLog,
    asked: Vec<String>,
    is_static: bool,
    topics: [Arc<str>; 2],
    members: BTreeMap<usize, MemberProcess>,
    /// Its slot, for each member; a slot's static id is used again.
    slots: BTreeMap<usize, usize>,
    started: usize,
    owned: BTreeMap<usize, BTreeSet<i32>>,
    /// The offset that a member's next record of a partition must have.
    next: BTreeMap<(usize, Coordinate), i64>,
    /// Below this offset everything has been read by somebody.
    read_up_to: BTreeMap<Coordinate, i64>,
    read_by: BTreeMap<Coordinate, usize>,
    ends: BTreeMap<Coordinate, i64>,
    say: Sender<(usize, Said)>,
    heard: Receiver<(usize, Said)>,
}

pub fn run(strategy: &str, is_static: bool, seed: u64) {
    let Some(mut log) = RealLog::connect() else { return };
    let changes = std::env::var("DRIFTLESS_CHURN").ok().and_then(|count| count.parse().ok()).unwrap_or(CHANGES);
    let local = log.unique("churn");
    let mirror: Arc<str> = Arc::from(format!("us.{local}"));
    log.create_topic(&local, PARTITIONS);
    log.create_topic(&mirror, PARTITIONS);
    let servers = broker::servers().unwrap();
    let group = log.unique("churn-group");
    let asked = [&servers, &*group, strategy, "", &local, &mirror].map(str::to_owned).to_vec();
    let (say, heard) = channel();
    let mut churn = Churn {
        log,
        asked,
        is_static,
        topics: [local, mirror],
        members: BTreeMap::new(),
        slots: BTreeMap::new(),
        started: 0,
        owned: BTreeMap::new(),
        next: BTreeMap::new(),
        read_up_to: BTreeMap::new(),
        read_by: BTreeMap::new(),
        ends: BTreeMap::new(),
        say,
        heard,
    };
    churn.start();
    churn.settle("the first member");
    let mut random = SmallRng::seed_from_u64(seed);
    for change in 0..changes {
        let what = churn.change(change, &mut random);
        churn.append_everywhere();
        churn.settle(&what);
        eprintln!("{strategy}{}: {} of {changes}: {what}", if is_static { ", static" } else { "" }, change + 1);
    }
}

impl Churn {
    /// First each kind once, then at random; sometimes with a start on top.
    fn change(&mut self, number: usize, random: &mut SmallRng) -> String {
        let kind = match number {
            0 | 1 => 0,
            2 => 2,
            3 => 3,
            4 => 1,
            _ => random.random_range(0..4),
        };
        let victim = self.members.keys().copied().nth(random.random_range(0..self.members.len())).unwrap();
        let what = match kind {
            _ if self.members.len() == 1 => self.start(),
            0 if self.members.len() < MEMBERS => self.start(),
            0 | 1 => self.leave(victim),
            2 => self.kill(victim),
            _ => self.stall(victim),
        };
        if random.random_bool(0.3) && self.members.len() < MEMBERS { format!("{what}; {}", self.start()) } else { what }
    }

    fn start(&mut self) -> String {
        let number = self.started;
        self.started += 1;
        let slot = (0..).find(|slot| !self.slots.values().any(|taken| taken == slot)).unwrap();
        if self.is_static {
            self.asked[3] = format!("instance-{slot}");
        }
        let asked: Vec<&str> = self.asked.iter().map(String::as_str).collect();
        self.members.insert(number, MemberProcess::start(&asked, number, self.say.clone()));
        self.slots.insert(number, slot);
        self.owned.insert(number, BTreeSet::new());
        format!("member {number} starts")
    }

    fn leave(&mut self, number: usize) -> String {
        self.members.get_mut(&number).unwrap().leave();
        self.hear_until(&format!("member {number} leaves"), |churn| !churn.owned.contains_key(&number));
        self.members.remove(&number);
        format!("member {number} left")
    }

    fn kill(&mut self, number: usize) -> String {
        self.members.get_mut(&number).unwrap().kill();
        self.hear_until(&format!("member {number} dies"), |churn| !churn.owned.contains_key(&number));
        self.members.remove(&number);
        format!("member {number} was killed")
    }

    /// Stopped for longer than the session time-out, so that others take over behind its back.
    fn stall(&mut self, number: usize) -> String {
        self.members[&number].signal("STOP");
        let until = Instant::now() + Duration::from_secs(8);
        while Instant::now() < until {
            self.hear(Duration::from_millis(100));
        }
        self.members[&number].signal("CONT");
        format!("member {number} was stalled")
    }

    fn append_everywhere(&mut self) {
        for topic in self.topics.clone() {
            for partition in 0..PARTITIONS {
                let to = TopicPartition::new(Arc::clone(&topic), partition);
                let last = *append(&mut self.log, &to, &["a", "b", "c"]).last().unwrap();
                self.ends.insert((topic.to_string(), partition), last + 1);
            }
        }
    }

    /// Waits until everything is owned once; then what is appended must come from its owner.
    fn settle(&mut self, after: &str) {
        let owned_once = |churn: &Churn| {
            let all: Vec<i32> = churn.owned.values().flatten().copied().collect();
            all.len() == PARTITIONS as usize && all.iter().collect::<BTreeSet<_>>().len() == all.len()
        };
        self.hear_until(&format!("{after}: every partition owned once"), owned_once);
        self.append_everywhere();
        self.hear_until(&format!("{after}: everything read"), |churn| {
            churn.ends.iter().all(|(coordinate, end)| churn.read_up_to.get(coordinate) == Some(end))
        });
        for ((topic, partition), reader) in &self.read_by {
            let owner = self.owned.iter().find(|(_, owned)| owned.contains(partition)).map(|(number, _)| number);
            assert_eq!(owner, Some(reader), "{after}: {topic}[{partition}] was read by another than its owner");
        }
    }

    fn hear_until(&mut self, what: &str, done: impl Fn(&Churn) -> bool) {
        let deadline = Instant::now() + SETTLE;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "never: {what}; owned {:?}, read {:?}, ends {:?}",
                self.owned,
                self.read_up_to,
                self.ends
            );
            self.hear(Duration::from_millis(100));
        }
    }

    fn hear(&mut self, patience: Duration) {
        let Ok((number, said)) = self.heard.recv_timeout(patience) else { return };
        match said {
            Said::Assigned(partition, assignment) => self.assigned(number, partition, assignment),
            Said::Released(partition) => {
                self.owned.get_mut(&number).unwrap().remove(&partition);
                self.next.retain(|(member, (_, of)), _| (*member, *of) != (number, partition));
            }
            Said::Record { topic, partition, offset } => self.record(number, (topic, partition), offset),
            Said::Fault(text) => eprintln!("member {number}: {text}"),
            Said::Ended => {
                self.owned.remove(&number);
                self.slots.remove(&number);
                self.next.retain(|(member, _), _| *member != number);
            }
        }
    }

    fn assigned(&mut self, number: usize, partition: i32, assignment: u32) {
        assert!(self.owned.get_mut(&number).unwrap().insert(partition), "member {number} was given {partition} twice");
        for topic in &self.topics {
            let coordinate = (topic.to_string(), partition);
            let from = self.read_up_to.get(&coordinate).copied().unwrap_or(0);
            if let Some(member) = self.members.get_mut(&number) {
                member.fetch(topic, partition, from, assignment);
            }
            self.next.insert((number, coordinate), from);
        }
    }

    fn record(&mut self, number: usize, coordinate: Coordinate, offset: i64) {
        let next = self.next.get_mut(&(number, coordinate.clone()));
        let next = next.unwrap_or_else(|| panic!("member {number} read {coordinate:?} at {offset} without owning it"));
        assert_eq!(offset, *next, "member {number} skipped or repeated in {coordinate:?}");
        *next += 1;
        let read_up_to = self.read_up_to.entry(coordinate.clone()).or_insert(0);
        *read_up_to = (*read_up_to).max(offset + 1);
        self.read_by.insert(coordinate, number);
    }
}
