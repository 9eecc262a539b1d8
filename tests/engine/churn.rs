//! Members that come, go, stall and die while changes keep coming: drawn from a seed, judged by the oracle.

use crate::oracle::assert_oracle;
use crate::worker::{Worker, Wreck};
use crate::world::World;
use std::time::Duration;

struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

struct Churn {
    world: World,
    workers: Vec<Worker>,
    /// Killed ones, and when what they had handed over lands.
    wrecks: Vec<(Duration, Wreck)>,
    dice: Dice,
}

impl Churn {
    fn new(seed: u64) -> Self {
        let mut world = World::new(2);
        world.settings.task.heartbeat_interval = Duration::from_secs(1);
        let workers = vec![world.start()];
        Self { world, workers, wrecks: Vec::new(), dice: Dice(seed) }
    }

    fn event(&mut self) {
        let one = self.dice.below(self.workers.len() as u64) as usize;
        let several = self.workers.len() > 1;
        match self.dice.below(14) {
            0 if self.workers.len() < 3 => self.workers.push(self.world.start()),
            1 if several => {
                let land_at = self.world.now().monotonic + Duration::from_millis(self.dice.below(8_000));
                self.wrecks.push((land_at, self.workers.remove(one).kill()));
            }
            2 if several => self.workers[one].stop(self.world.now()),
            3 => self.stall(one),
            4 => self.workers[one].store().lose_replies = 1,
            5 => {
                self.workers[one].store().hangs = true;
                self.run(2_000, 100);
                for worker in &self.workers {
                    worker.store().hangs = false;
                }
            }
            _ => self.produce(),
        }
    }

    fn produce(&mut self) {
        for _ in 0..=self.dice.below(8) {
            let origin = ["eu", "us"][self.dice.below(2) as usize];
            let (id, ms) = (self.dice.below(10) as i64, self.dice.below(3_000) as i64 + 1_000);
            match self.dice.below(5) {
                0 => self.world.delete(origin, id, ms),
                content => self.world.upsert(origin, id, ms, content as f32),
            };
        }
    }

    /// One stands still while the others go on, for longer than the session perhaps.
    fn stall(&mut self, one: usize) {
        let stalled = self.workers.remove(one);
        let ms = 1_000 + self.dice.below(11_000);
        self.run(ms, 250);
        self.workers.push(stalled);
    }

    fn run(&mut self, ms: u64, step_ms: u64) {
        let mut workers: Vec<&mut Worker> = self.workers.iter_mut().collect();
        self.world.run_in_steps(&mut workers, ms, step_ms);
        self.workers.retain(|worker| !worker.stopped);
        if self.workers.is_empty() {
            self.workers.push(self.world.start());
        }
        let now = self.world.now().monotonic;
        self.wrecks.retain(|(land_at, wreck)| {
            let due = *land_at <= now;
            if due {
                wreck.land_all();
            }
            !due
        });
        for worker in &self.workers {
            worker.store().land_strays();
        }
    }

    /// No more faults: everything must come right within the safety window.
    fn heal(&mut self) {
        for worker in &self.workers {
            worker.store().lose_replies = 0;
        }
        self.run(20_000, 250);
        assert!(self.wrecks.is_empty());
        let mut workers: Vec<&mut Worker> = self.workers.iter_mut().collect();
        self.world.settle(&mut workers);
        // An append of everyone's own, whose ack shows what others have appended.
        for id in 100..108 {
            self.world.upsert("eu", id, 7_000, 1.0);
        }
        self.world.settle(&mut workers);
        self.world.run_in_steps(&mut workers, 40_000, 250);
        self.world.settle(&mut workers);
    }
}

#[test]
fn f06_f30_f63_members_come_go_stall_and_die_under_load_and_nothing_is_lost() {
    for seed in 0..40 {
        let mut churn = Churn::new(seed);
        for _ in 0..60 {
            churn.event();
            let ms = 5 + churn.dice.below(200);
            churn.run(ms, 5);
        }
        churn.heal();
        assert_oracle(&churn.world, &[], &format!("seed {seed}"));
    }
}
