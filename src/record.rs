//! The change record: from a message's bytes to a judged, typed change and back.
//!
//! [`framing`] tells the encodings apart, [`avro`] and [`json`] read them, [`id`] knows the canonical form
//! of an id, `metadata` the rules of metadata, [`decode`] puts them together. Bad input ends as a [`reason::Rejection`], never as a panic.

pub mod avro;
pub mod change;
pub mod collection;
pub mod decode;
pub mod framing;
pub mod headers;
pub mod id;
pub mod json;
pub(crate) mod metadata;
pub mod raw;
pub mod reason;
pub mod schema;
pub mod size;
