//! Everything that there is in a run, and its one loop: the time goes to whatever is due next, and what is due is
//! done in a fixed order. So equal seeds have equal histories.

use super::check::{Limits, Rules};
use super::clock::{NodeClock, Timeline};
use super::inject;
use super::interrupt::Blow;
use super::operator::{self, Operators};
use super::plan::PlannedFault;
use super::region::{RegionParts, SimRegion};
use super::registry::SilentRegistries;
use super::scenario::Scenario;
use super::trace::{Trace, Violations};
use super::worker::{APPLICATION, SimWorker, WorkerParts};
use super::workload::{ToSend, Workload, collections};
use crate::adapter::embedded::broker::{Broker, Message};
use crate::adapter::embedded::mirror::MirrorLink;
use crate::adapter::embedded::schema::OUR_SCHEMA_ID;
use crate::adapter::embedded::stores::KeptStores;
use crate::base::ids::{Region, TopicPartition};
use crate::base::time::Clock;
use crate::region::partitioner::partition_for_key;
use crate::region::topics::TopicNames;
use crate::stream::settings::StreamSettings;
use crate::testing::random::SplitMix64;
use crate::topology::build::Topology;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How often the links copy, and buffers are looked at.
const LINK_STEP: Duration = Duration::from_millis(25);
const LOOK_STEP: Duration = Duration::from_millis(500);
/// A mirror commits its positions so often.
const LINK_COMMIT: Duration = Duration::from_secs(3);
/// Bytes of a record at most; what one poll brings may go beyond a buffer's limit.
const RECORD_BYTES_MAX: usize = 400;
/// What one read of parked changes may bring beyond the limit of their queue.
const READ_RECORDS_MAX: usize = 1_000;

pub(super) struct SimLink {
    pub from: usize,
    pub to: usize,
    pub link: MirrorLink,
    pub cut_until: Option<Duration>,
    pub slow_until: Option<Duration>,
}

pub(super) struct World {
    pub scenario: Scenario,
    pub timeline: Timeline,
    pub regions: Vec<SimRegion>,
    pub names: TopicNames,
    pub rules: Rules,
    pub links: Vec<SimLink>,
    pub workload: Workload,
    pub registries: SilentRegistries,
    pub trace: Trace,
    pub violations: Violations,
    pub random: SplitMix64,
    /// Faults to come.
    pub faults: VecDeque<PlannedFault>,
    topology: Arc<Topology>,
    pub region_names: Vec<Region>,
    brokers: Vec<(Region, Arc<Broker>)>,
    limits: Limits,
    next_worker: u64,
    /// None: workers hold their stores in memory. Else their machines keep them, and so many keys ahead of the position.
    kept_ahead: Option<usize>,
    /// When the writers send next, and how many changes are left.
    next_write: Duration,
    pub writes_left: usize,
    next_link: Duration,
    next_look: Duration,
    /// Of each region, the floors of its partitions when the scrubbers began their last passes.
    pub swept: Vec<HashMap<i32, i64>>,
    pub operators: Operators,
    /// A worker ended with an error, or something else after which nothing can be said.
    pub broken: Option<String>,
}

impl World {
    pub fn new(scenario: &Scenario, topology: Arc<Topology>, faults: Vec<PlannedFault>, trace: Trace, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let timeline = Timeline::default();
        let region_names: Vec<Region> = scenario.region_names().iter().map(Region::new).collect();
        let names = TopicNames::new(APPLICATION, 1);
        let workload = Workload::new(scenario.workload.clone(), scenario.max_lateness, region_names.clone(), random.fork());
        let violations = Violations::default();
        let writer_skew = scenario.workload.clock_skew.min(scenario.max_lateness / 2).as_millis() as u64;
        let mut regions = Vec::new();
        for (index, name) in region_names.iter().enumerate() {
            let peers: Vec<Region> = region_names.iter().filter(|peer| *peer != name).cloned().collect();
            regions.push(SimRegion::new(RegionParts {
                index,
                name: name.clone(),
                peers: &peers,
                names: &names,
                partitions: scenario.partitions,
                timeline: &timeline,
                session_timeout: scenario.session_timeout,
                broker_skew_ms: (random.between(0, 6_000) as i64 - 3_000) * scenario.broker_skew.as_millis() as i64 / 3_000,
                writer_skew_ms: random.between(0, 2 * writer_skew) as i64 - writer_skew as i64,
                max_lateness_ms: scenario.max_lateness.as_millis() as i64,
                workload: &workload,
                violations: &violations,
            }));
        }
        let rules = Rules { max_lateness_ms: scenario.max_lateness.as_millis() as i64, partitions: scenario.partitions };
        let brokers = regions.iter().map(|region| (region.name.clone(), region.broker.clone())).collect();
        let mut world = Self {
            scenario: scenario.clone(),
            links: links(scenario, &regions),
            regions,
            names,
            rules,
            workload,
            registries: SilentRegistries::default(),
            trace,
            violations,
            random,
            faults: faults.into(),
            topology,
            region_names,
            brokers,
            limits: Limits { buffered_bytes: 0, in_flight: 0 },
            next_worker: 0,
            // Drawn from nothing, so that a seed's other draws are the same with each kind.
            kept_ahead: [None, Some(usize::MAX), None, Some(5)][(seed % 4) as usize],
            next_write: Duration::ZERO,
            writes_left: scenario.workload.changes,
            next_link: Duration::ZERO,
            next_look: Duration::ZERO,
            swept: Vec::new(),
            operators: Operators::default(),
            broken: None,
            timeline,
        };
        let settings = world.settings(0);
        let beyond = settings.poll_max * RECORD_BYTES_MAX;
        world.limits = Limits {
            buffered_bytes: (settings.task.buffer_bytes_max + beyond) * scenario.regions
                + (2 * settings.task.buffer_bytes_max + READ_RECORDS_MAX * RECORD_BYTES_MAX) * collections().iter().count(),
            in_flight: settings.task.items_max + settings.poll_max,
        };
        for region in 0..scenario.regions {
            for _ in 0..scenario.workers {
                world.start_worker(region);
            }
        }
        world
    }

