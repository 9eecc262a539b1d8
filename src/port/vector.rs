//! The vector store: writes in batches, reads back what it holds, by ids or page by page.

use crate::base::error::Result as AnyResult;
use crate::base::ids::{CollectionId, VectorId};
use crate::merge::version::Version;
use crate::record::change::Body;
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

/// What a read finds of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    pub id: VectorId,
    /// `None`: the row carries none, so somebody else wrote it (as in a collection that is still to be imported).
    pub version: Option<Version>,
}

/// A part of a collection, in the order of its ids (text by its bytes).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<StoredVersion>,
    /// Rows whose ids have another form than the collection's ids have: no change can be meant for them.
    pub misnamed: usize,
    /// What the next page comes after; `None` at the end. Of a misnamed row it is the text as it stands.
    pub next: Option<VectorId>,
}

#[derive(Debug, Clone)]
pub enum StoreRequest {
    /// Upserts and deletes; both acknowledged, or the batch has failed (and may be sent again whole).
    Write(Arc<RowBatch>),
    /// The versions held for these ids now, read with strong consistency; ids not there are left out.
    ReadBack(Vec<VectorId>),
    /// Read back likewise, to be compared with these versions: of an id that the store shows two rows of, the one that
    /// is of another version. (Milvus may lose the delete in an upsert: its issues 31548 and 38947.)
    Compare(Vec<(VectorId, Version)>),
    /// The versions of a part of the collection, read with strong consistency: of about `limit` rows, a store may
    /// give more or fewer. `after` is the last page's `next`. Rows written while pages are read may be missed.
    Scan { after: Option<VectorId>, limit: usize },
}

#[derive(Debug, Clone, PartialEq)]
pub enum StoreReply {
    /// `written_at`: the store's own write timestamp.
    Written {
        written_at: u64,
    },
    ReadBack(Vec<StoredVersion>),
    Scanned(Page),
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

    /// From when this returns on, requests that name the alias go to this collection; it is made if there is none. A
    /// server with caches may yet turn back, which [`reaches`](Self::reaches) tells.
    fn point_alias(&mut self, name: &str, physical: &str) -> AnyResult<()>;

    /// Do requests that name the alias go to this collection now?
    fn reaches(&mut self, name: &str, physical: &str) -> AnyResult<bool>;

    fn drop_collection(&mut self, physical: &str) -> AnyResult<()>;

    fn rename(&mut self, physical: &str, to: &str) -> AnyResult<()>;
}

/// A row of a collection that is not ours, whatever its columns are called there.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignRow {
    /// Of another form than the configured collection's ids: as it stands.
    pub id: Result<VectorId, String>,
    /// Every other column is metadata.
    pub body: Body,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForeignPage {
    pub rows: Vec<ForeignRow>,
    /// What the next page comes after; `None` at the end.
    pub next: Option<VectorId>,
}

/// A collection that is not ours, read for once, in the order of its ids. Each call waits for its answer.
pub trait ForeignRows {
    fn count(&mut self) -> AnyResult<u64>;

    /// Read with strong consistency. Without bodies only the ids are read.
    fn page(&mut self, after: Option<&VectorId>, with_bodies: bool) -> AnyResult<ForeignPage>;
}
