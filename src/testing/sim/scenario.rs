//! A scenario: the regions, what is written in them, and what goes wrong. Plain data, read from TOML.
//!
//! A fault with `at` happens once; one with `every` again and again, about so far apart. What a fault does not
//! say (which region, which worker, how long exactly) the seed draws.

use super::span;
use crate::base::fault::Faults;
use crate::base::section::{Document, Section};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The names that regions get, in this order.
pub(super) const REGION_NAMES: [&str; 8] = ["us", "eu", "ap", "sa", "af", "me", "au", "ca"];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scenario {
    pub name: String,
    /// Numbers of the list of faults (`tests/FAULTS.md`) that it is there for.
    pub covers: Vec<u32>,
    /// 2 to 8, called us, eu, ap, sa, af, me, au, ca.
    pub regions: usize,
    pub partitions: i32,
    /// In each region at the beginning.
    pub workers: usize,
    /// Standbys of each task, on other workers of its region.
    pub standby_replicas: usize,
    /// How long things go wrong (virtual time); then everything is healed.
    #[serde(with = "span")]
    pub duration: Duration,
    /// Within this after the healing, every region must be settled.
    #[serde(with = "span")]
    pub heal_within: Duration,
    #[serde(with = "span")]
    pub max_lateness: Duration,
    #[serde(with = "span")]
    pub session_timeout: Duration,
    #[serde(with = "span")]
    pub heartbeat_interval: Duration,
    /// One way, between regions.
    #[serde(with = "span")]
    pub link_delay: Duration,
    /// How far each region's brokers may be off.
    #[serde(with = "span")]
    pub broker_skew: Duration,
    /// Records that a worker may have handed to its log client and not seen acknowledged.
    pub append_queue: usize,
    /// Bytes of a batch for the vector store.
    pub batch_bytes: usize,
    /// Bytes that a task holds back in its input buffer.
    pub buffer_bytes: usize,
    /// How long a pass of the scrubber takes; without, there is none, so that all else shows that it needs none.
    #[serde(with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub scrub_pass: Option<Duration>,
    pub workload: WorkloadSpec,
    #[serde(rename = "fault")]
    pub faults: Vec<FaultSpec>,
}

/// What is written, in all regions together. Percentages are of the changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadSpec {
    pub changes: usize,
    /// Vector ids that the changes are about: few make many conflicts.
    pub keys: usize,
    pub delete_percent: usize,
    /// The same record once more.
    pub duplicate_percent: usize,
    /// Stamped as if it had been written a while ago.
    pub disorder_percent: usize,
    #[serde(with = "span")]
    pub disorder_max: Duration,
    /// Equal stamps in two regions.
    pub tie_percent: usize,
    /// Equal versions with other content: a producer's fault. Not together with writes that land late: the vector
    /// store's rows do not tell such changes apart.
    pub twin_percent: usize,
    /// Records that must be refused, of every kind in turn.
    pub bad_percent: usize,
    /// Without a key, or with another's.
    pub keyless_percent: usize,
    /// In the plain JSON form.
    pub json_percent: usize,
    /// Ids that the vector store of the first region refuses for reasons of its own.
    pub refused_percent: usize,
    /// How far the writers' clocks may be off.
    #[serde(with = "span")]
    pub clock_skew: Duration,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultSpec {
    pub kind: FaultKind,
    /// When, since the beginning.
    #[serde(default, with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub at: Option<Duration>,
    /// How far apart on the average.
    #[serde(default, with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// How long at most.
    #[serde(default, rename = "for", with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub span: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The other end of a link: the region that is copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Which of the workers or partitions, counted round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub which: Option<u64>,
    /// How much, in the kind's own measure: see [`FaultKind`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
}

