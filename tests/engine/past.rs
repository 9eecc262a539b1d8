//! An operator's commands over the in-memory logs: what they need of a world.

use crate::world::{HandClock, World};
use driftless::adapter::embedded::EmbeddedReader;
use driftless::adapter::embedded::broker::Broker;
use driftless::adapter::embedded::schema::EmbeddedSchemas;
use driftless::ops::history::{History, Setting};
use driftless::ops::work::{Told, Work};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub struct Desk {
    pub setting: Setting,
    broker: Arc<Broker>,
    clock: HandClock,
    pub interrupted: AtomicBool,
}

impl Desk {
    pub fn of(world: &World) -> Self {
        let settings = &world.settings;
        let setting = Setting {
            region: settings.region.clone(),
            peers: settings.regions.iter().filter(|region| **region != settings.region).cloned().collect(),
            names: settings.topics.clone(),
            partitions: world.partitions,
            collections: settings.collections.clone(),
            max_lateness_ms: settings.max_lateness.as_millis() as i64,
        };
        let interrupted = AtomicBool::new(false);
        Self { setting, broker: world.broker.clone(), clock: world.clock.clone(), interrupted }
    }

    /// `pause` lets the workers get on, `tell` hears what is told.
    pub fn work<T>(
        &self,
        pause: &mut dyn FnMut(Duration),
        tell: &mut dyn FnMut(Told),
        act: impl FnOnce(&mut History<'_>, &mut Work<'_>) -> T,
    ) -> T {
        let mut reader = EmbeddedReader::new(self.broker.clone());
        let mut schemas = EmbeddedSchemas::default();
        let mut history = History { setting: &self.setting, reader: &mut reader, schemas: &mut schemas };
        let mut work = Work::new(&self.clock, &self.interrupted, tell, pause);
        act(&mut history, &mut work)
    }
}
