//! Reading rows: the versions of given ids, and whole collections in the order of their ids.
//!
//! Pages are asked for as Milvus' own iterators do it: ids greater than the last one seen, a limit, and a reduction
//! that keeps the order of ids. Without the latter a query with a limit gives any rows that match, and what lies
//! between them would be passed over. Each segment may contribute up to the limit, so a page can hold many times as
//! many rows; and only an empty one is the end.

use super::columns::{Columns, malformed};
use super::connection::Service;
use super::fault;
use super::write::{DYNAMIC_COLUMN, id_filter, id_literal};
use crate::base::ids::VectorId;
use crate::merge::version::Version;
use crate::port::vector::{Page, StoreError, StoredVersion};
use crate::record::collection::{CollectionSpec, HLC_COLUMN, ID_COLUMN, IdKind, ORIGIN_COLUMN, SEQUENCE_COLUMN, VECTOR_COLUMN};
use milvus::proto::common::{ConsistencyLevel, KeyValuePair};
use milvus::proto::milvus::QueryRequest;
use std::collections::HashSet;

/// Ids asked for at once: 300 KiB of expression and 500 KiB of reply for UUIDs. Each question waits for a tick
/// of the proxy, so few and large ones.
const READ_BACK_IDS: usize = 8_192;
/// Milvus gives out at most 16 384 rows at a time; and a page's floats are meant to stay below this.
const PAGE_ROWS_MAX: usize = 8_192;
const PAGE_BYTES: usize = 2 * 1024 * 1024;
/// Scalars of so many rows from each of a hundred segments are 12 MiB.
const SCALAR_PAGE_ROWS_MAX: usize = 1_000;

/// Which rows a read must see.
#[derive(Debug, Clone, Copy)]
pub(super) enum Freshness {
    /// All that were acknowledged before it; it waits for them.
    Strong,
    /// Those that are visible now.
    Whatever,
}

/// One row as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRow {
    pub id: VectorId,
    pub vector: Vec<f32>,
    /// `None`: somebody else wrote the row.
    pub version: Option<Version>,
    /// The row's dynamic fields: one JSON object.
    pub metadata: Vec<u8>,
}

/// The versions held for these ids; ids that are not there are left out.
pub(super) async fn versions_of(
    mut service: Service,
    spec: &CollectionSpec,
    ids: &[VectorId],
    freshness: Freshness,
) -> Result<Vec<StoredVersion>, StoreError> {
    let mut found = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(READ_BACK_IDS) {
        found.extend(versions(&mut service, spec, id_filter(spec, chunk)?, freshness).await?);
    }
    Ok(found)
}

/// The versions held for these ids; of an id with two rows, the one of another version than this. Milvus shows one row
/// of an id, and which of them is left to chance, so the first question leaves out the rows that are as they should be.
/// Of a question about n ids it gives n rows at most and only then folds those of one id, so that two rows of one can
/// hide another's: what is not seen is asked for again.
pub(super) async fn compared(
    mut service: Service,
    spec: &CollectionSpec,
    expected: &[(VectorId, Version)],
) -> Result<Vec<StoredVersion>, StoreError> {
    let mut found = Vec::with_capacity(expected.len());
    for chunk in expected.chunks(READ_BACK_IDS) {
        let mut left: Vec<VectorId> = chunk.iter().map(|(id, _)| id.clone()).collect();
        let stamps: Vec<String> = chunk.iter().map(|(_, version)| (version.hlc.0 as i64).to_string()).collect();
        let others = format!("{} and {HLC_COLUMN} not in [{}]", id_filter(spec, &left)?, stamps.join(","));
        let mut seen = versions(&mut service, spec, others, Freshness::Strong).await?;
        loop {
            let ids: HashSet<&VectorId> = seen.iter().map(|stored| &stored.id).collect();
            left.retain(|id| !ids.contains(id));
            found.append(&mut seen);
            if left.is_empty() {
                break;
            }
            seen = versions(&mut service, spec, id_filter(spec, &left)?, Freshness::Strong).await?;
            if seen.is_empty() {
                break;
            }
        }
    }
    Ok(found)
}

async fn versions(
    service: &mut Service,
    spec: &CollectionSpec,
    filter: String,
    freshness: Freshness,
) -> Result<Vec<StoredVersion>, StoreError> {
    let fields = [ID_COLUMN, HLC_COLUMN, ORIGIN_COLUMN, SEQUENCE_COLUMN];
    let columns = query(service, spec, filter, &fields, None, freshness).await?;
    let ids = columns.ids(spec)?;
    let versions = columns.versions(ids.len())?;
    let row = |(id, version): (Result<VectorId, String>, _)| {
        let id = id.map_err(|text| malformed(&format!("nobody asked for id {text:?}")))?;
        Ok(StoredVersion { id, version })
    };
    ids.into_iter().zip(versions).map(row).collect()
}

