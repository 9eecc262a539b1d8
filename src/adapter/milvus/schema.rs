//! A configured collection as Milvus' schema and index, and what differs in a collection that is there.

use super::admin::{Finding, Severity};
use crate::record::collection::{
    CollectionSpec, HLC_COLUMN, ID_COLUMN, IdKind, IndexKind, Metric, ORIGIN_BYTES_MAX, ORIGIN_COLUMN, SEQUENCE_COLUMN,
    VECTOR_COLUMN, physical_name,
};
use milvus::v2::prelude::{
    CollectionDesc, CollectionSchema, DataType, FieldSchema, IndexDesc, IndexParam, IndexType, MetricType,
};
use std::collections::HashMap;

/// A UUID's text: lower-case, hyphenated.
const UUID_BYTES: u32 = 36;
const OTHER_NAME: &str = "configure another name, so that a collection that fits is created beside this one";

/// The physical collection's name while it has never been rebuilt. Clients and changes name the alias.
pub(super) fn first_generation(alias: &str) -> String {
    physical_name(alias, 1)
}

pub(super) fn schema_of(spec: &CollectionSpec) -> CollectionSchema {
    let id = FieldSchema::new().name(ID_COLUMN).primary_key(true).auto_id(false);
    let id = match id_bytes_max(spec.id) {
        None => id.data_type(DataType::Int64),
        Some(bytes) => id.data_type(DataType::VarChar).max_length(bytes),
    };
    let vector = FieldSchema::new().name(VECTOR_COLUMN).data_type(DataType::FloatVector).dimension(spec.dimension as u32);
    let origin = FieldSchema::new().name(ORIGIN_COLUMN).data_type(DataType::VarChar).max_length(ORIGIN_BYTES_MAX as u32);
    CollectionSchema::new()
        .description("kept the same in every region by Driftless")
        .enable_dynamic_field(true)
        .add_field(id)
        .add_field(vector)
        .add_field(FieldSchema::new().name(HLC_COLUMN).data_type(DataType::Int64))
        .add_field(origin)
        .add_field(FieldSchema::new().name(SEQUENCE_COLUMN).data_type(DataType::Int64))
}

pub(super) fn index_of(spec: &CollectionSpec) -> IndexParam {
    let (kind, parameters) = match spec.index {
        IndexKind::Auto => (IndexType::AutoIndex, vec![]),
        IndexKind::Hnsw { m, ef_construction } => (IndexType::Hnsw, vec![("M", m), ("efConstruction", ef_construction)]),
        IndexKind::IvfFlat { nlist } => (IndexType::IvfFlat, vec![("nlist", nlist)]),
        IndexKind::IvfPq { nlist, m, nbits } => (IndexType::IvfPq, vec![("nlist", nlist), ("m", m), ("nbits", nbits)]),
    };
    let parameters: HashMap<String, String> =
        parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect();
    IndexParam::new()
        .field_name(VECTOR_COLUMN)
        .index_name(VECTOR_COLUMN)
        .index_type(kind)
        .metric_type(metric_of(spec.metric))
        .extra_params(parameters)
}

fn metric_of(metric: Metric) -> MetricType {
    match metric {
        Metric::L2 => MetricType::L2,
        Metric::InnerProduct => MetricType::Ip,
        Metric::Cosine => MetricType::Cosine,
    }
}

fn id_bytes_max(kind: IdKind) -> Option<u32> {
    match kind {
        IdKind::Int64 => None,
        IdKind::Uuid => Some(UUID_BYTES),
        IdKind::Text { max_bytes } => Some(u32::try_from(max_bytes).unwrap_or(u32::MAX)),
    }
}

