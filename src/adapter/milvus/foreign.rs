//! A collection that is not ours, read page by page: its primary key is the id, its one vector the vector, and every other
//! column, and each dynamic field, is metadata.

use super::MilvusSettings;
use super::admin::MilvusAdmin;
use super::columns::Columns;
use super::connection::{Service, pause};
use super::read::{Freshness, behind_in, greatest, query};
use super::write::DYNAMIC_COLUMN;
use crate::base::error::{Error, Result};
use crate::base::ids::VectorId;
use crate::port::vector::{ForeignPage, ForeignRow, ForeignRows, StoreError};
use crate::record::change::{Body, MetaValue};
use crate::record::collection::{CollectionSpec, HLC_COLUMN, IdKind};
use crate::record::metadata::fields_of;
use milvus::v2::prelude::{CollectionDesc, DataType};
use std::time::Duration;
use tokio::runtime::Handle;

/// A reply over 4 MiB fails, and it may hold as many rows from each segment.
const PAGE_BYTES: usize = 1 << 20;
const PAGE_ROWS_MAX: usize = 1_000;
const DEADLINE: Duration = Duration::from_secs(30);
/// Attempts at a page; between them a moment passes.
const ATTEMPTS_MAX: u32 = 5;
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(1);

/// Which column is what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    id: String,
    vector: String,
    others: Vec<String>,
    dynamic: bool,
}

/// Each call blocks the calling thread, which must not be one of the runtime's.
pub struct MilvusForeign {
    runtime: Handle,
    service: Service,
    /// The configured collection under the old one's name.
    spec: CollectionSpec,
    layout: Layout,
}

impl MilvusForeign {
    /// Loads it if it is not.
    pub fn open(runtime: Handle, settings: &MilvusSettings, physical: &str, spec: &CollectionSpec) -> Result<Self> {
        let admin = runtime.block_on(MilvusAdmin::connect(settings))?;
        let described = runtime.block_on(admin.describe(physical))?;
        let described = described.ok_or_else(|| Error::refuse(format!("there is no collection {physical}")))?;
        let layout = layout_of(physical, &described, spec)?;
        runtime.block_on(admin.load(physical, true))?;
        let spec = CollectionSpec { name: physical.to_owned(), ..spec.clone() };
        Ok(Self { service: admin.service(), runtime, spec, layout })
    }

    /// A read that fails is tried again: the collection is only read.
    fn ask(&self, filter: &str, fields: &[&str], limit: Option<usize>) -> Result<Columns> {
        let mut attempts = 1;
        loop {
            let mut service = self.service.clone();
            let asking = query(&mut service, &self.spec, filter.to_owned(), fields, limit, Freshness::Strong);
            let answer = self.runtime.block_on(async { tokio::time::timeout(DEADLINE, asking).await });
            let error = match answer {
                Ok(Ok(columns)) => return Ok(columns),
                Ok(Err(error)) => error,
                Err(_) => StoreError::Unavailable(format!("no answer within {DEADLINE:?}")),
            };
            if attempts == ATTEMPTS_MAX || matches!(error, StoreError::Refused(_)) {
                return Err(self.failed(error));
            }
            attempts += 1;
            pause(&self.runtime, ATTEMPT_INTERVAL);
        }
    }

    fn failed(&self, error: StoreError) -> Error {
        let text = format!("reading {}: {error}", self.spec.name);
        if matches!(error, StoreError::Refused(_)) { Error::refuse(text) } else { Error::retry(text) }
    }

    fn rows_of(&self, columns: &Columns, ids: Vec<std::result::Result<VectorId, String>>) -> Result<Vec<ForeignRow>, StoreError> {
        let layout = &self.layout;
        let vectors = columns.vectors(&layout.vector)?;
        let metadata = columns.metadata()?;
        if vectors.len() != ids.len() * self.spec.dimension || (layout.dynamic && metadata.len() != ids.len()) {
            return Err(StoreError::Unavailable("columns of different lengths".to_owned()));
        }
        let mut others: Vec<(&String, std::vec::IntoIter<MetaValue>)> = Vec::new();
        for name in &layout.others {
            others.push((name, columns.values(name, ids.len())?.into_iter()));
        }
        let mut rows = Vec::with_capacity(ids.len());
        for (index, (id, vector)) in ids.into_iter().zip(vectors.chunks_exact(self.spec.dimension)).enumerate() {
            let mut fields = metadata.get(index).map(|json| fields_of(json)).unwrap_or_default();
            for (name, values) in &mut others {
                fields.extend(values.next().map(|value| ((*name).clone(), value)));
            }
            rows.push(ForeignRow { id, body: Body { vector: vector.to_vec(), metadata: fields } });
        }
        Ok(rows)
    }
}

impl ForeignRows for MilvusForeign {
    fn count(&mut self) -> Result<u64> {
        let columns = self.ask("", &["count(*)"], None)?;
        let counted = columns.values("count(*)", 1).map_err(|error| self.failed(error))?;
        Ok(match counted.first() {
            Some(MetaValue::Long(rows)) => u64::try_from(*rows).unwrap_or(0),
            _ => 0,
        })
    }

