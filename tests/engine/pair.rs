//! Two regions with links both ways, stepped together.

use crate::worker::Worker;
use crate::world::{HandClock, World};
use driftless::adapter::embedded::mirror::MirrorLink;
use std::time::Duration;

/// eu and us, each with heartbeats.
pub struct Pair {
    pub worlds: [World; 2],
    pub links: [MirrorLink; 2],
}

impl Pair {
    pub fn new(partitions: i32, max_lateness: Duration) -> Self {
        let clock = HandClock::default();
        let worlds = [("eu", "us"), ("us", "eu")].map(|(region, peer)| {
            let mut world = World::of(region, &["eu", "us"], 1, partitions, clock.clone());
            world.settings.max_lateness = max_lateness;
            world.settings.task.heartbeat_interval = Duration::from_secs(1);
            world.create_mirror(peer, partitions);
            world
        });
        let link = |from: &World, to: &World| {
            let (delay, never) = (Duration::from_millis(30), Duration::from_secs(1_000_000));
            MirrorLink::new(from.broker.clone(), to.broker.clone(), from.settings.region.clone(), delay, never)
        };
        let links = [link(&worlds[0], &worlds[1]), link(&worlds[1], &worlds[0])];
        Self { worlds, links }
    }

    pub fn run(&mut self, workers: &mut [Worker; 2], ms: u64) {
        for _ in 0..ms / 100 {
            self.worlds[0].clock.advance(100);
            for link in &mut self.links {
                link.step(self.worlds[0].now()).unwrap();
            }
            for (world, worker) in self.worlds.iter().zip(workers.iter_mut()) {
                worker.round(world.now());
                worker.round(world.now());
            }
        }
    }
}
