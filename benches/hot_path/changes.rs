//! Changes as they lie in the log, made from a number each: equal in every run.

use bytes::Bytes;
use driftless::base::ids::{CollectionId, Region, RowKey, VectorId};
use driftless::base::time::UnixMs;
use driftless::merge::hlc::Hlc;
use driftless::merge::version::{ContentHash, Version};
use driftless::record::avro::{Fields, WireOp, encode};
use driftless::record::change::MetaValue;
use driftless::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use driftless::record::framing::frame;
use driftless::record::raw::RawRecord;
use driftless::record::schema::{SchemaLookup, SchemaSource, WriterSchema};
use driftless::store::entry::Entry;
use std::sync::Arc;

pub const REGION: &str = "us";
const COLLECTION: &str = "documents";
const SCHEMA_ID: u32 = 7;
/// When the broker took all of them in.
pub const APPENDED_AT: UnixMs = UnixMs(1_704_067_200_000);
/// Ten minutes before: what is stamped here holds the keys at first.
const HELD: Hlc = Hlc((APPENDED_AT.0 as u64 - 600_000) << 16);

/// Makes the changes of one collection whose vectors have so many dimensions.
pub struct Changes {
    pub collections: Arc<Collections>,
    pub region: Region,
    topic: Arc<str>,
    vector: Vec<f32>,
    metadata: Vec<(String, MetaValue)>,
}

impl Changes {
    pub fn new(dimension: usize) -> Self {
        let spec = CollectionSpec {
            name: COLLECTION.to_owned(),
            id: IdKind::Uuid,
            dimension,
            metric: Metric::Cosine,
            index: IndexKind::Auto,
            auto_create: false,
        };
        let metadata = [
            ("lang", MetaValue::Text("en".to_owned())),
            ("score", MetaValue::Double(0.75)),
            ("title", MetaValue::Text("A sentence of ordinary length".to_owned())),
            ("year", MetaValue::Long(2024)),
        ];
        Self {
            collections: Arc::new(Collections::new(vec![spec])),
            region: Region::new(REGION),
            topic: "vector-cdc".into(),
            vector: (0..dimension).map(|place| (place as f32 * 0.37).sin()).collect(),
            metadata: metadata.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        }
    }

    pub fn key(&self, number: usize) -> RowKey {
        let spread = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        RowKey { collection: CollectionId(0), id: VectorId::Uuid(spread) }
    }

    /// `age`: 0 the change that holds its key at first, above it newer ones, below it older ones.
    pub fn version(&self, age: i64) -> Version {
        Version { hlc: Hlc(HELD.0.wrapping_add_signed(age)), origin: self.region.clone(), sequence: 1 << 48 | 12_345 }
    }

    /// The encoded change without its framing.
    fn content(&self, number: usize, age: i64) -> Vec<u8> {
        let version = self.version(age);
        encode(&Fields {
            op: WireOp::Upsert,
            hlc: version.hlc,
            origin: REGION,
            sequence: version.sequence,
            collection: COLLECTION,
            vector_id: &self.key(number).id.to_string(),
            vector: &self.vector,
            metadata: &self.metadata,
        })
    }

    pub fn record(&self, number: usize, age: i64) -> RawRecord {
        RawRecord {
            topic: self.topic.clone(),
            partition: 0,
            offset: 0,
            appended_at: APPENDED_AT,
            key: Some(shared(self.key(number).id.to_string().into_bytes())),
            value: Some(shared(frame(SCHEMA_ID, &self.content(number, age)))),
            headers: Vec::new(),
        }
    }

    /// What the store holds of that key at first.
    pub fn entry(&self, number: usize) -> Entry {
        Entry {
            version: self.version(0),
            content_hash: ContentHash::of(&self.content(number, 0)),
            vector_offset: number as i64,
            tombstone: false,
            refused: false,
        }
    }
}

/// As the adapter hands records over, in slices of a chunk: the first copy of one allocates nothing.
fn shared(bytes: Vec<u8>) -> Bytes {
    let chunk = Bytes::from(bytes);
    chunk.clone()
}

/// The registry's answer, known already: every value is in our own schema.
pub struct OurSchema(Arc<WriterSchema>);

impl Default for OurSchema {
    fn default() -> Self {
        Self(Arc::new(WriterSchema::Ours))
    }
}

impl SchemaSource for OurSchema {
    fn lookup(&mut self, _origin: &Region, _id: u32) -> SchemaLookup {
        SchemaLookup::Known(self.0.clone())
    }
}
