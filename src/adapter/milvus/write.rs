//! A batch of rows as Milvus' requests: columns, the vectors' slab as it is.

use crate::base::ids::VectorId;
use crate::port::vector::{RowBatch, StoreError};
use crate::record::collection::{CollectionSpec, HLC_COLUMN, ID_COLUMN, IdKind, ORIGIN_COLUMN, SEQUENCE_COLUMN, VECTOR_COLUMN};
use milvus::proto::milvus::{DeleteRequest, UpsertRequest};
use milvus::proto::schema::{
    DataType, FieldData, FloatArray, JsonArray, LongArray, ScalarField, StringArray, VectorField, field_data, scalar_field,
    vector_field,
};

/// Milvus' name for the column that holds the dynamic fields.
pub(super) const DYNAMIC_COLUMN: &str = "$meta";

/// The batch's upserts; `None` if it has none. What can't be sent at all is refused in the store's stead.
pub(super) fn upsert_request(spec: &CollectionSpec, batch: &RowBatch) -> Result<Option<UpsertRequest>, StoreError> {
    if batch.ids.is_empty() {
        return Ok(None);
    }
    let rows = batch.ids.len();
    if batch.versions.len() != rows || batch.metadata.len() != rows || batch.vectors.len() != rows * spec.dimension {
        return Err(StoreError::Refused(format!(
            "{rows} ids with {} versions, {} metadata objects and {} floats; the dimension of {} is {}",
            batch.versions.len(),
            batch.metadata.len(),
            batch.vectors.len(),
            spec.name,
            spec.dimension
        )));
    }
    let fields_data = vec![
        id_column(spec, &batch.ids)?,
        vector_column(spec.dimension, batch.vectors.clone()),
        long_column(HLC_COLUMN, batch.versions.iter().map(|version| version.hlc.0 as i64).collect()),
        text_column(ORIGIN_COLUMN, batch.versions.iter().map(|version| version.origin.as_str().to_owned()).collect()),
        long_column(SEQUENCE_COLUMN, batch.versions.iter().map(|version| version.sequence as i64).collect()),
        dynamic_column(batch.metadata.clone()),
    ];
    let num_rows = u32::try_from(rows).map_err(|_| StoreError::Refused(format!("{rows} rows in one batch")))?;
    Ok(Some(UpsertRequest { collection_name: spec.name.clone(), fields_data, num_rows, ..Default::default() }))
}

/// The batch's deletes, by primary key; `None` if it has none.
pub(super) fn delete_request(spec: &CollectionSpec, ids: &[VectorId]) -> Result<Option<DeleteRequest>, StoreError> {
    if ids.is_empty() {
        return Ok(None);
    }
    Ok(Some(DeleteRequest { collection_name: spec.name.clone(), expr: id_filter(spec, ids)?, ..Default::default() }))
}

/// `id in [...]` in Milvus' expression language.
pub(super) fn id_filter(spec: &CollectionSpec, ids: &[VectorId]) -> Result<String, StoreError> {
    let mut filter = format!("{ID_COLUMN} in [");
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            filter.push(',');
        }
        filter.push_str(&id_literal(spec, id)?);
    }
    filter.push(']');
    Ok(filter)
}

/// One id in the expression language: a number, or text in quotes with JSON's escapes.
pub(super) fn id_literal(spec: &CollectionSpec, id: &VectorId) -> Result<String, StoreError> {
    match (spec.id, id) {
        // Milvus reads the digits before the sign, and so cannot read the least number as one literal.
        (IdKind::Int64, VectorId::Int(i64::MIN)) => Ok(format!("{}-1", i64::MIN + 1)),
        (IdKind::Int64, VectorId::Int(number)) => Ok(number.to_string()),
        (IdKind::Uuid, VectorId::Uuid(_)) => Ok(format!("\"{id}\"")),
        (IdKind::Text { .. }, VectorId::Text(text)) => Ok(serde_json::Value::from(&**text).to_string()),
        _ => Err(wrong_kind(spec, id)),
    }
}

