//! A topology as its file says it: the tables of `topologies/*.toml`, read with their places, and checked as a
//! graph ([`graph`]). Every fault is noted in the document; [`build`](super::build) turns a sound one into a
//! [`Topology`](super::build::Topology).
//!
//! The file's tables:
//! `[topology]` name; `[[source]]` name (one: it stands for the local change topic and its mirrors);
//! `[[store]]` name, type, changelog; `[[processor]]` name, type, parents, stores, `[processor.options]`;
//! `[[sink]]` name, type, parents, `[sink.options]`.

pub mod graph;

use crate::base::section::{Document, Section};
use toml::Spanned;

/// The topology that is built in: what a worker runs unless its configuration names another.
pub const REPLICATE: &str = include_str!("../../topologies/replicate.toml");

/// How the built-in topology is called where a file's name is shown.
pub const REPLICATE_FILE: &str = "topologies/replicate.toml (built in)";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Decides and forwards.
    Processor,
    /// Ends the way: has no children.
    Sink,
}

impl NodeKind {
    /// The name of its table in the file.
    pub fn table(self) -> &'static str {
        match self {
            NodeKind::Processor => "[[processor]]",
            NodeKind::Sink => "[[sink]]",
        }
    }
}

pub struct StoreSpec {
    pub name: Spanned<String>,
}

pub struct NodeSpec<'d, 't> {
    pub kind: NodeKind,
    pub name: Spanned<String>,
    /// `None`: its fault has been noted.
    pub type_name: Option<Spanned<String>>,
    pub parents: Vec<Spanned<String>>,
    pub stores: Vec<Spanned<String>>,
    /// Its own table, and in it `options` where there are any.
    pub section: Section<'d, 't>,
    pub options: Option<Section<'d, 't>>,
}

pub struct Spec<'d, 't> {
    pub name: Option<Spanned<String>>,
    pub sources: Vec<Spanned<String>>,
    pub stores: Vec<StoreSpec>,
    /// In the order of the file: the processors, then the sinks.
    pub nodes: Vec<NodeSpec<'d, 't>>,
}

/// Reads what the document says; whatever has no name is left out, with its fault noted.
pub fn read<'d, 't>(document: &'d Document<'t>) -> Spec<'d, 't> {
    let root = document.root();
    root.require("topology", "Begin the file with [topology] and its name.");
    let name = root.section("topology").and_then(|section| read_name(&section));
    let sources = root.sections("source").iter().filter_map(read_name).collect();
    let stores = root.sections("store").iter().filter_map(read_store).collect();
    let processors = root.sections("processor").into_iter().map(|section| (NodeKind::Processor, section));
    let sinks = root.sections("sink").into_iter().map(|section| (NodeKind::Sink, section));
    let nodes = processors.chain(sinks).filter_map(|(kind, section)| read_node(kind, section)).collect();
    root.refuse_unknown_keys();
    Spec { name, sources, stores, nodes }
}

/// A table that has a name and nothing else.
fn read_name(section: &Section<'_, '_>) -> Option<Spanned<String>> {
    let name = node_name(section);
    section.refuse_unknown_keys();
    name
}

fn node_name(section: &Section<'_, '_>) -> Option<Spanned<String>> {
    section.require("name", "Give it a name.");
    let name = section.text("name")?;
    if name.get_ref().trim().is_empty() {
        section.fault(name.span().start, format!("the name in {} is empty", section.title()), "Give it a name.");
        return None;
    }
    Some(name)
}

fn read_store(section: &Section<'_, '_>) -> Option<StoreSpec> {
    let name = node_name(section);
    section.require("type", "Write type = \"memory\".");
    if let Some(kind) = section.text("type").filter(|kind| kind.get_ref() != "memory") {
        let message = format!("unknown store type `{}`", kind.get_ref());
        section.fault(kind.span().start, message, "Write type = \"memory\".");
    }
    if section.boolean("changelog") == Some(false) {
        let message = "a store without a changelog forgets which versions were applied when its worker stops";
        section.fault(section.place_of("changelog"), message, "Write changelog = true, or leave the key out.");
    }
    section.refuse_unknown_keys();
    name.map(|name| StoreSpec { name })
}

fn read_node<'d, 't>(kind: NodeKind, section: Section<'d, 't>) -> Option<NodeSpec<'d, 't>> {
    let name = node_name(&section);
    section.require("type", "Name the type of its code, such as type = \"dedup\".");
    let type_name = section.text("type");
    let parents = section.text_list("parents");
    let stores = if kind == NodeKind::Processor { section.text_list("stores") } else { Vec::new() };
    let options = section.section("options");
    section.refuse_unknown_keys();
    name.map(|name| NodeSpec { kind, name, type_name, parents, stores, section, options })
}
