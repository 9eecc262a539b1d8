//! The vector store: writes in batches, reads back what it holds.

use crate::base::error::Result as AnyResult;
use crate::base::ids::{CollectionId, Region, VectorId};
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::record::collection::CollectionSpec;
use std::sync::Arc;

/// Rows of one collection, in columns: `vectors` is one slab of `rows × dimension` floats, ready to be sent.
/// A row key occurs at most once in a batch, upserts and deletes together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowBatch {
    pub ids: Vec<VectorId>,
    pub vectors: Vec<f32>,
    pub versions: Vec<Version>,
    /// One JSON object a row, without nulls.
    pub metadata: Vec<Vec<u8>>,
    pub deletes: Vec<VectorId>,
}

impl RowBatch {
    /// Bytes of its content, roughly as they are sent.
    pub fn bytes(&self) -> usize {
        const ROW_OVERHEAD: usize = 64;
        let metadata: usize = self.metadata.iter().map(Vec::len).sum();
        self.vectors.len() * 4 + metadata + (self.ids.len() + self.deletes.len()) * ROW_OVERHEAD
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.deletes.is_empty()
    }
}

/// What a read-back finds of one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    pub id: VectorId,
    pub hlc: Hlc,
    pub origin: Region,
    pub sequence: u64,
}

impl StoredVersion {
    pub fn version(&self) -> Version {
        Version { hlc: self.hlc, origin: self.origin.clone(), sequence: self.sequence }
    }
}

#[derive(Debug, Clone)]
pub enum StoreRequest {
    /// Upserts and deletes; both acknowledged, or the batch has failed (and may be sent again whole).
    Write(Arc<RowBatch>),
    /// The versions held for these ids now, read with strong consistency; ids not there are left out.
    ReadBack(Vec<VectorId>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum StoreReply {
    /// `written_at`: the store's own write timestamp.
    Written {
        written_at: u64,
    },
    ReadBack(Vec<StoredVersion>),
}

/// Why a request failed, by what it means for the batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Slow down and send it again.
    #[error("throttled: {0}")]
    Throttled(String),
    /// Not reached, or not ready (starting, collection not loaded): nothing was written. Send it again later.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// No reply in time: it may have been written, or may be yet. Its keys are suspects.
    #[error("no reply: {0}")]
    Ambiguous(String),
    /// The store refuses the content of this batch, in its own words. Halve it to find the bad row.
    #[error("refused: {0}")]
    Refused(String),
}

/// One collection's answer.
#[derive(Debug)]
pub struct StoreResponse {
    pub token: u64,
    pub outcome: Result<StoreReply, StoreError>,
}

/// Requests go out at once and run side by side; order between two of them is the caller's business.
/// Every request is answered within the RPC deadline, be it by [`StoreError::Ambiguous`].
pub trait VectorStore: Send {
    fn submit(&mut self, collection: CollectionId, request: StoreRequest, token: u64);

    /// Moves the responses that have come in to `responses`. Does not block.
    fn poll(&mut self, responses: &mut Vec<StoreResponse>);
}

/// Looking after whole collections, for commands: each call waits for its answer, and fails with
/// [`Remedy::Retry`](crate::base::error::Remedy::Retry) where the store cannot be reached.
pub trait VectorAdmin {
    /// The physical collection that an alias stands for; none if there is no such alias.
    fn alias(&mut self, name: &str) -> AnyResult<Option<String>>;

    /// Physical collections, by name.
    fn collections(&mut self) -> AnyResult<Vec<String>>;

    /// Makes an empty one that takes rows like `spec`'s, indexed and loaded.
    fn create(&mut self, physical: &str, spec: &CollectionSpec) -> AnyResult<()>;

    /// From when this returns on, requests that name the alias go to this collection.
    fn point_alias(&mut self, name: &str, physical: &str) -> AnyResult<()>;

    fn drop_collection(&mut self, physical: &str) -> AnyResult<()>;

    /// Visits the id and version of every row that was acknowledged before, each once; `spec.name` is the physical
    /// collection's.
    fn versions(&mut self, spec: &CollectionSpec, visit: &mut dyn FnMut(StoredVersion)) -> AnyResult<()>;
}
