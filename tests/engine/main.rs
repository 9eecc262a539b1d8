//! The engine on the in-memory adapters: stream thread and restorer stepped by hand, in one thread, on a clock
//! moved by hand. Nothing waits and nothing is random; every fault is put where the test wants it.

mod admission;
mod churn;
mod crash;
mod faulty_log;
mod faulty_store;
mod fuse;
mod hold;
mod import;
mod lag;
mod membership;
mod oracle;
mod outage;
mod oversize;
mod pair;
mod parking;
mod past;
mod reassertion;
mod rebuild;
mod refusals;
mod repair;
mod restart;
mod restore;
mod resync;
mod rollback;
mod scrub;
mod sources;
mod standby;
mod tombstones;
mod warm;
mod worker;
mod world;
mod zombies;
