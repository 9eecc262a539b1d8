//! Is it a graph that can run? Names, parents, cycles, reachability and stores; and the order in which parents
//! come before their children.

use super::{NodeKind, NodeSpec, Spec};
use crate::base::fault::suggestion;
use crate::base::section::Document;
use std::collections::{HashMap, HashSet};
use toml::Spanned;

/// Where a node's parent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    Source,
    /// The node at this place of [`Spec::nodes`].
    Node(usize),
}

/// The edges of a topology and an order of its nodes in which parents come first.
pub struct Graph {
    /// By node: its parents that exist.
    pub parents: Vec<Vec<Parent>>,
    /// Places in [`Spec::nodes`]; nodes of a cycle and those behind it are left out (and noted).
    pub order: Vec<usize>,
}

/// Notes every fault of the graph and returns what could be made of it.
pub fn check(document: &Document<'_>, spec: &Spec<'_, '_>) -> Graph {
    check_source(document, spec);
    check_names(document, spec);
    let parents = resolve_parents(document, spec);
    let order = order_by_parents(&parents);
    report_cycles(document, spec, &parents, &order);
    check_reachable(document, spec, &parents, &order);
    check_stores(document, spec);
    Graph { parents, order }
}

fn check_source(document: &Document<'_>, spec: &Spec<'_, '_>) {
    if document.has_syntax_errors() {
        return;
    }
    if spec.sources.is_empty() {
        document.fault(0, "the topology has no source", "Add [[source]] with a name, and make it a parent of the first node.");
    }
    for second in spec.sources.iter().skip(1) {
        let message = format!("`{}` is a second source", second.get_ref());
        let remedy = "Keep one: it stands for the local change topic and all its mirrors.";
        document.fault(second.span().start, message, remedy);
    }
    if !spec.nodes.iter().any(|node| node.kind == NodeKind::Sink) {
        document.fault(0, "the topology has no sink", "Add [[sink]] with type = \"milvus_sink\".");
    }
}

/// One name, one thing: nodes, sources and stores do not share any.
fn check_names(document: &Document<'_>, spec: &Spec<'_, '_>) {
    let sources = spec.sources.iter();
    let stores = spec.stores.iter().map(|store| &store.name);
    let mut seen: HashSet<&str> = HashSet::new();
    for name in sources.chain(stores).chain(spec.nodes.iter().map(|node| &node.name)) {
        if !seen.insert(name.get_ref()) {
            let message = format!("the name `{}` is given twice", name.get_ref());
            document.fault(name.span().start, message, "Give each source, store, processor and sink a name of its own.");
        }
    }
}

fn resolve_parents(document: &Document<'_>, spec: &Spec<'_, '_>) -> Vec<Vec<Parent>> {
    let mut known: HashMap<&str, Parent> = HashMap::new();
    for (index, node) in spec.nodes.iter().enumerate() {
        known.entry(node.name.get_ref()).or_insert(Parent::Node(index));
    }
    for source in &spec.sources {
        known.insert(source.get_ref(), Parent::Source);
    }
    let mut resolved = Vec::new();
    for node in &spec.nodes {
        let mut parents = Vec::new();
        for name in &node.parents {
            match known.get(name.get_ref().as_str()) {
                Some(parent) if parents.contains(parent) => {
                    let message = format!("`{}` names its parent `{}` twice", node.name.get_ref(), name.get_ref());
                    document.fault(name.span().start, message, "Name it once: each message would be handled twice.");
                }
                Some(parent) => {
                    refuse_sink_as_parent(document, spec, *parent, name);
                    parents.push(*parent);
                }
                None => report_unknown_parent(document, spec, node, name),
            }
        }
        resolved.push(parents);
    }
    resolved
}

fn refuse_sink_as_parent(document: &Document<'_>, spec: &Spec<'_, '_>, parent: Parent, name: &Spanned<String>) {
    if let Parent::Node(index) = parent
        && spec.nodes[index].kind == NodeKind::Sink
    {
        let message = format!("the sink `{}` cannot be a parent", name.get_ref());
        document.fault(name.span().start, message, "A sink forwards nothing: name a processor or the source.");
    }
}

fn report_unknown_parent(document: &Document<'_>, spec: &Spec<'_, '_>, node: &NodeSpec<'_, '_>, name: &Spanned<String>) {
    let sources = spec.sources.iter();
    let processors = spec.nodes.iter().filter(|other| other.kind == NodeKind::Processor).map(|other| &other.name);
    let others = sources.chain(processors).filter(|other| **other != node.name).map(|other| other.get_ref().as_str());
    let message = format!("`{}` has an unknown parent `{}`", node.name.get_ref(), name.get_ref());
    document.fault(name.span().start, message, suggestion(name.get_ref(), others));
}

