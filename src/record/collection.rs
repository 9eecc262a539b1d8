//! The configured collections: what a record is judged against. Never inferred from data, and the same in
//! every region (its hash rides in the heartbeats).

use crate::base::ids::CollectionId;
use hashbrown::HashMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    /// VARCHAR(36) in Milvus; lower-case, hyphenated in text.
    Uuid,
    /// INT64; plain decimal in text.
    Int64,
    /// VARCHAR(max_bytes).
    Text { max_bytes: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    L2,
    InnerProduct,
    Cosine,
}

/// The vector index and its build parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    Auto,
    Hnsw { m: u32, ef_construction: u32 },
    IvfFlat { nlist: u32 },
    IvfPq { nlist: u32, m: u32, nbits: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionSpec {
    pub name: String,
    pub id: IdKind,
    pub dimension: usize,
    pub metric: Metric,
    pub index: IndexKind,
    /// Create it in Milvus (as `<name>__g1` with the alias `<name>`) where it is missing.
    pub auto_create: bool,
}

/// Names of Milvus columns that are ours; metadata may not use them.
pub const ID_COLUMN: &str = "id";
pub const VECTOR_COLUMN: &str = "vector";
pub const HLC_COLUMN: &str = "_hlc";
pub const ORIGIN_COLUMN: &str = "_origin";
pub const SEQUENCE_COLUMN: &str = "_seq";

/// The physical collection behind an alias: `<name>__g1` at first, the next number with each rebuild.
pub fn physical_name(alias: &str, generation: u32) -> String {
    format!("{alias}__g{generation}")
}

/// Which generation of the alias a physical collection is; none if its name says nothing of the kind.
pub fn generation_of(alias: &str, physical: &str) -> Option<u32> {
    physical.strip_prefix(alias)?.strip_prefix("__g")?.parse().ok()
}

/// The longest encoded metadata of one row, as JSON.
pub const METADATA_BYTES_MAX: usize = 32 * 1024;
/// The longest origin, in bytes (the `_origin` column's length).
pub const ORIGIN_BYTES_MAX: usize = 64;

/// All collections, by the place that [`CollectionId`] names.
#[derive(Debug, Clone, Default)]
pub struct Collections {
    specs: Vec<CollectionSpec>,
    by_name: HashMap<String, CollectionId>,
}

impl Collections {
    /// Names must be distinct; the configuration checks that and says so with the line.
    pub fn new(specs: Vec<CollectionSpec>) -> Self {
        let by_name = specs.iter().enumerate().map(|(index, spec)| (spec.name.clone(), CollectionId(index as u16))).collect();
        Self { specs, by_name }
    }

    pub fn find(&self, name: &str) -> Option<CollectionId> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, id: CollectionId) -> &CollectionSpec {
        &self.specs[id.index()]
    }

    pub fn iter(&self) -> impl Iterator<Item = (CollectionId, &CollectionSpec)> {
        self.specs.iter().enumerate().map(|(index, spec)| (CollectionId(index as u16), spec))
    }

    /// The same but for one collection's name: how a physical collection is reached without its alias.
    pub fn with_name(&self, collection: CollectionId, name: &str) -> Self {
        let mut specs = self.specs.clone();
        specs[collection.index()].name = name.to_owned();
        Self::new(specs)
    }

    pub fn len(&self) -> usize {
        self.specs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
    }

    /// A hash of all that decides whether a record is good; regions whose hashes differ would diverge.
    pub fn schema_hash(&self) -> u64 {
        let mut parts: Vec<String> =
            self.specs.iter().map(|spec| format!("{}|{:?}|{}", spec.name, spec.id, spec.dimension)).collect();
        parts.sort();
        xxhash_rust::xxh3::xxh3_64(parts.join("\n").as_bytes())
    }
}