macro_rules! fault_kinds {
    ($($(#[doc = $doc:literal])* $kind:ident = $name:literal,)*) => {
        /// Everything that can go wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum FaultKind {
            $($(#[doc = $doc])* #[serde(rename = $name)] $kind,)*
        }

        impl FaultKind {
            pub const ALL: &'static [FaultKind] = &[$(FaultKind::$kind),*];

            pub fn name(self) -> &'static str {
                match self {
                    $(FaultKind::$kind => $name,)*
                }
            }
        }
    };
}

fault_kinds! {
    /// kill -9 between two rounds; what it had handed over lands, lands late, or is lost.
    KillWorker = "kill_worker",
    /// kill -9 in the middle of a round; `amount`: after so many effects.
    KillWorkerMidRound = "kill_worker_mid_round",
    /// A graceful stop.
    StopWorker = "stop_worker",
    /// One more worker.
    StartWorker = "start_worker",
    /// SIGSTOP between two rounds.
    PauseWorker = "pause_worker",
    /// SIGSTOP in the middle of a round; `amount`: after so many effects.
    PauseWorkerMidRound = "pause_worker_mid_round",
    /// The worker's connection to Kafka is cut, the one to its vector store is not.
    CutWorkerFromLog = "cut_worker_from_log",
    StoreDown = "store_down",
    /// `amount`: percent of the requests.
    StoreThrottles = "store_throttles",
    /// `amount`: ms that a request takes at most.
    StoreSlow = "store_slow",
    /// No answer to anything; what was asked may be done later, or never.
    StoreHangs = "store_hangs",
    /// Done, but no answer comes. `amount`: percent of the requests.
    StoreLosesReplies = "store_loses_replies",
    /// No answer in time, and done only after others. `amount`: percent of the requests.
    StoreLandsLate = "store_lands_late",
    /// One collection is not loaded; `which` says which.
    CollectionUnloaded = "collection_unloaded",
    LinkCut = "link_cut",
    /// `amount`: ms of delay.
    LinkSlow = "link_slow",
    /// The mirror process is killed and goes on from its last commit.
    LinkRestart = "link_restart",
    /// A mirror topic is deleted, created again, and copied again from the beginning.
    MirrorRecreated = "mirror_recreated",
    /// A region's Kafka answers nobody.
    LogDown = "log_down",
    /// `amount`: ms that an append takes at most.
    LogSlow = "log_slow",
    /// Appends fail for good, landed or not. `amount`: how many.
    AppendFails = "append_fails",
    /// Offsets without records, as transaction markers leave them.
    ControlRecords = "control_records",
    /// The log cleaner runs over a region's changelogs.
    Compaction = "compaction",
    /// Retention deletes change records that have been read everywhere.
    Retention = "retention",
    /// `amount`: ms.
    WorkerClockJump = "worker_clock_jump",
    /// `amount`: ms.
    WriterClockJump = "writer_clock_jump",
    /// `amount`: ms; at most some seconds back, as the design allows.
    BrokerClockJump = "broker_clock_jump",
    /// A region's schema registry answers nobody.
    RegistrySilent = "registry_silent",
    /// A row is gone from a region's vector store, by nobody's doing.
    RowVanishes = "row_vanishes",
    /// A row is written over by somebody else; `amount`: 0 with an older stamp, 1 with the same and a smaller sequence,
    /// 2 with a stamp that no change can have yet.
    RowOverwritten = "row_overwritten",
    /// A row appears that nobody ever wrote; `amount`: 0 from before the regions began, 1 of now, 2 with a stamp
    /// that no change can have yet.
    RowAppears = "row_appears",
    /// Not what goes wrong, but what is done meanwhile: `driftless rebuild` of a collection in a region. `amount`: it is
    /// killed after so many waits, and begun again within `for`; below 0 it is not killed.
    Rebuild = "rebuild",
    /// The next swap of an alias is turned back. `amount`: so many of them.
    AliasTurnsBack = "alias_turns_back",
    /// `driftless rollback` of the last seconds in a region, killed as a rebuild is.
    Rollback = "rollback",
}

impl FaultKind {
    /// Only the scrubber undoes it.
    pub(super) fn needs_scrubber(self) -> bool {
        matches!(self, FaultKind::RowVanishes | FaultKind::RowOverwritten | FaultKind::RowAppears)
    }

    /// An operator's doings. They count when they are done, not when they are begun.
    pub(super) fn is_command(self) -> bool {
        matches!(self, FaultKind::Rebuild | FaultKind::AliasTurnsBack | FaultKind::Rollback)
    }

    /// A roll-back goes by stamps, and reads what the change topics and changelogs still have: nobody could tell what it
    /// must do with changes that come late under old stamps, or whose predecessors are gone.
    pub(super) fn blurs_rollbacks(self) -> bool {
        matches!(
            self,
            FaultKind::WriterClockJump
                | FaultKind::BrokerClockJump
                | FaultKind::Retention
                | FaultKind::Compaction
                | FaultKind::MirrorRecreated
        )
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "unnamed".to_owned(),
            covers: Vec::new(),
            regions: 3,
            partitions: 3,
            workers: 2,
            standby_replicas: 0,
            duration: Duration::from_secs(60),
            heal_within: Duration::from_secs(240),
            max_lateness: Duration::from_secs(3600),
            session_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(2),
            link_delay: Duration::from_millis(40),
            broker_skew: Duration::from_secs(3),
            append_queue: 10_000,
            batch_bytes: 2 << 20,
            buffer_bytes: 4 << 20,
            scrub_pass: None,
            workload: WorkloadSpec::default(),
            faults: Vec::new(),
        }
    }
}

impl Default for WorkloadSpec {
    fn default() -> Self {
        Self {
            changes: 1_000,
            keys: 60,
            delete_percent: 10,
            duplicate_percent: 10,
            disorder_percent: 10,
            disorder_max: Duration::from_secs(8),
            tie_percent: 5,
            twin_percent: 0,
            bad_percent: 3,
            keyless_percent: 3,
            json_percent: 3,
            refused_percent: 3,
            clock_skew: Duration::from_secs(5),
        }
    }
}

impl FaultSpec {
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, at: None, every: None, span: None, region: None, peer: None, which: None, amount: None }
    }
}