fn id_column(spec: &CollectionSpec, ids: &[VectorId]) -> Result<FieldData, StoreError> {
    match spec.id {
        IdKind::Int64 => {
            let mut numbers = Vec::with_capacity(ids.len());
            for id in ids {
                let VectorId::Int(number) = id else { return Err(wrong_kind(spec, id)) };
                numbers.push(*number);
            }
            Ok(long_column(ID_COLUMN, numbers))
        }
        IdKind::Uuid | IdKind::Text { .. } => {
            let mut texts = Vec::with_capacity(ids.len());
            for id in ids {
                match (spec.id, id) {
                    (IdKind::Uuid, VectorId::Uuid(_)) => texts.push(id.to_string()),
                    (IdKind::Text { .. }, VectorId::Text(text)) => texts.push(text.to_string()),
                    _ => return Err(wrong_kind(spec, id)),
                }
            }
            Ok(text_column(ID_COLUMN, texts))
        }
    }
}

fn wrong_kind(spec: &CollectionSpec, id: &VectorId) -> StoreError {
    StoreError::Refused(format!("id `{id}` is not of the kind {:?} that {} is configured with", spec.id, spec.name))
}

fn vector_column(dimension: usize, slab: Vec<f32>) -> FieldData {
    FieldData {
        r#type: DataType::FloatVector as i32,
        field_name: VECTOR_COLUMN.to_owned(),
        field: Some(field_data::Field::Vectors(VectorField {
            dim: dimension as i64,
            data: Some(vector_field::Data::FloatVector(FloatArray { data: slab })),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn long_column(name: &str, data: Vec<i64>) -> FieldData {
    scalar_column(name, DataType::Int64, scalar_field::Data::LongData(LongArray { data }))
}

fn text_column(name: &str, data: Vec<String>) -> FieldData {
    scalar_column(name, DataType::VarChar, scalar_field::Data::StringData(StringArray { data }))
}

fn dynamic_column(objects: Vec<Vec<u8>>) -> FieldData {
    let data = scalar_field::Data::JsonData(JsonArray { data: objects });
    FieldData { is_dynamic: true, ..scalar_column(DYNAMIC_COLUMN, DataType::Json, data) }
}

fn scalar_column(name: &str, data_type: DataType, data: scalar_field::Data) -> FieldData {
    FieldData {
        r#type: data_type as i32,
        field_name: name.to_owned(),
        field: Some(field_data::Field::Scalars(ScalarField { data: Some(data), ..Default::default() })),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::collection::{IndexKind, Metric};

    fn spec(id: IdKind) -> CollectionSpec {
        CollectionSpec { name: "c".into(), id, dimension: 2, metric: Metric::L2, index: IndexKind::Auto, auto_create: false }
    }

    #[test]
    fn ids_are_quoted_so_that_no_text_can_leave_its_literal() {
        let text = |text: &str| VectorId::Text(text.into());
        let spec = spec(IdKind::Text { max_bytes: 64 });
        let filter = id_filter(&spec, &[text("a\"] or id != \""), text("b\\"), text("ü\n")]);
        assert_eq!(filter.as_deref(), Ok(r#"id in ["a\"] or id != \"","b\\","ü\n"]"#));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let batch_id = VectorId::Text("7".into());
        assert!(matches!(id_filter(&spec(IdKind::Int64), &[batch_id]), Err(StoreError::Refused(_))));
    }

    #[test]
    fn a_slab_of_the_wrong_length_is_refused() {
        let batch = RowBatch { ids: vec![VectorId::Int(1)], vectors: vec![0.0; 3], ..RowBatch::default() };
        assert!(matches!(upsert_request(&spec(IdKind::Int64), &batch), Err(StoreError::Refused(_))));
    }
}
