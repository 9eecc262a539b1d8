//! The thread that keeps a worker's standby tasks.

use crate::adapter::kafka::{KafkaGroupView, KafkaLogReader, KafkaSettings};
use crate::adapter::system::SystemClock;
use crate::base::error::{Error, Result};
use crate::config::Config;
use crate::store::Stores;
use crate::stream::driver::drive_standbys;
use crate::stream::settings::StreamSettings;
use crate::stream::standby::{StandbyKeeper, StandbySettings, Standbys};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

pub(super) struct StandbyThread {
    pub standbys: Standbys,
    thread: JoinHandle<()>,
}

impl StandbyThread {
    /// None where no standbys are wanted. `kafka`: as the stream threads' members have it.
    pub fn start(
        config: &Config,
        settings: &StreamSettings,
        kafka: &KafkaSettings,
        stores: Arc<dyn Stores>,
        clock: SystemClock,
    ) -> Result<Option<Self>> {
        if config.worker.standby_replicas == 0 {
            return Ok(None);
        }
        let standbys = Standbys::default();
        let settings = StandbySettings {
            replicas: config.worker.standby_replicas,
            process: kafka.member_client_id(),
            topics: settings.topics.clone(),
            collections: settings.collections.clone(),
            stores,
            horizon: settings.horizon,
        };
        let keeper = StandbyKeeper::new(settings, standbys.clone());
        let (mut reader, mut view) = (KafkaLogReader::new(kafka)?, KafkaGroupView::new(kafka)?);
        let thread = thread::Builder::new()
            .name("standby".to_owned())
            .spawn(move || drive_standbys(keeper, &mut reader, &mut view, &clock))
            .map_err(|error| Error::fatal(format_args!("no thread for the standby tasks: {error}")))?;
        Ok(Some(Self { standbys, thread }))
    }

    pub fn end(self) -> Result<()> {
        self.standbys.end();
        let ended = self.thread.join().map_err(|_| Error::fatal("the thread of the standby tasks has panicked"));
        self.standbys.let_go();
        ended
    }
}

/// Told from every other process that runs now: not by its number, which is 1 in each container.
pub(super) fn process_tag() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}
