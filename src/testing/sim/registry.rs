//! Schema registries that may not answer.

use crate::adapter::embedded::schema::EmbeddedSchemas;
use crate::base::ids::Region;
use crate::record::schema::{SchemaLookup, SchemaSource};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The regions whose registry does not answer. A cheap handle.
#[derive(Debug, Clone, Default)]
pub(super) struct SilentRegistries(Arc<Mutex<BTreeSet<Region>>>);

impl SilentRegistries {
    pub fn set(&self, region: &Region, silent: bool) {
        let mut regions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if silent {
            regions.insert(region.clone());
        } else {
            regions.remove(region);
        }
    }

    fn contains(&self, region: &Region) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(region)
    }
}

/// One worker's view of the registries. What it has learnt it keeps.
pub(super) struct SimSchemas {
    known: EmbeddedSchemas,
    learnt: BTreeSet<(Region, u32)>,
    silent: SilentRegistries,
}

impl SimSchemas {
    pub fn new(silent: SilentRegistries) -> Self {
        Self { known: EmbeddedSchemas::default(), learnt: BTreeSet::new(), silent }
    }
}

impl SchemaSource for SimSchemas {
    fn lookup(&mut self, origin: &Region, id: u32) -> SchemaLookup {
        if !self.learnt.contains(&(origin.clone(), id)) && self.silent.contains(origin) {
            return SchemaLookup::Pending;
        }
        let found = self.known.lookup(origin, id);
        if matches!(found, SchemaLookup::Known(_)) {
            self.learnt.insert((origin.clone(), id));
        }
        found
    }
}
