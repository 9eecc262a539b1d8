//! `[[collections]]`: what a change is judged against and what Milvus is to hold.

use crate::base::section::Section;
use crate::record::collection::{CollectionSpec, IdKind, IndexKind, Metric};

/// The largest that Milvus takes.
const DIMENSION_MAX: i64 = 32_768;
const ID_BYTES_MAX: i64 = 65_535;
/// Milvus allows 255; the physical collection's name has `__g` and a number after it.
const NAME_BYTES_MAX: usize = 240;

pub fn read(root: &Section<'_, '_>) -> Vec<CollectionSpec> {
    root.require("collections", "Add [[collections]] with a name, an id and a dimension.");
    let mut specs: Vec<CollectionSpec> = Vec::new();
    for section in root.sections("collections") {
        let Some(spec) = collection(&section) else { continue };
        if specs.iter().any(|other| other.name == spec.name) {
            let message = format!("the collection `{}` is given twice", spec.name);
            section.fault(section.place_of("name"), message, "Give each collection a name of its own.");
        }
        specs.push(spec);
    }
    specs
}

fn collection(section: &Section<'_, '_>) -> Option<CollectionSpec> {
    let name = name(section);
    let id = id(section);
    section.require("dimension", "Write the number of floats in each vector, such as dimension = 768.");
    let dimension = section.integer("dimension", 1..=DIMENSION_MAX);
    let metric = metric(section);
    let index = section.section("index").map_or(Some(IndexKind::Auto), |index| index_kind(&index, dimension));
    let auto_create = section.boolean("auto_create").unwrap_or(true);
    section.refuse_unknown_keys();
    Some(CollectionSpec { name: name?, id: id?, dimension: dimension? as usize, metric: metric?, index: index?, auto_create })
}

fn name(section: &Section<'_, '_>) -> Option<String> {
    section.require("name", "Write the collection's name, as changes carry it.");
    let name = section.text("name")?;
    let text = name.get_ref();
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !text.chars().all(good) || text.starts_with(|c: char| c.is_ascii_digit()) || text.is_empty() || text.len() > NAME_BYTES_MAX
    {
        let remedy = format!("Milvus takes letters, digits and `_`, not beginning with a digit; at most {NAME_BYTES_MAX} here.");
        section.fault(name.span().start, format!("\"{text}\" cannot be a collection's name"), remedy);
        return None;
    }
    Some(name.into_inner())
}

fn id(section: &Section<'_, '_>) -> Option<IdKind> {
    section.require("id", "Choose id = \"uuid\", \"int64\" or \"text\".");
    let kind = section.text("id")?;
    let max_bytes = section.integer("id_max_bytes", 1..=ID_BYTES_MAX);
    if section.has("id_max_bytes") && kind.get_ref() != "text" {
        let message = "`id_max_bytes` is only for id = \"text\"";
        section.fault(section.place_of("id_max_bytes"), message, "Remove it.");
    }
    match kind.get_ref().as_str() {
        "uuid" => Some(IdKind::Uuid),
        "int64" => Some(IdKind::Int64),
        "text" => Some(IdKind::Text { max_bytes: max_bytes.unwrap_or(256) as usize }),
        other => {
            section.fault(kind.span().start, format!("unknown `id` \"{other}\""), "Choose \"uuid\", \"int64\" or \"text\".");
            None
        }
    }
}

fn metric(section: &Section<'_, '_>) -> Option<Metric> {
    let Some(metric) = section.text("metric") else {
        return (!section.has("metric")).then_some(Metric::Cosine);
    };
    match metric.get_ref().to_ascii_lowercase().as_str() {
        "l2" => Some(Metric::L2),
        "ip" => Some(Metric::InnerProduct),
        "cosine" => Some(Metric::Cosine),
        _ => {
            let message = format!("unknown `metric` \"{}\"", metric.get_ref());
            section.fault(metric.span().start, message, "Choose \"l2\", \"ip\" or \"cosine\".");
            None
        }
    }
}

fn index_kind(section: &Section<'_, '_>, dimension: Option<i64>) -> Option<IndexKind> {
    section.require("type", "Choose type = \"auto\", \"hnsw\", \"ivf_flat\" or \"ivf_pq\".");
    let kind = section.text("type")?;
    let number = |key: &str, allowed, default: u32| section.integer(key, allowed).map_or(default, |number| number as u32);
    let index = match kind.get_ref().to_ascii_lowercase().as_str() {
        "auto" | "autoindex" => IndexKind::Auto,
        "hnsw" => IndexKind::Hnsw { m: number("m", 2..=2048, 16), ef_construction: number("ef_construction", 1..=65_536, 200) },
        "ivf_flat" => IndexKind::IvfFlat { nlist: number("nlist", 1..=65_536, 128) },
        "ivf_pq" => {
            let m = number("m", 1..=DIMENSION_MAX, 8);
            check_subvectors(section, dimension, m);
            IndexKind::IvfPq { nlist: number("nlist", 1..=65_536, 128), m, nbits: number("nbits", 1..=24, 8) }
        }
        _ => {
            let message = format!("unknown index type \"{}\"", kind.get_ref());
            section.fault(kind.span().start, message, "Choose \"auto\", \"hnsw\", \"ivf_flat\" or \"ivf_pq\".");
            return None;
        }
    };
    section.refuse_unknown_keys();
    Some(index)
}

/// Product quantisation cuts a vector into `m` equal parts.
fn check_subvectors(section: &Section<'_, '_>, dimension: Option<i64>, m: u32) {
    if let Some(dimension) = dimension
        && dimension % i64::from(m) != 0
    {
        let message = format!("`m` = {m} does not divide the dimension {dimension}");
        section.fault(section.place_of("m"), message, "Choose a divisor of the dimension.");
    }
}
