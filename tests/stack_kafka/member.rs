//! A group member in a process of its own, so that it can be killed. It speaks lines: what it was given, gave
//! up and read goes out; where to read from, and when to leave, comes in.

use crate::broker;
use driftless::adapter::kafka::{KafkaGroupConsumer, Subscription};
use driftless::base::ids::TopicPartition;
use driftless::port::log::{GroupConsumer, LogEvent};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Which topics, group and properties; an environment variable, one value per line.
const ASKED: &str = "DRIFTLESS_TEST_MEMBER";

/// What a member says.
#[derive(Debug)]
pub enum Said {
    /// The partition, and the number of this assignment: an order to fetch names it.
    Assigned(i32, u32),
    Released(i32),
    Record {
        topic: String,
        partition: i32,
        offset: i64,
    },
    Fault(String),
    Ended,
}

pub struct MemberProcess {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl MemberProcess {
    /// `heard` gets what it says, with its `number`.
    pub fn start(asked: &[&str], number: usize, heard: Sender<(usize, Said)>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "group_member_process", "--nocapture"])
            .env(ASKED, asked.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for said in stdout.lines().map_while(Result::ok).filter_map(|line| parse(&line)) {
                if heard.send((number, said)).is_err() {
                    return;
                }
            }
            // Nobody may listen any more: the run is over.
            let _ = heard.send((number, Said::Ended));
        });
        Self { child, stdin }
    }

    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64, assignment: u32) {
        if let Some(stdin) = &mut self.stdin {
            // It may have died meanwhile; that it has is heard elsewhere.
            let _ = writeln!(stdin, "{topic} {partition} {offset} {assignment}");
        }
    }

    pub fn leave(&mut self) {
        self.stdin = None;
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for MemberProcess {
    fn drop(&mut self) {
        // Already gone, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(line: &str) -> Option<Said> {
    // The test harness writes its own words without a line's end first.
    let words: Vec<&str> = line.split_once("member: ")?.1.split(' ').collect();
    match words[..] {
        ["assigned", partition, assignment] => Some(Said::Assigned(partition.parse().ok()?, assignment.parse().ok()?)),
        ["released", partition] => Some(Said::Released(partition.parse().ok()?)),
        ["record", topic, partition, offset] => {
            Some(Said::Record { topic: topic.to_owned(), partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        }
        _ => Some(Said::Fault(words.join(" "))),
    }
}

/// The member itself.
pub fn run_if_asked() {
    let Ok(asked) = std::env::var(ASKED) else { return };
    let asked: Vec<&str> = asked.split('\n').collect();
    let [servers, group, strategy, instance, local, mirror] = asked[..] else { panic!("{asked:?}") };
    let mut settings = match strategy {
        "consumer" => broker::settings(servers, group, &[("group.protocol", strategy)]),
        _ => {
            let classic = [("partition.assignment.strategy", strategy), ("session.timeout.ms", "6000")];
            broker::settings(servers, group, &classic)
        }
    };
    settings.group_instance_id = (!instance.is_empty()).then(|| instance.to_owned());

    let (wake, woken) = channel();
    let lines = lines_of_stdin(wake.clone());
    let subscription = Subscription { local: Arc::from(local), co_topics: vec![Arc::from(mirror)] };
    let waker = Arc::new(move || {
        // The receiver lives as long as the process.
        let _ = wake.send(());
    });
    let mut consumer = KafkaGroupConsumer::new(&settings, &[subscription], waker).unwrap();
    let mut held = Held::default();
    while take_orders(&lines, &held, &mut consumer) {
        let mut events = Vec::new();
        consumer.poll(100, &mut events);
        if events.is_empty() && woken.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        for event in events {
            held.react(event, &mut consumer);
        }
    }
    consumer.leave();
}

fn lines_of_stdin(wake: Sender<()>) -> Receiver<Option<String>> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            sender.send(Some(line)).unwrap();
            wake.send(()).unwrap();
        }
        sender.send(None).unwrap();
        // The member may already be gone.
        let _ = wake.send(());
    });
    lines
}

/// False if it is time to leave.
fn take_orders(lines: &Receiver<Option<String>>, held: &Held, consumer: &mut KafkaGroupConsumer) -> bool {
    for line in lines.try_iter() {
        let Some(line) = line else { return false };
        let words: Vec<&str> = line.split(' ').collect();
        let [topic, partition, offset, assignment] = words[..] else { panic!("{line}") };
        let partition = TopicPartition::new(topic, partition.parse().unwrap());
        // Meant for an assignment that is over: the partition may be ours again, and others have read on meanwhile.
        if held.assignments.get(&partition.partition) != Some(&assignment.parse().unwrap()) {
            continue;
        }
        // It may have been taken away since.
        if let Err(error) = consumer.fetch_from(&partition, offset.parse().unwrap()) {
            assert_eq!(error.remedy, driftless::base::error::Remedy::Rejoin, "{error}");
        }
    }
    true
}

/// What is assigned now, each under the number that was told with it.
#[derive(Default)]
struct Held {
    assignments: BTreeMap<i32, u32>,
    count: u32,
}

impl Held {
    fn react(&mut self, event: LogEvent, consumer: &mut KafkaGroupConsumer) {
        match event {
            LogEvent::Assigned(partitions) => {
                for given in partitions {
                    self.count += 1;
                    self.assignments.insert(given.partition, self.count);
                    println!("member: assigned {} {}", given.partition, self.count);
                }
            }
            LogEvent::Revoked(partitions) | LogEvent::Lost(partitions) => {
                // A drain, of differing length; polling goes on.
                for _ in 0..partitions.len() {
                    std::thread::sleep(Duration::from_millis(20));
                    let mut events = Vec::new();
                    consumer.poll(100, &mut events);
                    events.into_iter().for_each(|event| self.react(event, consumer));
                }
                for gone in &partitions {
                    self.assignments.remove(&gone.partition);
                    println!("member: released {}", gone.partition);
                }
                consumer.release(&partitions).unwrap();
            }
            LogEvent::Record(record) => println!("member: record {} {} {}", record.topic, record.partition, record.offset),
            LogEvent::OffsetOutOfRange(partition) => println!("member: out-of-range {partition}"),
            LogEvent::Fault(error) => println!("member: fault {error}"),
        }
    }
}