impl Scenario {
    /// Reads a scenario; `file` is what faults call it. All that is wrong with it is told at once.
    pub fn parse(file: &str, text: &str) -> Result<Self, Faults> {
        let document = Document::parse(file, text);
        let scenario = {
            let root = document.root();
            let scenario = root.read::<Scenario>();
            if let Some(scenario) = &scenario {
                scenario.check(&root);
            }
            scenario
        };
        document.finish()?;
        Ok(scenario.expect("what could not be read has left a fault"))
    }

    /// The scenario as a file that [`parse`](Self::parse) reads.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("numbers, texts and tables have a TOML form")
    }

    /// Without all that [blurs](FaultKind::blurs_rollbacks) roll-backs.
    pub(super) fn with_clear_stamps(mut self) -> Self {
        let workload = &mut self.workload;
        (workload.disorder_percent, workload.tie_percent, workload.keyless_percent) = (0, 0, 0);
        (workload.clock_skew, self.broker_skew) = (Duration::ZERO, Duration::ZERO);
        self.faults.retain(|fault| !fault.kind.blurs_rollbacks());
        self
    }

    pub(super) fn region_names(&self) -> &'static [&'static str] {
        &REGION_NAMES[..self.regions]
    }

    fn check(&self, root: &Section<'_, '_>) {
        let refuse = |key: &str, wrong: bool, message: &str, remedy: &str| {
            if wrong {
                root.fault(root.place_of(key), message, remedy);
            }
        };
        let regions = 2..=REGION_NAMES.len();
        refuse("regions", !regions.contains(&self.regions), "there must be 2 to 8 regions", "Choose such a number.");
        refuse("partitions", !(1..=64).contains(&self.partitions), "there must be 1 to 64 partitions", "Choose such a number.");
        refuse("workers", !(1..=16).contains(&self.workers), "there must be 1 to 16 workers a region", "Choose such a number.");
        refuse("workload", self.workload.keys == 0, "`keys` may not be 0", "Write keys = 60.");
        let blurred = *self != self.clone().with_clear_stamps();
        for fault in &self.faults {
            let kind = fault.kind.name();
            if fault.kind == FaultKind::Rollback && blurred {
                let message = "nobody could tell what the fault rollback must undo in this scenario";
                let remedy = "Set broker_skew, [workload] clock_skew, disorder_percent, tie_percent and keyless_percent to 0, and \
                    leave out the clocks' jumps, retention, compaction and mirror_recreated.";
                root.fault(root.place_of("fault"), message, remedy);
            }
            if fault.at.is_some() == fault.every.is_some() {
                let message = format!("the fault {kind} needs either `at` or `every`");
                root.fault(root.place_of("fault"), message, "Write at = \"10s\" for once, every = \"10s\" for again and again.");
            }
            if fault.kind.needs_scrubber() && self.scrub_pass.is_none() {
                let message = format!("nothing undoes the fault {kind} without a scrubber");
                root.fault(root.place_of("fault"), message, "Write scrub_pass = \"10s\" at the head of the file.");
            }
            for name in fault.region.iter().chain(&fault.peer) {
                if regions.contains(&self.regions) && !self.region_names().contains(&name.as_str()) {
                    let remedy = format!("Known here: {}.", self.region_names().join(", "));
                    root.fault(
                        root.place_of("fault"),
                        format!("the fault {kind} names no region of this scenario: {name}"),
                        remedy,
                    );
                }
            }
        }
    }
}
