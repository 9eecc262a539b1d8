//! The operators, in the order in which a change meets them: admit, dedup, lww_merge, milvus_sink.

pub mod admit;
pub mod dedup;
pub mod lww_merge;
pub mod milvus_sink;

use crate::topology::build::{NodeTypes, maker};
use serde::Deserialize;

/// Makes the standard node types known under their names. None of them has options.
pub fn register_standard(types: &mut NodeTypes) {
    types.register("admit", |options| {
        options.read::<NoOptions>()?;
        Ok(maker(admit::Admit::default))
    });
    types.register("dedup", |options| {
        options.read::<NoOptions>()?;
        options.needs_store()?;
        Ok(maker(dedup::Dedup::default))
    });
    types.register("lww_merge", |options| {
        options.read::<NoOptions>()?;
        options.needs_store()?;
        Ok(maker(lww_merge::LwwMerge::default))
    });
    types.register_sink("milvus_sink", |options| {
        options.read::<NoOptions>()?;
        Ok(maker(milvus_sink::MilvusSink::default))
    });
    types.register_sink("null", |options| {
        options.read::<NoOptions>()?;
        Ok(maker(milvus_sink::NullSink::default))
    });
}

#[derive(Deserialize)]
struct NoOptions {}
