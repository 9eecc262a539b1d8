//! (being written)
pub mod admin;
