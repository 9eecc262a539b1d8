//! From a topology's file to the graph that tasks run: node types looked up by name, options read, edges drawn.
//!
//! [`NodeTypes`] is where a user's own processor is made known: implement
//! [`Processor`](super::node::Processor), register its name, name it in the file.

use super::node::Processor;
use super::spec::graph::{self, Graph, Parent};
use super::spec::{self, NodeKind, NodeSpec, Spec};
use crate::base::fault::{Faults, suggestion};
use crate::base::section::Document;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Makes one processor for one task.
pub type Maker = Arc<dyn Fn() -> Box<dyn Processor> + Send + Sync>;

/// A maker from a closure: `maker(|| Dedup)`.
pub fn maker<P: Processor + 'static>(make: impl Fn() -> P + Send + Sync + 'static) -> Maker {
    Arc::new(move || Box::new(make()))
}

/// A node's options could not be used; the fault stands with the file's others.
#[derive(Debug)]
pub struct OptionsRefused(());

/// What a file says of one node beyond its place in the graph.
pub struct NodeOptions<'a> {
    node: &'a NodeSpec<'a, 'a>,
}

impl NodeOptions<'_> {
    /// The options as a type of your own. Unknown keys and wrong types become faults with their places.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, OptionsRefused> {
        let read = match &self.node.options {
            Some(section) => section.read(),
            None => self.node.section.empty("options").read(),
        };
        read.ok_or(OptionsRefused(()))
    }

    /// Notes that an option's value won't do.
    pub fn refuse(&self, option: &str, message: impl Into<String>, remedy: impl Into<String>) -> OptionsRefused {
        let section = self.node.options.as_ref().unwrap_or(&self.node.section);
        section.fault(section.place_of(option), message, remedy);
        OptionsRefused(())
    }

    /// For a type whose code asks the versions store: the node must name a store.
    pub fn needs_store(&self) -> Result<(), OptionsRefused> {
        if !self.node.stores.is_empty() {
            return Ok(());
        }
        let message = format!("`{}` needs a store", self.node.name.get_ref());
        self.node.section.fault(self.node.name.span().start, message, "Add stores = [\"versions\"].");
        Err(OptionsRefused(()))
    }
}

/// Reads a node's options and says how to make its processors.
pub type Factory = Box<dyn Fn(&NodeOptions<'_>) -> Result<Maker, OptionsRefused> + Send + Sync>;

/// The node types that a topology's file may name.
#[derive(Default)]
pub struct NodeTypes {
    by_name: BTreeMap<String, (NodeKind, Factory)>,
}

impl NodeTypes {
    /// Makes a `[[processor]]` type known. A name registered again is replaced.
    pub fn register<F>(&mut self, name: &str, factory: F)
    where
        F: Fn(&NodeOptions<'_>) -> Result<Maker, OptionsRefused> + Send + Sync + 'static,
    {
        self.by_name.insert(name.to_owned(), (NodeKind::Processor, Box::new(factory)));
    }

    /// Makes a `[[sink]]` type known.
    pub fn register_sink<F>(&mut self, name: &str, factory: F)
    where
        F: Fn(&NodeOptions<'_>) -> Result<Maker, OptionsRefused> + Send + Sync + 'static,
    {
        self.by_name.insert(name.to_owned(), (NodeKind::Sink, Box::new(factory)));
    }
}

/// One processor or sink.
pub struct Node {
    pub name: String,
    pub kind: NodeKind,
    pub type_name: String,
    /// Places in [`Topology::nodes`] of the nodes that its messages go to, in the order of the file.
    pub children: Vec<usize>,
    pub stores: Vec<String>,
    pub maker: Maker,
}

/// A topology that can run. Parents come before their children.
pub struct Topology {
    pub name: String,
    pub source: String,
    pub nodes: Vec<Node>,
    /// The source's children.
    pub roots: Vec<usize>,
    pub stores: Vec<String>,
}

impl std::fmt::Debug for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&super::describe::text(self))
    }
}

impl Topology {
    /// Reads a topology; `file` is what faults call it. All faults are told at once.
    pub fn parse(file: &str, text: &str, types: &NodeTypes) -> Result<Self, Faults> {
        let document = Document::parse(file, text);
        let topology = build(&document, types);
        document.finish()?;
        Ok(topology.expect("a document without faults has a name, a source and makers for all its nodes"))
    }
}

fn build(document: &Document<'_>, types: &NodeTypes) -> Option<Topology> {
    let spec = spec::read(document);
    let graph = graph::check(document, &spec);
    let makers: Vec<Option<Maker>> = spec.nodes.iter().map(|node| find_maker(document, node, types)).collect();
    if !document.is_sound() {
        return None;
    }
    assemble(&spec, &graph, makers)
}

fn find_maker(document: &Document<'_>, node: &NodeSpec<'_, '_>, types: &NodeTypes) -> Option<Maker> {
    let type_name = node.type_name.as_ref()?;
    let place = type_name.span().start;
    match types.by_name.get(type_name.get_ref()) {
        Some((kind, factory)) if *kind == node.kind => factory(&NodeOptions { node }).ok(),
        Some((kind, _)) => {
            let message = format!("`{}` is not a type for {}", type_name.get_ref(), node.kind.table());
            document.fault(place, message, format!("Write it as {}.", kind.table()));
            None
        }
        None => {
            let known = types.by_name.iter().filter(|(_, (kind, _))| *kind == node.kind).map(|(name, _)| name.as_str());
            let message = format!("`{}` has an unknown type `{}`", node.name.get_ref(), type_name.get_ref());
            document.fault(place, message, suggestion(type_name.get_ref(), known));
            None
        }
    }
}

/// Puts the nodes in their order and turns the edges round: from "my parents" to "my children".
fn assemble(spec: &Spec<'_, '_>, graph: &Graph, makers: Vec<Option<Maker>>) -> Option<Topology> {
    let place_of = |node: usize| graph.order.iter().position(|ordered| *ordered == node);
    let mut roots = Vec::new();
    let mut children = vec![Vec::new(); spec.nodes.len()];
    for (place, node) in graph.order.iter().enumerate() {
        for parent in &graph.parents[*node] {
            match parent {
                Parent::Source => roots.push(place),
                Parent::Node(parent) => children[place_of(*parent)?].push(place),
            }
        }
    }
    let mut nodes = Vec::new();
    for (node, children) in graph.order.iter().zip(children) {
        let spec_node = &spec.nodes[*node];
        nodes.push(Node {
            name: spec_node.name.get_ref().clone(),
            kind: spec_node.kind,
            type_name: spec_node.type_name.as_ref()?.get_ref().clone(),
            children,
            stores: spec_node.stores.iter().map(|store| store.get_ref().clone()).collect(),
            maker: makers[*node].clone()?,
        });
    }
    Some(Topology {
        name: spec.name.as_ref()?.get_ref().clone(),
        source: spec.sources.first()?.get_ref().clone(),
        nodes,
        roots,
        stores: spec.stores.iter().map(|store| store.name.get_ref().clone()).collect(),
    })
}
