//! What an operator does beside the running workers: make topics and look after them, find out what is wrong,
//! see to dead letters. Over ports alone; `cli` brings the adapters and prints what is found.

pub mod append;
pub mod dead_letter;
pub mod doctor;
pub mod finding;
mod scan;
pub mod state_dir;
pub mod topics;
