//! A reply to a query, column by column.

use super::write::DYNAMIC_COLUMN;
use crate::base::ids::{Region, VectorId};
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::port::vector::StoreError;
use crate::record::change::MetaValue;
use crate::record::collection::{CollectionSpec, HLC_COLUMN, ID_COLUMN, IdKind, ORIGIN_COLUMN, SEQUENCE_COLUMN};
use crate::record::id::{WrittenId, parse_id};
use milvus::proto::milvus::QueryResults;
use milvus::proto::schema::{FieldData, ScalarField, field_data, scalar_field, vector_field};

/// A reply's columns. A reply without rows may come without columns.
pub(super) struct Columns(pub QueryResults);

pub(super) fn malformed(what: &str) -> StoreError {
    StoreError::Unavailable(format!("Milvus' reply to a query is not as expected: {what}"))
}

impl Columns {
    fn find(&self, name: &str) -> Option<&FieldData> {
        self.0.fields_data.iter().find(|field| field.field_name == name || (name == DYNAMIC_COLUMN && field.is_dynamic))
    }

    fn scalar_field(&self, name: &str) -> Option<(&FieldData, &ScalarField)> {
        let field = self.find(name)?;
        match field.field.as_ref()? {
            field_data::Field::Scalars(scalars) => Some((field, scalars)),
            _ => None,
        }
    }

