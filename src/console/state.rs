//! What a console remembers from look to look.

use super::conditions::Conditions;
use super::findings::{LAG_MS_PROMISED, findings};
use super::history::{History, HistoryView};
use super::links::{LinkView, links};
use super::plant::{About, Observation, Plant};
use super::rates::Rates;
use super::snapshot::{self, Happened, Snapshot};
use super::tap::{Inbox, Recent};
use crate::base::ids::Region;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks.
pub const TICK: Duration = Duration::from_secs(1);
/// What was done from the page, and is remembered.
const HAPPENED_MAX: usize = 50;

pub struct Console {
    about: About,
    plant: Box<dyn Plant>,
    inbox: Inbox,
    switchable: bool,
    memory: Mutex<Memory>,
    newest: watch::Sender<Arc<str>>,
}

#[derive(Default)]
struct Memory {
    tick: u64,
    last: Option<Observation>,
    rates: BTreeMap<Region, Rates>,
    conditions: Conditions,
    history: History,
    recent: Recent,
    happened: VecDeque<Happened>,
}

impl Console {
    /// `switchable`: its links can be cut and healed from the page.
    pub fn new(about: About, plant: Box<dyn Plant>, inbox: Inbox, switchable: bool) -> Self {
        let (newest, _) = watch::channel(Arc::from("{}"));
        Self { about, plant, inbox, switchable, memory: Mutex::default(), newest }
    }

    /// Takes a look, and tells the pages that are open.
    pub fn look(&self) {
        let observation = self.plant.observe();
        let now = observation.now;
        let mut memory = self.memory();
        let Memory { tick, rates, conditions, history, recent, .. } = &mut *memory;
        *tick += 1;
        for observed in &observation.regions {
            rates.entry(observed.region.clone()).or_default().note(now, observed.report.totals.clone());
        }
        let links = links(&observation, &self.about.regions);
        conditions.note(findings(&observation, &links), now);
        history.note(*tick, now, &links, |link| applied_of(&observation, link));
        recent.take(&self.inbox, now.0);
        memory.last = Some(observation);
        if self.newest.receiver_count() > 0 {
            let event = self.json(&memory, memory.history.newest());
            self.newest.send_replace(Arc::from(event));
        }
    }

    /// Everything, as JSON.
    pub fn state(&self) -> String {
        let memory = self.memory();
        self.json(&memory, memory.history.all())
    }

    /// A new value with each look.
    pub fn events(&self) -> watch::Receiver<Arc<str>> {
        self.newest.subscribe()
    }

    pub fn pages_open(&self) -> usize {
        self.newest.receiver_count()
    }

    /// Notes what somebody did, and looks at once at what came of it.
    pub fn happened(&self, what: String) {
        let now = self.plant.observe().now;
        let mut memory = self.memory();
        memory.happened.push_front(Happened { at_ms: now.0, what });
        memory.happened.truncate(HAPPENED_MAX);
    }

    fn json(&self, memory: &Memory, history: HistoryView<'_>) -> String {
        let nothing = Observation { now: Default::default(), regions: Vec::new(), links: Vec::new() };
        let last = memory.last.as_ref().unwrap_or(&nothing);
        let regions = last.regions.iter();
        let snapshot = Snapshot {
            about: &self.about,
            switchable: self.switchable,
            tick: memory.tick,
            now_ms: last.now.0,
            lag_ms_promised: LAG_MS_PROMISED,
            regions: regions.map(|seen| snapshot::region(seen, &self.about, memory.rates.get(&seen.region))).collect(),
            links: links(last, &self.about.regions).into_iter().map(|link| snapshot::link_row(link, &memory.rates)).collect(),
            tasks: snapshot::tasks(last),
            conditions: memory.conditions.holding(),
            ended: memory.conditions.ended().collect(),
            recent: &memory.recent,
            happened: &memory.happened,
            history,
        };
        serde_json::to_string(&snapshot).expect("names, numbers and lists have a JSON form")
    }

    /// A look that panicked has left it readable: each field is changed by one call.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn applied_of(observation: &Observation, link: &LinkView) -> crate::task::metrics::Latencies {
    let region = observation.regions.iter().find(|observed| observed.region == link.to);
    let totals = region.and_then(|observed| observed.report.totals.sources.get(&link.from));
    totals.map(|totals| totals.latencies).unwrap_or_default()
}
