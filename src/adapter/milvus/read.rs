//! Reading rows: the versions of given ids, and whole collections in the order of their ids.

use super::connection::Service;
use super::fault;
use super::write::{DYNAMIC_COLUMN, id_filter, id_literal};
use crate::base::ids::{Region, VectorId};
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::port::vector::{StoreError, StoredVersion};
use crate::record::collection::{CollectionSpec, HLC_COLUMN, ID_COLUMN, IdKind, ORIGIN_COLUMN, SEQUENCE_COLUMN, VECTOR_COLUMN};
use milvus::proto::common::{ConsistencyLevel, KeyValuePair};
use milvus::proto::milvus::{QueryRequest, QueryResults};
use milvus::proto::schema::{FieldData, field_data, scalar_field, vector_field};

/// Ids asked for at once: 300 KiB of expression and 500 KiB of reply for UUIDs. Each question waits for a tick
/// of the proxy, so few and large ones.
const READ_BACK_IDS: usize = 8_192;
/// Milvus gives out at most 16 384 rows at a time; and a page's floats stay below this.
const PAGE_ROWS_MAX: usize = 8_192;
const PAGE_BYTES: usize = 2 * 1024 * 1024;

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
    pub version: Version,
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
        let fields = [ID_COLUMN, HLC_COLUMN, ORIGIN_COLUMN, SEQUENCE_COLUMN];
        let columns = query(&mut service, spec, id_filter(spec, chunk)?, &fields, None, freshness).await?;
        for (id, version) in columns.ids(spec)?.into_iter().zip(columns.versions()?) {
            found.push(StoredVersion { id, hlc: version.hlc, origin: version.origin, sequence: version.sequence });
        }
    }
    Ok(found)
}

/// Visits every row in the order of its id, page by page. Rows written meanwhile may or may not be seen.
pub(super) async fn scan(
    mut service: Service,
    spec: &CollectionSpec,
    visit: &mut dyn FnMut(StoredRow),
) -> Result<(), StoreError> {
    let limit = (PAGE_BYTES / (4 * spec.dimension.max(1))).clamp(1, PAGE_ROWS_MAX);
    let mut after: Option<VectorId> = None;
    loop {
        let filter = beyond(spec, after.as_ref())?;
        let fields = [ID_COLUMN, VECTOR_COLUMN, HLC_COLUMN, ORIGIN_COLUMN, SEQUENCE_COLUMN, DYNAMIC_COLUMN];
        let columns = query(&mut service, spec, filter, &fields, Some(limit), Freshness::Strong).await?;
        let ids = columns.ids(spec)?;
        let Some(greatest) = ids.iter().max().cloned() else { return Ok(()) };
        let (vectors, versions, metadata) = (columns.vectors()?, columns.versions()?, columns.metadata()?);
        if vectors.len() != ids.len() * spec.dimension || versions.len() != ids.len() || metadata.len() != ids.len() {
            return Err(malformed("columns of different lengths"));
        }
        let rows = ids.into_iter().zip(vectors.chunks_exact(spec.dimension)).zip(versions).zip(metadata);
        for (((id, vector), version), metadata) in rows {
            visit(StoredRow { id, vector: vector.to_vec(), version, metadata: metadata.clone() });
        }
        after = Some(greatest);
    }
}

/// The next page of ids with their versions, in the order of ids; the last one is empty.
pub(super) async fn versions_after(
    mut service: Service,
    spec: &CollectionSpec,
    after: Option<&VectorId>,
) -> Result<Vec<StoredVersion>, StoreError> {
    let fields = [ID_COLUMN, HLC_COLUMN, ORIGIN_COLUMN, SEQUENCE_COLUMN];
    let filter = beyond(spec, after)?;
    let columns = query(&mut service, spec, filter, &fields, Some(PAGE_ROWS_MAX), Freshness::Strong).await?;
    let mut found = Vec::new();
    for (id, version) in columns.ids(spec)?.into_iter().zip(columns.versions()?) {
        found.push(StoredVersion { id, hlc: version.hlc, origin: version.origin, sequence: version.sequence });
    }
    Ok(found)
}

fn beyond(spec: &CollectionSpec, after: Option<&VectorId>) -> Result<String, StoreError> {
    match after {
        Some(id) => Ok(format!("{ID_COLUMN} > {}", id_literal(spec, id)?)),
        None => Ok(everything(spec.id)),
    }
}