    fn scalars(&self, name: &str) -> Option<&scalar_field::Data> {
        self.scalar_field(name)?.1.data.as_ref()
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

    pub fn metadata(&self) -> Result<&[Vec<u8>], StoreError> {
        match self.scalars(DYNAMIC_COLUMN) {
            Some(scalar_field::Data::JsonData(objects)) => Ok(&objects.data),
            None => Ok(&[]),
            Some(_) => Err(malformed(DYNAMIC_COLUMN)),
        }
    }

    pub fn vectors(&self, name: &str) -> Result<&[f32], StoreError> {
        let field = self.find(name).and_then(|field| field.field.as_ref());
        match field {
            Some(field_data::Field::Vectors(vectors)) => match &vectors.data {
                Some(vector_field::Data::FloatVector(floats)) => Ok(&floats.data),
                _ => Err(malformed(name)),
            },
            Some(_) => Err(malformed(name)),
            None => Ok(&[]),
        }
    }

    /// A scalar column of somebody else's, as metadata; a null is told as one.
    pub fn values(&self, name: &str, rows: usize) -> Result<Vec<MetaValue>, StoreError> {
        use scalar_field::Data;
        let sent: Vec<MetaValue> = match self.scalars(name) {
            Some(Data::BoolData(values)) => values.data.iter().copied().map(MetaValue::Bool).collect(),
            Some(Data::IntData(values)) => values.data.iter().map(|value| MetaValue::Long(i64::from(*value))).collect(),
            Some(Data::LongData(values)) => values.data.iter().copied().map(MetaValue::Long).collect(),
            Some(Data::FloatData(values)) => values.data.iter().map(|value| MetaValue::Double(f64::from(*value))).collect(),
            Some(Data::DoubleData(values)) => values.data.iter().copied().map(MetaValue::Double).collect(),
            Some(Data::StringData(values)) => values.data.iter().cloned().map(MetaValue::Text).collect(),
            Some(Data::JsonData(values)) => {
                values.data.iter().map(|json| MetaValue::Text(String::from_utf8_lossy(json).into_owned())).collect()
            }
            Some(_) => return Err(malformed(name)),
            None => Vec::new(),
        };
        let places = self.places(name, rows, sent.len())?;
        Ok(places.into_iter().map(|place| place.map_or(MetaValue::Null, |place| sent[place].clone())).collect())
    }

    /// Where each of `rows` values lies among those sent: a column that takes nulls says which rows have a value, and
    /// may leave the others out.
    fn places(&self, name: &str, rows: usize, sent: usize) -> Result<Vec<Option<usize>>, StoreError> {
        let valid = match self.scalar_field(name) {
            Some((_, scalars)) if !scalars.valid_data.is_empty() => &scalars.valid_data,
            Some((field, _)) => &field.valid_data,
            None => return Ok(vec![None; rows]),
        };
        if valid.is_empty() {
            return if sent == rows { Ok((0..rows).map(Some).collect()) } else { Err(malformed(name)) };
        }
        let present = valid.iter().filter(|valid| **valid).count();
        if valid.len() != rows || (sent != rows && sent != present) {
            return Err(malformed(name));
        }
        let mut next = 0;
        let places = valid.iter().enumerate().map(|(row, valid)| {
            let place = if sent == rows { row } else { next };
            next += usize::from(*valid);
            valid.then_some(place)
        });
        Ok(places.collect())
    }

    /// The version of each of the rows. One has none where a column is missing or null, or its origin is empty.
    pub fn versions(&self, rows: usize) -> Result<Vec<Option<Version>>, StoreError> {
        if rows > 0 && self.find(HLC_COLUMN).is_none() {
            return self.dynamic_versions(rows);
        }
        let (hlcs, origins, sequences) = (self.longs(HLC_COLUMN)?, self.texts(ORIGIN_COLUMN)?, self.longs(SEQUENCE_COLUMN)?);
        let hlc_places = self.places(HLC_COLUMN, rows, hlcs.len())?;
        let origin_places = self.places(ORIGIN_COLUMN, rows, origins.len())?;
        let sequence_places = self.places(SEQUENCE_COLUMN, rows, sequences.len())?;
        let places = hlc_places.into_iter().zip(origin_places).zip(sequence_places);
        let versions = places.map(|((hlc, origin), sequence)| {
            let (hlc, origin, sequence) = (hlcs[hlc?], &origins[origin?], sequences[sequence?]);
            version_of(hlc as u64, origin, sequence as u64)
        });
        Ok(versions.collect())
    }

    /// A collection without our columns holds what has their names among its dynamic fields.
    fn dynamic_versions(&self, rows: usize) -> Result<Vec<Option<Version>>, StoreError> {
        let objects = self.metadata()?;
        if objects.is_empty() {
            return Ok(vec![None; rows]);
        }
        if objects.len() != rows {
            return Err(malformed(DYNAMIC_COLUMN));
        }
        let versions = objects.iter().map(|object| {
            let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(object).ok()?;
            let long = |name: &str| fields.get(name).and_then(serde_json::Value::as_i64);
            version_of(long(HLC_COLUMN)? as u64, fields.get(ORIGIN_COLUMN)?.as_str()?, long(SEQUENCE_COLUMN)? as u64)
        });
        Ok(versions.collect())
    }

    pub fn ids(&self, spec: &CollectionSpec) -> Result<Vec<Result<VectorId, String>>, StoreError> {
        self.ids_in(ID_COLUMN, spec)
    }

    /// The ids as they stand; of a form that the collection's ids have not, they are given back as text.
    pub fn ids_in(&self, name: &str, spec: &CollectionSpec) -> Result<Vec<Result<VectorId, String>>, StoreError> {
        if spec.id == IdKind::Int64 {
            return Ok(self.longs(name)?.iter().map(|number| Ok(VectorId::Int(*number))).collect());
        }
        let parse = |text: &String| parse_id(spec.id, WrittenId::Text(text)).map_err(|_| text.clone());
        Ok(self.texts(name)?.iter().map(parse).collect())
    }
}

fn version_of(hlc: u64, origin: &str, sequence: u64) -> Option<Version> {
    (!origin.is_empty()).then(|| Version { hlc: Hlc(hlc), origin: Region::new(origin), sequence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::collection::{IndexKind, Metric};
    use milvus::proto::schema::{JsonArray, LongArray, StringArray};

    fn column(name: &str, data: scalar_field::Data, valid: &[bool]) -> FieldData {
        FieldData {
            field_name: name.to_owned(),
            is_dynamic: name == DYNAMIC_COLUMN,
            valid_data: valid.to_vec(),
            field: Some(field_data::Field::Scalars(ScalarField { data: Some(data), ..Default::default() })),
            ..Default::default()
        }
    }

    fn longs(name: &str, data: &[i64], valid: &[bool]) -> FieldData {
        column(name, scalar_field::Data::LongData(LongArray { data: data.to_vec() }), valid)
    }

    fn texts(name: &str, data: &[&str], valid: &[bool]) -> FieldData {
        let data = data.iter().map(|text| (*text).to_owned()).collect();
        column(name, scalar_field::Data::StringData(StringArray { data }), valid)
    }

    fn columns(fields_data: Vec<FieldData>) -> Columns {
        Columns(QueryResults { fields_data, ..Default::default() })
    }

    fn version(hlc: u64, sequence: u64) -> Option<Version> {
        Some(Version { hlc: Hlc(hlc), origin: Region::new("us"), sequence })
    }

    #[test]
    fn a_row_without_a_version_is_told_from_one_with() {
        let valid = [true, false, true];
        let padded = columns(vec![
            longs(HLC_COLUMN, &[7, 0, 8], &valid),
            texts(ORIGIN_COLUMN, &["us", "", ""], &[]),
            longs(SEQUENCE_COLUMN, &[1, 0, 2], &valid),
        ]);
        assert_eq!(padded.versions(3), Ok(vec![version(7, 1), None, None]), "a null, and an empty origin");
        let compact = columns(vec![
            longs(HLC_COLUMN, &[7, 8], &valid),
            texts(ORIGIN_COLUMN, &["us", "us"], &valid),
            longs(SEQUENCE_COLUMN, &[1, 2], &valid),
        ]);
        assert_eq!(compact.versions(3), Ok(vec![version(7, 1), None, version(8, 2)]), "nulls left out");
        let objects = [&br#"{"_hlc":7,"_origin":"us","_seq":1}"#[..], br#"{"color":"red"}"#, b""];
        let data = JsonArray { data: objects.iter().map(|object| object.to_vec()).collect() };
        let dynamic = columns(vec![column(DYNAMIC_COLUMN, scalar_field::Data::JsonData(data), &[])]);
        assert_eq!(dynamic.versions(3), Ok(vec![version(7, 1), None, None]), "no such columns");
        assert_eq!(columns(Vec::new()).versions(0), Ok(Vec::new()));
        assert!(columns(vec![longs(HLC_COLUMN, &[7], &[])]).versions(3).is_err(), "rows without values");
    }

    #[test]
    fn an_id_of_another_form_is_given_back_as_it_stands() {
        let spec = CollectionSpec {
            name: "c".into(),
            id: IdKind::Uuid,
            dimension: 2,
            metric: Metric::L2,
            index: IndexKind::Auto,
            auto_create: false,
        };
        let (good, upper) = ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8");
        let found = columns(vec![texts(ID_COLUMN, &[good, upper], &[])]).ids(&spec).expect("texts");
        assert_eq!(found[0].as_ref().map(ToString::to_string), Ok(good.to_owned()));
        assert_eq!(found[1], Err(upper.to_owned()));
    }
}
