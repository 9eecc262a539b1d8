//! A row of the old collection as a change.

use crate::base::ids::{CollectionId, RowKey, TopicPartition};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::ops::history::{Judged, Setting, judge as judge_record};
use crate::port::log::Append;
use crate::record::avro::{self, Fields, WireOp};
use crate::record::change::Body;
use crate::record::decode::decode_row;
use crate::record::framing::frame;
use crate::record::raw::{Headers, RawRecord};
use crate::record::schema::SchemaSource;
use crate::region::partitioner::partition_for_key;
use crate::store::row_key;
use bytes::Bytes;

/// How rows are written.
pub struct Scribe<'a> {
    pub setting: &'a Setting,
    pub collection: CollectionId,
    pub schema_id: u32,
    pub writer: u16,
}

impl Scribe<'_> {
    pub fn change(&self, key: &RowKey, body: &Body, stamp: Hlc) -> Append {
        let setting = self.setting;
        let id = key.id.to_string();
        let row_key = row_key::encode(key, &setting.collections);
        let content = avro::encode(&Fields {
            op: WireOp::Upsert,
            hlc: stamp,
            origin: setting.region.as_str(),
            sequence: u64::from(self.writer) << 48 | xxhash_rust::xxh3::xxh3_64(&row_key) >> 16,
            collection: &setting.collections.get(self.collection).name,
            vector_id: &id,
            vector: &body.vector,
            metadata: &body.metadata,
        });
        let partition = partition_for_key(id.as_bytes(), setting.partitions);
        Append {
            to: TopicPartition::new(setting.names.local(0), partition),
            key: Some(id.into()),
            value: Some(frame(self.schema_id, &content).into()),
            headers: Headers::new(),
        }
    }
}

/// As every region will judge it, appended now. Why it would become a dead letter, if it would.
pub fn judge(append: &Append, setting: &Setting, schemas: &mut dyn SchemaSource, now: UnixMs) -> Result<(), String> {
    let record = RawRecord {
        topic: append.to.topic.clone(),
        partition: append.to.partition,
        offset: 0,
        appended_at: now,
        key: append.key.clone(),
        value: append.value.clone(),
        headers: append.headers.to_vec(),
    };
    let change = match judge_record(setting, schemas, record, &setting.region) {
        Ok(Judged::Admitted(change)) => change,
        Ok(Judged::Refused(_, rejection)) => return Err(rejection.detail),
        Ok(Judged::MisKeyed(_) | Judged::Heartbeat) => return Err("it would lie under another key".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    let (mut vector, mut metadata) = (Vec::new(), Vec::new());
    let spec = setting.collections.get(change.key.collection);
    decode_row(&change, spec, &mut vector, &mut metadata).map_err(|rejection| rejection.detail)
}

/// As it is sent, but for the framing of batches and their compression.
pub fn bytes_of(append: &Append) -> u64 {
    (append.key.as_ref().map_or(0, Bytes::len) + append.value.as_ref().map_or(0, Bytes::len)) as u64
}