/// The nodes in an order in which every parent comes before its children, otherwise as in the file.
fn order_by_parents(parents: &[Vec<Parent>]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    loop {
        let ready = |node: &usize| {
            !order.contains(node)
                && parents[*node].iter().all(|parent| match parent {
                    Parent::Source => true,
                    Parent::Node(parent) => order.contains(parent),
                })
        };
        match (0..parents.len()).find(ready) {
            Some(node) => order.push(node),
            None => return order,
        }
    }
}

fn report_cycles(document: &Document<'_>, spec: &Spec<'_, '_>, parents: &[Vec<Parent>], order: &[usize]) {
    let mut told: HashSet<usize> = HashSet::new();
    for start in (0..parents.len()).filter(|node| !order.contains(node)) {
        let cycle = cycle_above(start, parents, order);
        if cycle.iter().any(|node| told.contains(node)) {
            continue;
        }
        told.extend(&cycle);
        let mut names: Vec<&str> = cycle.iter().rev().map(|node| spec.nodes[*node].name.get_ref().as_str()).collect();
        names.insert(0, names[names.len() - 1]);
        let first = cycle.iter().copied().min().unwrap_or(start);
        let message = format!("the nodes form a cycle: {}", names.join(" → "));
        let remedy = "Take one of these parents away: a change may pass each node once.";
        document.fault(spec.nodes[first].name.span().start, message, remedy);
    }
}

/// Walks up from a node that could not be ordered, always to a parent that could not be either, until one
/// comes round again.
fn cycle_above(start: usize, parents: &[Vec<Parent>], order: &[usize]) -> Vec<usize> {
    let mut path = vec![start];
    loop {
        let here = path[path.len() - 1];
        let blocked = parents[here].iter().find_map(|parent| match parent {
            Parent::Node(parent) if !order.contains(parent) => Some(*parent),
            _ => None,
        });
        let above = blocked.expect("a node stays unordered only on account of an unordered parent");
        if let Some(begin) = path.iter().position(|node| *node == above) {
            return path.split_off(begin);
        }
        path.push(above);
    }
}

fn check_reachable(document: &Document<'_>, spec: &Spec<'_, '_>, parents: &[Vec<Parent>], order: &[usize]) {
    let mut reached: HashSet<usize> = HashSet::new();
    for node in order {
        let from_above = parents[*node].iter().any(|parent| match parent {
            Parent::Source => true,
            Parent::Node(parent) => reached.contains(parent),
        });
        // A parent that doesn't exist has its own fault.
        let unknown_parent = parents[*node].len() < spec.nodes[*node].parents.len();
        if from_above || unknown_parent {
            reached.insert(*node);
            continue;
        }
        let spec_node = &spec.nodes[*node];
        let name = spec_node.name.get_ref();
        let (message, remedy) = match (spec_node.kind, spec_node.parents.is_empty()) {
            (NodeKind::Sink, true) => {
                (format!("the sink `{name}` has no parents"), "Name the processors whose messages it writes.")
            }
            (_, true) => (format!("`{name}` has no parents: no change reaches it"), "Add parents = [\"…\"]."),
            (_, false) => {
                (format!("no change from the source reaches `{name}`"), "Make the source a parent of one of its parents.")
            }
        };
        document.fault(spec_node.name.span().start, message, remedy);
    }
}

fn check_stores(document: &Document<'_>, spec: &Spec<'_, '_>) {
    for second in spec.stores.iter().skip(1) {
        let message = format!("`{}` is a second store", second.name.get_ref());
        document.fault(second.name.span().start, message, "Keep one: a task has one store, of versions.");
    }
    let mut used: HashSet<&str> = HashSet::new();
    for node in &spec.nodes {
        for store in &node.stores {
            used.insert(store.get_ref());
            if !spec.stores.iter().any(|known| known.name.get_ref() == store.get_ref()) {
                let message = format!("`{}` uses an unknown store `{}`", node.name.get_ref(), store.get_ref());
                let known = spec.stores.iter().map(|known| known.name.get_ref().as_str());
                let remedy = if spec.stores.is_empty() {
                    format!("Add [[store]] with name = \"{}\" and type = \"memory\".", store.get_ref())
                } else {
                    suggestion(store.get_ref(), known)
                };
                document.fault(store.span().start, message, remedy);
            }
        }
    }
    for store in spec.stores.iter().filter(|store| !used.contains(store.name.get_ref().as_str())) {
        let message = format!("the store `{}` is used by nobody", store.name.get_ref());
        document.fault(store.name.span().start, message, "Name it in the stores of a processor, or remove it.");
    }
}
