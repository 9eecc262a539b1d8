//! The operators, in the order in which a change meets them: admit, dedup, lww_merge, milvus_sink.

pub mod admit;
pub mod dedup;
pub mod lww_merge;
pub mod milvus_sink;

use crate::topology::build::{NodeOptions, NodeTypes, OptionsRefused, maker};
use serde::Deserialize;

/// Makes the operators known under the names that topologies use.
pub fn register_standard(types: &mut NodeTypes) {
    types.register("admit", |options| no_options(options).map(|()| maker(|| admit::Admit)));
    types.register("dedup", |options| {
        no_options(options)?;
        options.needs_store()?;
        Ok(maker(|| dedup::Dedup))
    });
    types.register("lww_merge", |options| {
        no_options(options)?;
        options.needs_store()?;
        Ok(maker(|| lww_merge::LwwMerge))
    });
    types.register_sink("milvus_sink", |options| no_options(options).map(|()| maker(|| milvus_sink::MilvusSink)));
    types.register_sink("null", |options| no_options(options).map(|()| maker(|| milvus_sink::NullSink)));
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

fn no_options(options: &NodeOptions<'_>) -> Result<(), OptionsRefused> {
    options.read::<NoOptions>().map(|NoOptions {}| ())
}
