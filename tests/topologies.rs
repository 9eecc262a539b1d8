//! Topology files: the built-in one as it is printed, and every fault with its place and remedy.

use driftless::base::error::Result;
use driftless::topology::build::{NodeTypes, Topology, maker};
use driftless::topology::node::{Context, Message, Processor};
use driftless::topology::{describe, spec};
use serde::Deserialize;

struct Pass;

impl Processor for Pass {
    fn process(&mut self, message: Message, context: &mut Context<'_>) -> Result<()> {
        context.forward(message);
        Ok(())
    }
}

#[derive(Deserialize)]
struct SampleOptions {
    #[serde(default = "one")]
    every: u32,
}

fn one() -> u32 {
    1
}

/// The standard names, and `sample`: a user's own type with an option.
fn types() -> NodeTypes {
    let mut types = NodeTypes::default();
    types.register("admit", |_| Ok(maker(|| Pass)));
    types.register("dedup", |options| {
        options.needs_store()?;
        Ok(maker(|| Pass))
    });
    types.register("lww_merge", |_| Ok(maker(|| Pass)));
    types.register("sample", |options| {
        let read: SampleOptions = options.read()?;
        if read.every == 0 {
            return Err(options.refuse("every", "`every` is 0", "Choose 1 or more."));
        }
        Ok(maker(|| Pass))
    });
    types.register_sink("milvus_sink", |_| Ok(maker(|| Pass)));
    types.register_sink("null", |_| Ok(maker(|| Pass)));
    types
}

fn golden(name: &str, found: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{name} differs; UPDATE_GOLDEN=1 rewrites it");
}

#[test]
fn the_built_in_topology_is_printed_as_kafka_streams_does() {
    let topology = Topology::parse(spec::REPLICATE_FILE, spec::REPLICATE, &types()).unwrap();
    golden("replicate.txt", &describe::text(&topology));
    golden("replicate.json", &format!("{:#}\n", describe::json(&topology)));
}

#[test]
fn parents_come_before_children_whatever_the_order_in_the_file() {
    let text = r#"
        [topology]
        name = "reversed"
        [[source]]
        name = "in"
        [[processor]]
        name = "second"
        type = "admit"
        parents = ["first", "in"]
        [[processor]]
        name = "first"
        type = "sample"
        parents = ["in"]
        options = { every = 3 }
        [[sink]]
        name = "out"
        type = "null"
        parents = ["second"]
    "#;
    let topology = Topology::parse("t.toml", text, &types()).unwrap();
    let names: Vec<&str> = topology.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["first", "second", "out"]);
    assert_eq!(topology.roots, [0, 1]);
    assert_eq!(topology.nodes[0].children, [1]);
    assert_eq!(topology.nodes[1].children, [2]);
}

/// A good file, into which each fault is written by replacing a line.
const GOOD: &str = r#"[topology]
name = "t"
[[source]]
name = "in"
[[store]]
name = "versions"
type = "memory"
[[processor]]
name = "admit"
type = "admit"
parents = ["in"]
[[processor]]
name = "dedup"
type = "dedup"
parents = ["admit"]
stores = ["versions"]
[[processor]]
name = "sample"
type = "sample"
parents = ["dedup"]
options = { every = 2 }
[[sink]]
name = "out"
type = "null"
parents = ["sample"]
"#;

