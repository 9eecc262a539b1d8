//! The commands as `driftless rebuild` and `driftless rollback` run them.

use super::baton::Baton;
use super::ports::{OperatorAdmin, OperatorAppender, OperatorClock, OperatorReader, OperatorStore};
use super::{Command, Done, Ended};
use crate::adapter::embedded::EmbeddedReader;
use crate::adapter::embedded::broker::Broker;
use crate::adapter::embedded::schema::OUR_SCHEMA_ID;
use crate::adapter::embedded::vector::{Database, EmbeddedCollections};
use crate::base::error::Result;
use crate::base::ids::CollectionId;
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::ops::history::{History, Setting};
use crate::ops::job::JobFile;
use crate::ops::rebuild::{self, Rebuild};
use crate::ops::rollback::job::Job;
use crate::ops::rollback::{Rollback, Scribe, Undo};
use crate::ops::work::{Told, Work};
use crate::port::vector::VectorStore;
use crate::record::collection::Collections;
use crate::testing::sim::aliases::SimAliases;
use crate::testing::sim::check::undone::Undone;
use crate::testing::sim::clock::{NodeClock, Timeline};
use crate::testing::sim::consumer::SimReader;
use crate::testing::sim::log_line::SimAppender;
use crate::testing::sim::registry::{SilentRegistries, SimSchemas};
use crate::testing::sim::store_line::StoreWeather;
use crate::testing::sim::trace::Trace;
use crate::testing::sim::worker::Lines;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a command waits for the workers while nothing gets better.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that a command is given.
pub(super) struct Desk {
    pub setting: Setting,
    pub clock: NodeClock,
    pub timeline: Timeline,
    pub broker: Arc<Broker>,
    pub database: Arc<Database>,
    pub aliases: SimAliases,
    pub weather: Arc<Mutex<StoreWeather>>,
    pub registries: SilentRegistries,
    pub lines: Lines,
    pub trace: Trace,
    pub id: u64,
}

impl Desk {
    pub fn run(&self, command: &Command, baton: &Baton) -> Ended {
        let inner = SimReader { inner: EmbeddedReader::new(self.broker.clone()), line: self.lines.log.clone(), old_ends: None };
        let mut reader = OperatorReader { inner, baton: baton.clone() };
        let mut schemas = SimSchemas::new(self.registries.clone());
        let mut history = History { setting: &self.setting, reader: &mut reader, schemas: &mut schemas };
        let clock = OperatorClock { clock: self.clock.clone(), baton: baton.clone() };
        let mut tell = |told| self.hear(told, baton);
        let mut pause = |span| baton.pass(span);
        let mut work = Work::new(&clock, baton.killed(), &mut tell, &mut pause);
        match command {
            Command::Rebuild { collection, drop_old, file } => {
                self.rebuild(*collection, *drop_old, file, &mut history, &mut work, baton)
            }
            Command::Rollback { to, collections, origin, writer, file } => {
                let (until, proven_since) = (Hlc::at(work.now()), UnixMs(0));
                let undo = Undo {
                    to: *to,
                    until,
                    collections: collections.clone(),
                    origin: origin.clone(),
                    marked: Vec::new(),
                    proven_since,
                };
                self.roll_back(undo, *writer, file, &mut history, &mut work, baton)
            }
        }
    }

    fn hear(&self, told: Told, baton: &Baton) {
        if let Told::Note(text) = told {
            self.trace.note(self.timeline.now(), "command says", &[self.id], || format!("command {}: {text}", self.id));
            baton.call();
        }
    }

    fn rebuild(
        &self,
        collection: CollectionId,
        drop_old: bool,
        file: &JobFile,
        history: &mut History<'_>,
        work: &mut Work<'_>,
        baton: &Baton,
    ) -> Ended {
        let mut open = |names: Arc<Collections>| -> Result<Box<dyn VectorStore>> {
            let (line, now, baton) = (self.lines.store.clone(), self.timeline.clone(), baton.clone());
            Ok(Box::new(OperatorStore { line, names, now, baton, under_way: BTreeSet::new() }))
        };
        let mut admin = OperatorAdmin {
            inner: EmbeddedCollections(self.database.clone()),
            aliases: self.aliases.clone(),
            weather: self.weather.clone(),
            now: self.timeline.clone(),
            baton: baton.clone(),
            trace: self.trace.clone(),
        };
        let mut rebuild = Rebuild { collection, admin: &mut admin, open: &mut open, file, patience: PATIENCE };
        let rebuilt = rebuild.run(history, work)?;
        if drop_old {
            let old = rebuild::old(&mut admin, &history.setting.collections.get(collection).name)?;
            rebuild::drop_old(&mut admin, &old, file)?;
        }
        Ok(Done::Rebuilt { collection, standing: rebuilt.new })
    }

    fn roll_back(
        &self,
        undo: Undo,
        writer: u16,
        file: &JobFile,
        history: &mut History<'_>,
        work: &mut Work<'_>,
        baton: &Baton,
    ) -> Ended {
        let job = file.read::<Job>()?.unwrap_or_else(|| Job::new(undo.until, writer));
        let undo = Undo { until: Hlc(job.until), ..undo };
        let scribe = Scribe { stamps: job.stamps(), writer: job.writer, schema_id: OUR_SCHEMA_ID, to: undo.to };
        let mut rollback = Rollback { undo: undo.clone(), scribe, patience: PATIENCE };
        let plan = rollback.plan(history, work)?;
        let mut note_stamps =
            |stamps: &[Hlc]| file.write(&Job { stamps: stamps.iter().map(|stamp| stamp.0).collect(), ..job.clone() });
        note_stamps(&rollback.scribe.stamps)?;
        let inner = SimAppender { line: self.lines.log.clone(), now: self.timeline.clone() };
        let mut appender = OperatorAppender { inner, baton: baton.clone(), under_way: BTreeSet::new() };
        let written = rollback.carry_out(&plan, history, &mut appender, work, &mut note_stamps)?;
        file.remove()?;
        self.trace.count("row rolled back", written.restored + written.deleted);
        let Undo { to, until, collections, origin, .. } = undo;
        Ok(Done::RolledBack(Undone { after_ms: to.0, before: until.0, collections, origin }))
    }
}
