//! A planned change's content, and the message that carries it.

use super::workload::{Flaw, PlannedChange, PlannedStamp, REGIONS};
use crate::adapter::embedded::schema::OUR_SCHEMA_ID;
use crate::base::ids::VectorId;
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::record::avro::{self, Fields, WireOp};
use crate::record::change::MetaValue;
use crate::record::framing;
use crate::testing::random::SplitMix64;
use bytes::Bytes;

pub(super) const COLLECTION: &str = "documents";

const UNKNOWN_SCHEMA_ID: u32 = 99;
const WORDS: [&str; 8] = ["river", "granite", "lantern", "orchard", "signal", "harbor", "meadow", "compass"];

/// What a row holds when this change has won.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Content {
    pub vector: Vec<f32>,
    pub metadata: Vec<(String, MetaValue)>,
}

impl Content {
    pub fn of(change: &PlannedChange, dim: usize) -> Self {
        let mut random = SplitMix64::new(change.content);
        let vector = (0..dim).map(|_| random.unit()).collect();
        let title = format!("{} {}", WORDS[random.below(WORDS.len())], WORDS[random.below(WORDS.len())]);
        let metadata = vec![
            ("title".to_owned(), MetaValue::Text(title)),
            ("revision".to_owned(), MetaValue::Long(random.below(1_000_000) as i64)),
            ("score".to_owned(), MetaValue::Double(f64::from(random.unit()))),
            ("draft".to_owned(), MetaValue::Bool(random.percent(10))),
        ];
        Self { vector, metadata }
    }
}

/// The stamp as it is sent, in a run that began at `base`.
pub(super) fn stamp_at(base: UnixMs, stamp: PlannedStamp) -> Hlc {
    Hlc::new(UnixMs(base.0 + stamp.ms), stamp.counter)
}

/// The record's key, as its producer writes it.
pub(super) fn key_text(change: &PlannedChange) -> String {
    let id = VectorId::Uuid(change.vector_id).to_string();
    if change.flaw == Some(Flaw::UpperCaseId) { id.to_uppercase() } else { id }
}

/// The record's value: framed Avro, with the flaw that was planned.
pub(super) fn encode(change: &PlannedChange, dim: usize, base: UnixMs) -> Bytes {
    let mut content = Content::of(change, dim);
    match change.flaw {
        Some(Flaw::WrongDimension) => content.vector.push(0.5),
        Some(Flaw::NotANumber) => content.vector.fill(f32::NAN),
        _ => {}
    }
    if change.delete {
        content = Content { vector: Vec::new(), metadata: Vec::new() };
    }
    let mut body = avro::encode(&Fields {
        op: if change.delete { WireOp::Delete } else { WireOp::Upsert },
        hlc: stamp_at(base, change.stamp),
        origin: if change.flaw == Some(Flaw::ForeignOrigin) { "mars" } else { REGIONS[change.region].0 },
        sequence: change.sequence,
        collection: if change.flaw == Some(Flaw::UnknownCollection) { "nowhere" } else { COLLECTION },
        vector_id: &key_text(change),
        vector: &content.vector,
        metadata: &content.metadata,
    });
    if change.flaw == Some(Flaw::CutShort) {
        // Inside the header, so that it is found before anything else is asked.
        body.truncate(6);
    }
    let schema_id = if change.flaw == Some(Flaw::UnknownSchema) { UNKNOWN_SCHEMA_ID } else { OUR_SCHEMA_ID };
    Bytes::from(framing::frame(schema_id, &body))
}
