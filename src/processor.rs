//! The operators, in the order in which a change meets them: admit, dedup, lww_merge, milvus_sink.

pub mod admit;
pub mod dedup;
pub mod lww_merge;
pub mod milvus_sink;

use crate::topology::build::{NodeTypes, maker};

/// A node without options: any key in its `options` is refused.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

/// Makes the standard node types known to a topology's reader.
pub fn register_standard(types: &mut NodeTypes) {
    types.register("admit", |options| options.read::<NoOptions>().map(|_| maker(|| admit::Admit)));
    types.register("dedup", |options| {
        options.needs_store()?;
        options.read::<NoOptions>().map(|_| maker(|| dedup::Dedup))
    });
    types.register("lww_merge", |options| {
        options.needs_store()?;
        options.read::<NoOptions>().map(|_| maker(|| lww_merge::LwwMerge))
    });
    types.register_sink("milvus_sink", |options| options.read::<NoOptions>().map(|_| maker(|| milvus_sink::MilvusSink)));
    types.register_sink("null", |options| options.read::<NoOptions>().map(|_| maker(|| milvus_sink::NullSink)));
}