    pub fn now(&self) -> Duration {
        self.timeline.now()
    }

    /// What a region's workers are told: production's values but for what the scenario says.
    fn settings(&self, region: usize) -> StreamSettings {
        let names = self.names.clone();
        let collections = Arc::new(collections());
        let mut settings = StreamSettings::new(self.region_names[region].clone(), self.region_names.clone(), names, collections);
        settings.schema_id = OUR_SCHEMA_ID;
        settings.max_lateness = self.scenario.max_lateness;
        settings.horizon = inject::COMPACTION.delete_retention;
        settings.task.heartbeat_interval = self.scenario.heartbeat_interval;
        settings.task.batch_bytes_max = self.scenario.batch_bytes;
        settings.task.buffer_bytes_max = self.scenario.buffer_bytes;
        settings.task.scrub.enabled = self.scenario.scrub_pass.is_some();
        settings.task.scrub.pass_min = self.scenario.scrub_pass.unwrap_or(settings.task.scrub.pass_min);
        if self.scenario.buffer_bytes < 100_000 {
            settings.poll_max = 20;
        }
        settings
    }

    pub fn start_worker(&mut self, region: usize) {
        self.next_worker += 1;
        let id = self.next_worker;
        self.trace.note(self.now(), "worker starts", &[id], || format!("worker {id} in {}", self.region_names[region]));
        let disk = self.kept_ahead.map(|ahead| self.regions[region].disks.pop().unwrap_or_else(|| KeptStores::new(ahead)));
        let worker = SimWorker::start(WorkerParts {
            disk,
            id,
            region: &self.regions[region],
            settings: self.settings(region),
            topology: self.topology.clone(),
            timeline: self.timeline.clone(),
            registries: self.registries.clone(),
            queue_max: self.scenario.append_queue,
            standby_replicas: self.scenario.standby_replicas,
            session_timeout: self.scenario.session_timeout,
            trace: self.trace.clone(),
            random: self.random.fork(),
        });
        self.regions[region].workers.push(worker);
    }

    /// Goes on until `until`, or until something is found wrong.
    pub fn run_until(&mut self, until: Duration) {
        while self.broken.is_none() && !self.violations.any() {
            let now = self.next_time();
            if now > until {
                self.timeline.set(until);
                return;
            }
            self.timeline.set(now);
            self.do_what_is_due(now);
        }
    }

    fn next_time(&self) -> Duration {
        let now = self.now();
        let mut next = self.next_link.min(self.next_look);
        if self.writes_left > 0 {
            next = next.min(self.next_write);
        }
        if let Some(fault) = self.faults.front() {
            next = next.min(fault.at);
        }
        for region in &self.regions {
            for worker in &region.workers {
                next = next.min(worker.due(now));
            }
            let lines = region.workers.iter().map(|worker| &worker.lines).chain(&region.wrecks);
            for due in lines.filter_map(|lines| lines.due()) {
                next = next.min(due);
            }
            next = region.aliases.due().map_or(next, |due| next.min(due));
        }
        next = self.operators.due().map_or(next, |due| next.min(due));
        // Nothing happens twice at one time but a worker's rounds, which take a moment.
        next.max(now + Duration::from_millis(1))
    }

    fn do_what_is_due(&mut self, now: Duration) {
        inject::end_spells(self, now);
        while self.faults.front().is_some_and(|fault| fault.at <= now) {
            if let Some(fault) = self.faults.pop_front() {
                inject::strike(self, &fault, now);
            }
        }
        if self.writes_left > 0 && now >= self.next_write {
            self.write(now);
        }
        for region in &mut self.regions {
            for lines in region.workers.iter().map(|worker| &worker.lines).chain(&region.wrecks) {
                lines.advance(now);
            }
            region.wrecks.retain(|lines| !lines.are_empty());
            region.aliases.turn(now, &self.trace);
        }
        if now >= self.next_link {
            self.next_link = now + LINK_STEP;
            self.step_links();
        }
        self.step_workers(now);
        operator::step(self, now);
        if now >= self.next_look {
            self.next_look = now + LOOK_STEP;
            self.look(now);
        }
    }

