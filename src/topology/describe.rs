//! How a topology is printed: for people as Kafka Streams' `TopologyDescription` does, for machines as JSON.

use super::build::{Node, Topology};
use super::spec::NodeKind;
use serde_json::json;
use std::fmt::Write;

/// The description that people read.
pub fn text(topology: &Topology) -> String {
    let mut text = String::new();
    write_text(topology, &mut text).expect("writing to a String cannot fail");
    text
}

fn write_text(topology: &Topology, out: &mut String) -> std::fmt::Result {
    writeln!(out, "Topology: {}", topology.name)?;
    writeln!(out, "   Sub-topology: 0")?;
    writeln!(out, "    Source: {} (topics: [vector-cdc, <peer>.vector-cdc])", topology.source)?;
    writeln!(out, "      --> {}", names(topology, &topology.roots))?;
    for (index, node) in topology.nodes.iter().enumerate() {
        let kind = match node.kind {
            NodeKind::Processor => "Processor",
            NodeKind::Sink => "Sink",
        };
        write!(out, "    {kind}: {} (type: {}", node.name, node.type_name)?;
        if node.kind == NodeKind::Processor {
            write!(out, ", stores: [{}]", node.stores.join(", "))?;
        }
        writeln!(out, ")")?;
        if node.kind == NodeKind::Processor {
            writeln!(out, "      --> {}", names(topology, &node.children))?;
        }
        writeln!(out, "      <-- {}", parents(topology, index).join(", "))?;
    }
    Ok(())
}

/// The same as one JSON object.
pub fn json(topology: &Topology) -> serde_json::Value {
    let nodes: Vec<_> = topology.nodes.iter().enumerate().map(|(index, node)| node_json(topology, index, node)).collect();
    json!({
        "name": topology.name,
        "source": { "name": topology.source, "children": name_list(topology, &topology.roots) },
        "stores": topology.stores,
        "nodes": nodes,
    })
}

fn node_json(topology: &Topology, index: usize, node: &Node) -> serde_json::Value {
    json!({
        "name": node.name,
        "kind": match node.kind { NodeKind::Processor => "processor", NodeKind::Sink => "sink" },
        "type": node.type_name,
        "stores": node.stores,
        "parents": parents(topology, index),
        "children": name_list(topology, &node.children),
    })
}

fn names(topology: &Topology, places: &[usize]) -> String {
    if places.is_empty() { "none".to_owned() } else { name_list(topology, places).join(", ") }
}

fn name_list<'a>(topology: &'a Topology, places: &[usize]) -> Vec<&'a str> {
    places.iter().map(|place| topology.nodes[*place].name.as_str()).collect()
}

fn parents(topology: &Topology, index: usize) -> Vec<&str> {
    let mut parents = Vec::new();
    if topology.roots.contains(&index) {
        parents.push(topology.source.as_str());
    }
    parents.extend(topology.nodes.iter().filter(|node| node.children.contains(&index)).map(|node| node.name.as_str()));
    parents
}
