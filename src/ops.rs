//! What an operator does beside the running workers: make topics and look after them, find out what is wrong,
//! see to dead letters, compare with a peer and bring what it has, ask of the past and go back to it. Over ports alone;
//! `cli` brings the adapters and prints what is found.

pub mod append;
pub mod ask;
pub mod dead_letter;
pub mod diff;
pub mod difference;
pub mod doctor;
pub mod explain;
pub mod finding;
pub mod history;
pub mod job;
pub mod lag;
pub mod rebuild;
pub mod replica;
pub mod resync;
pub mod rollback;
mod scan;
pub mod state_dir;
pub mod topics;
pub mod work;