/// What is replaced, by what, and `place: words of the message and of the remedy` to be found.
const FAULTS: &[(&str, &str, &str, &str, &str)] = &[
    ("name = \"t\"", "name = t", "t.toml:2:8:", "not valid TOML", "Mend the syntax"),
    ("name = \"t\"", "nmae = \"t\"", "t.toml:2:1:", "unknown key `nmae` in [topology]", "Did you mean `name`?"),
    ("name = \"t\"", "", "t.toml:1:1:", "`name` is missing in [topology]", "Give it a name"),
    ("[topology]", "[topolgy]", "t.toml:1:2:", "unknown key `topolgy`", "Did you mean `topology`?"),
    ("parents = [\"in\"]", "parents = \"in\"", "t.toml:11:11:", "`parents` in [[processor]] is a text", "a list of texts"),
    ("parents = [\"in\"]", "parents = [1]", "t.toml:11:12:", "`parents` in [[processor]] is a whole number", "texts in quotes"),
    ("name = \"dedup\"", "name = \"admit\"", "t.toml:13:8:", "the name `admit` is given twice", "a name of its own"),
    (
        "parents = [\"admit\"]",
        "parents = [\"admti\"]",
        "t.toml:15:12:",
        "`dedup` has an unknown parent `admti`",
        "Did you mean `admit`?",
    ),
    (
        "parents = [\"in\"]",
        "parents = [\"sample\"]",
        "t.toml:9:8:",
        "cycle: admit → dedup → sample → admit",
        "Take one of these parents away",
    ),
    ("parents = [\"in\"]", "parents = [\"admit\"]", "t.toml:9:8:", "cycle: admit → admit", "Take one of these parents away"),
    ("parents = [\"in\"]", "", "t.toml:9:8:", "`admit` has no parents", "Add parents"),
    ("parents = [\"in\"]", "", "t.toml:18:8:", "no change from the source reaches `sample`", "Make the source a parent"),
    ("parents = [\"sample\"]", "", "t.toml:23:8:", "the sink `out` has no parents", "Name the processors"),
    (
        "parents = [\"sample\"]",
        "parents = [\"sample\", \"sample\"]",
        "t.toml:25:22:",
        "its parent `sample` twice",
        "Name it once",
    ),
    (
        "parents = [\"dedup\"]",
        "parents = [\"out\"]",
        "t.toml:20:12:",
        "the sink `out` cannot be a parent",
        "A sink forwards nothing",
    ),
    ("stores = [\"versions\"]", "", "t.toml:6:8:", "the store `versions` is used by nobody", "or remove it"),
    ("stores = [\"versions\"]", "", "t.toml:13:8:", "`dedup` needs a store", "Add stores"),
    (
        "stores = [\"versions\"]",
        "stores = [\"version\"]",
        "t.toml:16:11:",
        "`dedup` uses an unknown store `version`",
        "Did you mean `versions`?",
    ),
    ("type = \"memory\"", "type = \"disk\"", "t.toml:7:8:", "unknown store type `disk`", "type = \"memory\""),
    (
        "type = \"memory\"",
        "type = \"memory\"\nchangelog = false",
        "t.toml:8:1:",
        "a store without a changelog",
        "changelog = true",
    ),
    ("type = \"dedup\"", "type = \"dedupe\"", "t.toml:14:8:", "unknown type `dedupe`", "Did you mean `dedup`?"),
    ("type = \"dedup\"", "type = \"null\"", "t.toml:14:8:", "`null` is not a type for [[processor]]", "Write it as [[sink]]"),
    ("[[source]]\nname = \"in\"", "", "t.toml:1:1:", "no source", "Add [[source]]"),
    ("[[source]]", "[[source]]\nname = \"other\"\n[[source]]", "t.toml:6:8:", "`in` is a second source", "Keep one"),
    ("every = 2", "every = 0", "t.toml:21:13:", "`every` is 0", "Choose 1 or more"),
    ("every = 2", "every = \"two\"", "t.toml:21:21:", "[processor.options]", "Give it a value of that form"),
    ("every = 2", "evry = 2", "t.toml:21:13:", "unknown key `evry` in [processor.options]", "Remove it or mend its name"),
];

#[test]
fn every_fault_is_told_with_its_place_and_remedy() {
    assert!(Topology::parse("t.toml", GOOD, &types()).is_ok());
    let mut unseen = Vec::new();
    for (good, bad, place, message, remedy) in FAULTS {
        assert!(GOOD.contains(good), "{good}");
        let faults = Topology::parse("t.toml", &GOOD.replacen(good, bad, 1), &types()).unwrap_err();
        let told = |fault: &String| fault.starts_with(place) && fault.contains(message) && fault.contains(remedy);
        if !faults.iter().map(ToString::to_string).any(|fault| told(&fault)) {
            unseen.push(format!("{place} {message} … {remedy}\n  told instead: {faults}"));
        }
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}

#[test]
fn faults_of_different_kinds_are_told_at_once() {
    let bad = GOOD
        .replacen("type = \"memory\"", "type = \"disk\"", 1)
        .replacen("parents = [\"admit\"]", "parents = [\"nobody\"]", 1)
        .replacen("every = 2", "every = 0, colour = 1", 1)
        .replacen("type = \"null\"", "type = \"void\"", 1);
    let faults = Topology::parse("t.toml", &bad, &types()).unwrap_err();
    let lines: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [7, 15, 21, 24], "{faults}");
}
