//! The topology as a graph with rates: what comes to each node, what it keeps back, and under which word.

use super::rates::SourceRates;
use serde::Serialize;
use serde_json::Value as Json;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeFlow {
    pub node: String,
    /// Changes per second.
    pub into: f64,
    pub out: f64,
    /// What ends here, by verdict or by the reason of a dead letter, per second.
    pub ends: BTreeMap<&'static str, f64>,
}

/// By node of the topology as [`describe`](crate::topology::describe::json) has it: the source, then its nodes, parents
/// first.
pub fn flow(topology: &Json, rates: &SourceRates) -> Vec<NodeFlow> {
    let mut out_of: BTreeMap<&str, f64> = BTreeMap::new();
    let mut flows = Vec::new();
    let source = topology["source"]["name"].as_str().unwrap_or_default();
    push(source, "source", rates.polled, rates, &mut out_of, &mut flows);
    for node in topology["nodes"].as_array().into_iter().flatten() {
        let name = node["name"].as_str().unwrap_or_default();
        let parents = node["parents"].as_array().into_iter().flatten().filter_map(Json::as_str);
        let into = parents.map(|parent| out_of.get(parent).copied().unwrap_or(0.0)).sum();
        push(name, node["type"].as_str().unwrap_or_default(), into, rates, &mut out_of, &mut flows);
    }
    flows
}

fn push<'a>(
    node: &'a str,
    type_name: &str,
    into: f64,
    rates: &SourceRates,
    out_of: &mut BTreeMap<&'a str, f64>,
    flows: &mut Vec<NodeFlow>,
) {
    let ends = ends_at(type_name, rates);
    let ended: f64 = ends.values().sum();
    // A sink hands on to the store what it is given and does not keep back.
    let out = if type_name == "milvus_sink" { rates.applied } else { (into - ended).max(0.0) };
    out_of.insert(node, out);
    flows.push(NodeFlow { node: node.to_owned(), into, out, ends });
}

/// What ends at nodes of a type. A type of a user's own ends what none of ours does, under words of its own.
fn ends_at(type_name: &str, rates: &SourceRates) -> BTreeMap<&'static str, f64> {
    let verdicts = rates.verdicts.iter().filter(|(word, _)| type_of_verdict(word) == type_name);
    let letters = rates.dead_letters.iter().filter(|(code, _)| type_of_reason(code) == type_name);
    let mut ends: BTreeMap<&'static str, f64> = verdicts.chain(letters).map(|(word, rate)| (*word, *rate)).collect();
    if type_name == "milvus_sink" {
        ends.insert("coalesced", rates.coalesced);
    }
    ends.retain(|_, rate| *rate > 0.0);
    ends
}

fn type_of_verdict(word: &str) -> &'static str {
    match word {
        "winner" => "",
        "mis-keyed" | "rekeyed" => "admit",
        "duplicate" => "dedup",
        _ => "lww_merge",
    }
}

fn type_of_reason(code: &str) -> &'static str {
    match code {
        "early" | "late" => "admit",
        "below-floor" | "bad-dimension" | "not-finite" | "reserved-key" | "metadata-too-large" => "lww_merge",
        "refused-by-milvus" => "milvus_sink",
        _ => "source",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_comes_in_goes_on_or_ends_somewhere() {
        let node = |name: &str, parent: &str| json!({ "name": name, "type": name, "parents": [parent] });
        let nodes =
            [node("admit", "changes"), node("dedup", "admit"), node("lww_merge", "dedup"), node("milvus_sink", "lww_merge")];
        let topology = json!({ "source": { "name": "changes" }, "nodes": nodes });
        let rates = SourceRates {
            polled: 100.0,
            heartbeats: 6.0,
            applied: 60.0,
            coalesced: 5.0,
            verdicts: BTreeMap::from([("winner", 65.0), ("duplicate", 15.0), ("stale", 12.0), ("conflict", 5.0)]),
            dead_letters: BTreeMap::from([("malformed", 1.0), ("late", 1.5), ("not-finite", 0.5)]),
        };
        let flows = flow(&topology, &rates);
        let seen: Vec<_> = flows.iter().map(|flow| (flow.node.as_str(), flow.into, flow.out)).collect();
        let expected = [
            ("changes", 100.0, 99.0),
            ("admit", 99.0, 97.5),
            ("dedup", 97.5, 82.5),
            ("lww_merge", 82.5, 65.0),
            ("milvus_sink", 65.0, 60.0),
        ];
        assert_eq!(seen, expected);
        assert_eq!(flows[3].ends, BTreeMap::from([("conflict", 5.0), ("not-finite", 0.5), ("stale", 12.0)]));
    }
}
