//! A worker's console: what it is told once, and where it looks.

use super::http::Served;
use crate::base::ids::Region;
use crate::config::Config;
use crate::console::Console;
use crate::console::plant::{About, Mode};
use crate::console::tap::{self, Ear};
use crate::topology::build::Topology;
use crate::topology::describe;
use std::sync::Arc;

/// The ear is for the taps on the threads' appenders.
pub(super) fn open(config: &Config, topology: &Topology, served: &Served) -> (Arc<Console>, Ear) {
    let (ear, inbox) = tap::channel();
    let about = About {
        mode: Mode::Worker,
        version: env!("CARGO_PKG_VERSION"),
        application: config.application_id.clone(),
        topology: describe::json(topology),
        regions: own_first(config),
    };
    (Arc::new(Console::new(about, Box::new(served.clone()), inbox, false)), ear)
}

pub(super) fn own_first(config: &Config) -> Vec<Region> {
    let mut regions = vec![config.region.clone()];
    regions.extend(config.regions.keys().filter(|region| **region != config.region).cloned());
    regions
}