/// All that keeps the collection from taking the configured rows, at once.
pub(super) fn differences(spec: &CollectionSpec, found: &CollectionDesc) -> Vec<Finding> {
    let schema = found.get_schema();
    let fields: HashMap<&str, &FieldSchema> = schema.get_fields().iter().map(|field| (field.get_name(), field)).collect();
    let mut findings = Vec::new();
    for expected in schema_of(spec).get_fields() {
        match fields.get(expected.get_name()) {
            None => findings.push(wrong(spec, format!("has no column `{}`", expected.get_name()), OTHER_NAME)),
            Some(actual) => findings.extend(column_differences(spec, expected, actual)),
        }
    }
    if !schema.is_dynamic_field_enabled() {
        findings.push(wrong(spec, "has no dynamic fields, where metadata goes".to_owned(), OTHER_NAME));
    }
    let expected = schema_of(spec);
    for field in schema.get_fields() {
        let known = expected.get_fields().iter().any(|ours| ours.get_name() == field.get_name());
        let optional = field.is_dynamic() || field.is_nullable() || field.get_default_value().is_some();
        if !known && !optional {
            let problem = format!("has a column `{}` that changes cannot fill", field.get_name());
            findings.push(wrong(spec, problem, OTHER_NAME));
        }
    }
    findings
}

fn column_differences(spec: &CollectionSpec, expected: &FieldSchema, actual: &FieldSchema) -> Vec<Finding> {
    let name = expected.get_name();
    if actual.get_data_type() != expected.get_data_type() {
        let (is, ought) = (actual.get_data_type(), expected.get_data_type());
        return vec![wrong(spec, format!("column `{name}` is {is:?}, the configuration says {ought:?}"), OTHER_NAME)];
    }
    let mut findings = Vec::new();
    if expected.is_primary_key() != actual.is_primary_key() {
        findings.push(wrong(spec, format!("column `{name}` is not the primary key"), OTHER_NAME));
    }
    if actual.is_auto_id() {
        findings.push(wrong(spec, format!("column `{name}` is numbered by Milvus (autoID)"), OTHER_NAME));
    }
    if expected.get_data_type() == DataType::FloatVector && actual.get_dimension() != expected.get_dimension() {
        let (is, ought) = (actual.get_dimension(), expected.get_dimension());
        let remedy = format!("set `dimension = {is}` in every region, or {OTHER_NAME}");
        findings.push(wrong(spec, format!("vectors have {is} dimensions, the configuration says {ought}"), &remedy));
    }
    if expected.get_data_type() == DataType::VarChar && actual.get_max_length() < expected.get_max_length() {
        let (is, ought) = (actual.get_max_length(), expected.get_max_length());
        let problem = format!("column `{name}` holds {is} bytes, the configuration needs {ought}");
        findings.push(wrong(spec, problem, OTHER_NAME));
    }
    findings
}

/// What differs in the index. Another index serves, another metric orders search results differently.
pub(super) fn index_differences(spec: &CollectionSpec, found: Option<&IndexDesc>) -> Vec<Finding> {
    let expected = index_of(spec);
    let Some(found) = found else {
        let remedy = "create an index on it, as the configuration says; Milvus cannot load the collection without";
        return vec![wrong(spec, format!("column `{VECTOR_COLUMN}` has no index"), remedy)];
    };
    let mut findings = Vec::new();
    let metric = metric_of(spec.metric);
    if found.get_metric_type() != metric {
        let problem = format!("the index's metric is {:?}, the configuration says {metric:?}", found.get_metric_type());
        findings.push(wrong(spec, problem, "set `metric` to what is there, or drop the index and create it anew"));
    }
    let parameters_differ =
        expected.get_extra_params().iter().any(|(name, value)| found.get_extra_params().get(name) != Some(value));
    if found.get_index_type() != expected.get_index_type() || parameters_differ {
        let problem = format!(
            "the index is {:?} {:?}, the configuration says {:?} {:?}",
            found.get_index_type(),
            found.get_extra_params(),
            expected.get_index_type(),
            expected.get_extra_params()
        );
        let remedy = "it works as it is; to change it, release the collection, drop the index and create it anew".to_owned();
        findings.push(Finding { severity: Severity::Warn, collection: spec.name.clone(), problem, remedy });
    }
    findings
}

fn wrong(spec: &CollectionSpec, problem: String, remedy: &str) -> Finding {
    Finding { severity: Severity::Refuse, collection: spec.name.clone(), problem, remedy: remedy.to_owned() }
}