    fn page(&mut self, after: Option<&VectorId>, with_bodies: bool) -> Result<ForeignPage> {
        let layout = &self.layout;
        let filter = behind_in(&layout.id, &self.spec, after).map_err(|error| self.failed(error))?;
        let mut fields = vec![layout.id.as_str()];
        let mut limit = PAGE_ROWS_MAX;
        if with_bodies {
            fields.push(&layout.vector);
            fields.extend(layout.others.iter().map(String::as_str));
            fields.extend(layout.dynamic.then_some(DYNAMIC_COLUMN));
            limit = (PAGE_BYTES / (4 * self.spec.dimension.max(1))).clamp(1, PAGE_ROWS_MAX);
        }
        let columns = self.ask(&filter, &fields, Some(limit))?;
        let ids = columns.ids_in(&layout.id, &self.spec).map_err(|error| self.failed(error))?;
        let next = greatest(&ids);
        let rows = if with_bodies {
            self.rows_of(&columns, ids).map_err(|error| self.failed(error))?
        } else {
            ids.into_iter().map(|id| ForeignRow { id, body: Body::default() }).collect()
        };
        Ok(ForeignPage { rows, next })
    }
}

fn layout_of(physical: &str, found: &CollectionDesc, spec: &CollectionSpec) -> Result<Layout> {
    let refused = |what: String| Error::refuse(format!("collection {physical} {what}"));
    let schema = found.get_schema();
    let (mut id, mut vector, mut others) = (None, None, Vec::new());
    for field in schema.get_fields().iter().filter(|field| !field.is_dynamic()) {
        let (name, kind) = (field.get_name().to_owned(), field.get_data_type());
        if name == HLC_COLUMN {
            return Err(refused(
                "has versions already: it is one of Driftless' own, and nothing of it is to be taken on".to_owned(),
            ));
        }
        match kind {
            _ if field.is_primary_key() => {
                let wanted = if spec.id == IdKind::Int64 { DataType::Int64 } else { DataType::VarChar };
                if kind != wanted {
                    return Err(refused(format!("has ids of type {kind:?}, the configuration of {} says {wanted:?}", spec.name)));
                }
                id = Some(name);
            }
            DataType::FloatVector if vector.is_none() => {
                let dimension = field.get_dimension() as usize;
                if dimension != spec.dimension {
                    let wanted = spec.dimension;
                    return Err(refused(format!("has {dimension} dimensions, the configuration of {} says {wanted}", spec.name)));
                }
                vector = Some(name);
            }
            DataType::Bool | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => others.push(name),
            DataType::Float | DataType::Double | DataType::VarChar | DataType::Json => others.push(name),
            _ => return Err(refused(format!("has a column {name} of type {kind:?}, for which a change has no place"))),
        }
    }
    match (id, vector) {
        (Some(id), Some(vector)) => Ok(Layout { id, vector, others, dynamic: schema.is_dynamic_field_enabled() }),
        _ => Err(refused("has no vector of floats".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::collection::{IndexKind, Metric};
    use milvus::v2::prelude::{CollectionSchema, FieldSchema};

    fn spec(id: IdKind) -> CollectionSpec {
        CollectionSpec {
            name: "products".into(),
            id,
            dimension: 4,
            metric: Metric::L2,
            index: IndexKind::Auto,
            auto_create: true,
        }
    }

    fn described(vector: FieldSchema) -> CollectionDesc {
        let id = FieldSchema::new().name("sku").primary_key(true).data_type(DataType::Int64);
        let price = FieldSchema::new().name("price").data_type(DataType::Float);
        let schema = CollectionSchema::new().enable_dynamic_field(true).add_field(id).add_field(vector).add_field(price);
        CollectionDesc::new().schema(schema)
    }

    #[test]
    fn columns_are_told_by_what_they_are_and_not_by_their_names() {
        let embedding = || FieldSchema::new().name("embedding").data_type(DataType::FloatVector).dimension(4);
        let layout = layout_of("old", &described(embedding()), &spec(IdKind::Int64)).unwrap();
        let expected = Layout { id: "sku".into(), vector: "embedding".into(), others: vec!["price".into()], dynamic: true };
        assert_eq!(layout, expected);
        let error = layout_of("old", &described(embedding()), &spec(IdKind::Uuid)).unwrap_err().to_string();
        assert!(error.contains("has ids of type Int64, the configuration of products says VarChar"), "{error}");
        let error = layout_of("old", &described(embedding().dimension(8)), &spec(IdKind::Int64)).unwrap_err().to_string();
        assert!(error.contains("has 8 dimensions"), "{error}");
        let binary = FieldSchema::new().name("bits").data_type(DataType::BinaryVector).dimension(8);
        let error = layout_of("old", &described(binary), &spec(IdKind::Int64)).unwrap_err().to_string();
        assert!(error.contains("has a column bits of type BinaryVector"), "{error}");
    }
}