/// A filter that every id passes: Milvus wants one wherever it limits the number of rows.
fn everything(kind: IdKind) -> String {
    match kind {
        IdKind::Int64 => format!("{ID_COLUMN} >= 0 or {ID_COLUMN} < 0"),
        IdKind::Uuid | IdKind::Text { .. } => format!("{ID_COLUMN} >= \"\""),
    }
}

async fn query(
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
        query_params: limit.map(|rows| KeyValuePair { key: "limit".to_owned(), value: rows.to_string() }).into_iter().collect(),
        consistency_level: consistency as i32,
        ..Default::default()
    };
    let results = service.query(request).await.map_err(|status| without_effect(fault::of_transport(&status)))?.into_inner();
    match fault::of_reply(results.status.as_ref()) {
        None => Ok(Columns(results)),
        Some(error) => Err(without_effect(error)),
    }
}

/// A read that got no answer has changed nothing: there is nothing to suspect.
fn without_effect(error: StoreError) -> StoreError {
    match error {
        StoreError::Ambiguous(said) => StoreError::Unavailable(said),
        other => other,
    }
}

fn malformed(what: &str) -> StoreError {
    StoreError::Unavailable(format!("Milvus' reply to a query is not as expected: {what}"))
}

/// A reply's columns. A reply without rows may come without columns.
struct Columns(QueryResults);

impl Columns {
    fn find(&self, name: &str) -> Option<&FieldData> {
        self.0.fields_data.iter().find(|field| field.field_name == name || (name == DYNAMIC_COLUMN && field.is_dynamic))
    }

    fn scalars(&self, name: &str) -> Option<&scalar_field::Data> {
        match self.find(name)?.field.as_ref()? {
            field_data::Field::Scalars(scalars) => scalars.data.as_ref(),
            _ => None,
        }
    }

    fn longs(&self, name: &str) -> Result<&[i64], StoreError> {
        match self.scalars(name) {
            Some(scalar_field::Data::LongData(longs)) => Ok(&longs.data),
            None => Ok(&[]),
            Some(_) => Err(malformed(name)),
        }
    }

    fn texts(&self, name: &str) -> Result<&[String], StoreError> {
        match self.scalars(name) {
            Some(scalar_field::Data::StringData(texts)) => Ok(&texts.data),
            None => Ok(&[]),
            Some(_) => Err(malformed(name)),
        }
    }

    fn metadata(&self) -> Result<&[Vec<u8>], StoreError> {
        match self.scalars(DYNAMIC_COLUMN) {
            Some(scalar_field::Data::JsonData(objects)) => Ok(&objects.data),
            None => Ok(&[]),
            Some(_) => Err(malformed(DYNAMIC_COLUMN)),
        }
    }

    fn vectors(&self) -> Result<&[f32], StoreError> {
        let field = self.find(VECTOR_COLUMN).and_then(|field| field.field.as_ref());
        match field {
            Some(field_data::Field::Vectors(vectors)) => match &vectors.data {
                Some(vector_field::Data::FloatVector(floats)) => Ok(&floats.data),
                _ => Err(malformed(VECTOR_COLUMN)),
            },
            Some(_) => Err(malformed(VECTOR_COLUMN)),
            None => Ok(&[]),
        }
    }

    fn versions(&self) -> Result<Vec<Version>, StoreError> {
        let (hlcs, origins, sequences) = (self.longs(HLC_COLUMN)?, self.texts(ORIGIN_COLUMN)?, self.longs(SEQUENCE_COLUMN)?);
        if hlcs.len() != origins.len() || hlcs.len() != sequences.len() {
            return Err(malformed("version columns of different lengths"));
        }
        let versions = hlcs.iter().zip(origins).zip(sequences);
        let versions = versions.map(|((hlc, origin), sequence)| Version {
            hlc: Hlc(*hlc as u64),
            origin: Region::new(origin),
            sequence: *sequence as u64,
        });
        Ok(versions.collect())
    }

    fn ids(&self, spec: &CollectionSpec) -> Result<Vec<VectorId>, StoreError> {
        match spec.id {
            IdKind::Int64 => Ok(self.longs(ID_COLUMN)?.iter().map(|number| VectorId::Int(*number)).collect()),
            IdKind::Text { .. } => Ok(self.texts(ID_COLUMN)?.iter().map(|text| VectorId::Text(text.as_str().into())).collect()),
            IdKind::Uuid => {
                let mut ids = Vec::new();
                for text in self.texts(ID_COLUMN)? {
                    let uuid = uuid::Uuid::try_parse(text).map_err(|_| malformed("an id that is not a UUID"))?;
                    ids.push(VectorId::Uuid(uuid.as_u128()));
                }
                Ok(ids)
            }
        }
    }
}
