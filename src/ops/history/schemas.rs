//! Every region's registry as a source of writer schemas, each schema asked for once, waiting for the answer.

use crate::base::ids::Region;
use crate::port::admin::RegistryAdmin;
use crate::record::avro;
use crate::record::schema::{SchemaLookup, SchemaSource};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub struct EveryRegistry {
    registries: BTreeMap<Region, Box<dyn RegistryAdmin>>,
    known: HashMap<(Region, u32), SchemaLookup>,
}

impl EveryRegistry {
    pub fn new(registries: BTreeMap<Region, Box<dyn RegistryAdmin>>) -> Self {
        Self { registries, known: HashMap::new() }
    }
}

impl SchemaSource for EveryRegistry {
    fn lookup(&mut self, origin: &Region, id: u32) -> SchemaLookup {
        let place = (origin.clone(), id);
        if let Some(known) = self.known.get(&place) {
            return known.clone();
        }
        let Some(registry) = self.registries.get_mut(origin) else { return SchemaLookup::Unknown };
        let found = match registry.by_id(id) {
            Ok(Some(text)) => SchemaLookup::Known(Arc::new(avro::writer_schema(&text))),
            Ok(None) => SchemaLookup::Unknown,
            Err(error) => {
                tracing::warn!(%origin, %error, "a registry does not answer");
                return SchemaLookup::Pending;
            }
        };
        self.known.insert(place, found.clone());
        found
    }
}
