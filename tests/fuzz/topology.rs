//! Topology files: no panic, faults that say where and what to do, and what is accepted is a graph that can run.

use crate::faults::assert_useful;
use crate::meter::measure;
use crate::run::{Target, Verdict};
use driftless::processor::register_standard;
use driftless::topology::build::{NodeTypes, Topology};
use driftless::topology::describe;
use driftless::topology::spec::{NodeKind, REPLICATE};
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::BTreeSet;
use std::sync::LazyLock;

pub const TARGET: Target = Target {
    name: "topology",
    good,
    words: &[
        b"[[processor]]\n",
        b"[[sink]]\n",
        b"[[source]]\n",
        b"[[store]]\n",
        b"[topology]\n",
        b"name = \"n1\"\n",
        b"name = \"n2\"\n",
        b"type = \"admit\"\n",
        b"type = \"milvus_sink\"\n",
        b"parents = [\"in\"]\n",
        b"parents = [\"n1\", \"n2\"]\n",
        b"stores = [\"versions\"]\n",
        b"options = { a = 1 }\n",
        b"[processor.options]\n",
        b"\"",
        b"[",
        b"]",
        b"{",
        b"}",
        b"=",
        b"\n",
        b"\"\"\"",
        b"1.5",
        b"\xc3\xa9",
        b"\r\n",
        b"n1",
        b"n2",
        b"in",
        b"[[[[[[[[",
        b"{a={a={a={",
    ],
    body,
    bytes_max: (256 << 10, 1024),
};

/// A random graph over standard types.
fn good(rng: &mut SmallRng) -> Vec<u8> {
    if rng.random_range(0..4) == 0 {
        return REPLICATE.as_bytes().to_vec();
    }
    let mut text =
        "[topology]\nname = \"t\"\n[[source]]\nname = \"in\"\n[[store]]\nname = \"versions\"\ntype = \"memory\"\n".to_owned();
    text += "[[processor]]\nname = \"n0\"\ntype = \"dedup\"\nparents = [\"in\"]\nstores = [\"versions\"]\n";
    let nodes = rng.random_range(1..5);
    for node in 1..=nodes {
        let parent = rng.random_range(0..node);
        text += &format!("[[processor]]\nname = \"n{node}\"\ntype = \"admit\"\nparents = [\"n{parent}\"]\n");
    }
    text += &format!("[[sink]]\nname = \"out\"\ntype = \"milvus_sink\"\nparents = [\"n{nodes}\"]\n");
    text.into_bytes()
}

fn body(bytes: &[u8]) -> Verdict {
    static TYPES: LazyLock<NodeTypes> = LazyLock::new(|| {
        let mut types = NodeTypes::default();
        register_standard(&mut types);
        types
    });
    let text = String::from_utf8_lossy(bytes);
    let (read, held) = measure(|| Topology::parse("t.toml", &text, &TYPES));
    let kind = match &read {
        Ok(topology) => {
            assert_can_run(topology);
            topology.nodes.iter().map(|node| format!("{} {:?};", node.type_name, node.children)).collect()
        }
        Err(faults) => assert_useful(faults, &text),
    };
    Verdict::new(read.is_ok(), &kind, held)
}

fn assert_can_run(topology: &Topology) {
    let mut reached: BTreeSet<usize> = topology.roots.iter().copied().collect();
    for (place, node) in topology.nodes.iter().enumerate() {
        assert!(reached.contains(&place), "nothing reaches {}", node.name);
        assert!(node.children.iter().all(|child| *child > place && *child < topology.nodes.len()), "{topology:?}");
        assert!(node.kind == NodeKind::Processor || node.children.is_empty(), "a sink with children: {topology:?}");
        assert!(node.stores.iter().all(|store| topology.stores.contains(store)));
        reached.extend(&node.children);
    }
    assert!(topology.nodes.iter().any(|node| node.kind == NodeKind::Sink));
    let (text, json) = (describe::text(topology), describe::json(topology));
    assert!(topology.nodes.iter().all(|node| text.contains(&node.name)));
    assert_eq!(json["nodes"].as_array().map(Vec::len), Some(topology.nodes.len()));
}