    /// A burst of changes in some region.
    fn write(&mut self, now: Duration) {
        let left = self.scenario.duration.saturating_sub(now).as_millis() as u64;
        let burst = 1 + self.random.below(12).min(self.writes_left - 1);
        let bursts_left = (self.writes_left / 6).max(1) as u64;
        self.next_write = now + Duration::from_millis(self.random.between(0, 2 * left / bursts_left));
        let region = self.random.below(self.regions.len());
        for _ in 0..burst {
            let wall = self.regions[region].writer_clock.now().wall;
            let record = self.workload.next(region, wall);
            self.append(region, record);
        }
        self.writes_left -= burst;
    }

    fn append(&mut self, region: usize, record: ToSend) {
        let partitions = self.rules.partitions;
        let right = partition_for_key(record.key.as_deref().unwrap_or_default(), partitions);
        let partition = match record.astray {
            Some(number) => (number % partitions as u64) as i32,
            None if record.key.is_none() => self.random.below(partitions as usize) as i32,
            None => right,
        };
        let to = TopicPartition::new(self.names.local(0), partition);
        let message = Message { key: record.key, value: record.value, headers: Vec::new(), timestamp: None };
        match self.regions[region].broker.append(&to, message) {
            Ok(offset) => {
                let numbers = [region as u64, partition as u64, offset as u64];
                self.trace.note(self.now(), "written", &numbers, || format!("{} {to} at {offset}", self.region_names[region]));
            }
            Err(error) => self.broken = Some(format!("a writer could not append: {error}")),
        }
    }

    fn step_links(&mut self) {
        for link in &mut self.links {
            let down = |region: usize| self.regions[region].log_weather.lock().unwrap_or_else(PoisonError::into_inner).down;
            if down(link.from) || down(link.to) {
                continue;
            }
            // A link's own clock does not matter: only its monotonic time is looked at.
            let clock = NodeClock::new(&self.timeline, 0);
            if let Err(error) = link.link.step(clock.now()) {
                self.broken = Some(format!("a link failed: {error}"));
            }
        }
    }

    fn step_workers(&mut self, now: Duration) {
        for region in 0..self.regions.len() {
            let mut index = 0;
            while index < self.regions[region].workers.len() {
                let worker = &mut self.regions[region].workers[index];
                if worker.due(now) > now && !worker.lines.has_answers(now) {
                    index += 1;
                    continue;
                }
                let id = worker.id;
                match worker.step(now) {
                    Err(error) => return self.broken = Some(format!("worker {id} ended with an error: {error}")),
                    Ok(Some(Blow::Kill)) => inject::bury(self, region, index),
                    Ok(struck) => {
                        if struck.is_some() {
                            self.trace.note(now, "worker stands still", &[id], || format!("worker {id}, in mid-round"));
                        }
                        if self.regions[region].workers[index].has_stopped() {
                            self.trace.note(now, "worker stopped", &[id], || format!("worker {id}"));
                            let worker = self.regions[region].workers.remove(index);
                            worker.lines.orphan(0);
                            self.regions[region].disks.extend(worker.disk.clone());
                            self.regions[region].wrecks.push(worker.lines);
                        } else {
                            index += 1;
                        }
                    }
                }
            }
        }
    }

    /// What is looked at from time to time: progress, buffers.
    fn look(&mut self, now: Duration) {
        for (index, region) in self.regions.iter().enumerate() {
            let mut checks = region.checks.lock().unwrap_or_else(PoisonError::into_inner);
            checks.verify_progress(index, &self.brokers, &self.workload, &self.rules);
            for worker in &region.workers {
                self.limits.check(now, worker.id, &worker.report(), &self.violations);
            }
        }
    }

    /// Every source of a region, own and mirrored.
    pub fn sources(&self, region: usize) -> Vec<TopicPartition> {
        self.regions[region].sources(&self.region_names, &self.names, self.rules.partitions)
    }
}

fn links(scenario: &Scenario, regions: &[SimRegion]) -> Vec<SimLink> {
    let mut links = Vec::new();
    for from in 0..regions.len() {
        for to in (0..regions.len()).filter(|to| *to != from) {
            let (source, target) = (&regions[from], &regions[to]);
            let link = MirrorLink::new(
                source.broker.clone(),
                target.broker.clone(),
                source.name.clone(),
                scenario.link_delay,
                LINK_COMMIT,
            );
            links.push(SimLink { from, to, link, cut_until: None, slow_until: None });
        }
    }
    links
}