/// The versions of the rows behind `after`; see [`StoreRequest::Scan`](crate::port::vector::StoreRequest::Scan).
pub(super) async fn page(
    mut service: Service,
    spec: &CollectionSpec,
    after: Option<&VectorId>,
    limit: usize,
) -> Result<Page, StoreError> {
    let fields = [ID_COLUMN, HLC_COLUMN, ORIGIN_COLUMN, SEQUENCE_COLUMN];
    let limit = Some(limit.clamp(1, SCALAR_PAGE_ROWS_MAX));
    let columns = query(&mut service, spec, behind(spec, after)?, &fields, limit, Freshness::Strong).await?;
    let ids = columns.ids(spec)?;
    let versions = columns.versions(ids.len())?;
    let mut page = Page { next: greatest(&ids), ..Page::default() };
    for (id, version) in ids.into_iter().zip(versions) {
        match id {
            Ok(id) => page.rows.push(StoredVersion { id, version }),
            Err(_) => page.misnamed += 1,
        }
    }
    Ok(page)
}

/// Visits every row in the order of its id, page by page. Rows written meanwhile may or may not be seen.
pub(super) async fn scan(
    mut service: Service,
    spec: &CollectionSpec,
    visit: &mut dyn FnMut(StoredRow),
) -> Result<(), StoreError> {
    let rows_wanted = (PAGE_BYTES / (4 * spec.dimension.max(1))).clamp(1, PAGE_ROWS_MAX);
    // How many segments contribute shows in the first reply.
    let mut limit = rows_wanted.div_ceil(16);
    let mut after: Option<VectorId> = None;
    loop {
        let fields = [ID_COLUMN, VECTOR_COLUMN, HLC_COLUMN, ORIGIN_COLUMN, SEQUENCE_COLUMN, DYNAMIC_COLUMN];
        let filter = behind(spec, after.as_ref())?;
        let columns = query(&mut service, spec, filter, &fields, Some(limit), Freshness::Strong).await?;
        let ids = columns.ids(spec)?;
        let Some(last) = greatest(&ids) else { return Ok(()) };
        let (vectors, versions, metadata) = (columns.vectors(VECTOR_COLUMN)?, columns.versions(ids.len())?, columns.metadata()?);
        if vectors.len() != ids.len() * spec.dimension || metadata.len() != ids.len() {
            return Err(malformed("columns of different lengths"));
        }
        limit = (limit * rows_wanted / ids.len()).clamp(1, rows_wanted);
        let rows = ids.into_iter().zip(vectors.chunks_exact(spec.dimension)).zip(versions).zip(metadata);
        for (((id, vector), version), metadata) in rows {
            let id = id.map_err(|text| malformed(&format!("id {text:?} is none of {}", spec.name)))?;
            visit(StoredRow { id, vector: vector.to_vec(), version, metadata: metadata.clone() });
        }
        after = Some(last);
    }
}

/// The ids behind one, or all: Milvus wants a filter wherever it limits the number of rows.
fn behind(spec: &CollectionSpec, after: Option<&VectorId>) -> Result<String, StoreError> {
    behind_in(ID_COLUMN, spec, after)
}

pub(super) fn behind_in(column: &str, spec: &CollectionSpec, after: Option<&VectorId>) -> Result<String, StoreError> {
    match (after, spec.id) {
        // A misnamed row's, as it stands in the column.
        (Some(VectorId::Text(text)), IdKind::Uuid) => Ok(format!("{column} > {}", serde_json::Value::from(&**text))),
        (Some(id), _) => Ok(format!("{column} > {}", id_literal(spec, id)?)),
        (None, IdKind::Int64) => Ok(format!("{column} >= 0 or {column} < 0")),
        (None, IdKind::Uuid | IdKind::Text { .. }) => Ok(format!("{column} >= \"\"")),
    }
}

/// The greatest id of a page, in the order of the column: text by its bytes.
pub(super) fn greatest(ids: &[Result<VectorId, String>]) -> Option<VectorId> {
    let in_column = |id: &Result<VectorId, String>| match id {
        Ok(VectorId::Int(number)) => (*number, String::new()),
        Ok(id) => (0, id.to_string()),
        Err(text) => (0, text.clone()),
    };
    let last = ids.iter().max_by_key(|id| in_column(id))?;
    Some(last.clone().unwrap_or_else(|text| VectorId::Text(text.into())))
}

pub(super) async fn query(
    service: &mut Service,
    spec: &CollectionSpec,
    filter: String,
    fields: &[&str],
    limit: Option<usize>,
    freshness: Freshness,
) -> Result<Columns, StoreError> {
    let consistency = match freshness {
        Freshness::Strong => ConsistencyLevel::Strong,
        Freshness::Whatever => ConsistencyLevel::Eventually,
    };
    let request = QueryRequest {
        collection_name: spec.name.clone(),
        expr: filter,
        output_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        query_params: limit.map(paging).unwrap_or_default(),
        consistency_level: consistency as i32,
        ..Default::default()
    };
    let results = service.query(request).await.map_err(|status| without_effect(fault::of_transport(&status)))?.into_inner();
    match fault::of_reply(results.status.as_ref()) {
        None => Ok(Columns(results)),
        Some(error) => Err(without_effect(error)),
    }
}

fn paging(rows: usize) -> Vec<KeyValuePair> {
    let settings = [("limit", rows.to_string()), ("iterator", "True".to_owned()), ("reduce_stop_for_best", "True".to_owned())];
    settings.into_iter().map(|(key, value)| KeyValuePair { key: key.to_owned(), value }).collect()
}

/// A read that got no answer has changed nothing: there is nothing to suspect.
fn without_effect(error: StoreError) -> StoreError {
    match error {
        StoreError::Ambiguous(said) => StoreError::Unavailable(said),
        other => other,
    }
}
