//! The catalogue of metrics against the code that uses it and the page that tells of it.

use driftless::base::metric::{COUNTERS, GAUGES, HISTOGRAMS, labels};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const KINDS: [(&str, &[(&str, &str)]); 3] = [("counter", COUNTERS), ("gauge", GAUGES), ("histogram", HISTOGRAMS)];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().flat_map(|(_, metrics)| metrics.iter().map(|(name, _)| *name))
}

/// By the name: what its numbers count.
fn unit(name: &str) -> &'static str {
    let ends = |suffix: &str| name.trim_end_matches("_total").ends_with(suffix);
    match () {
        () if ends("_seconds") => "seconds",
        () if ends("_bytes") => "bytes",
        () if ends("_ratio") => "0 to 1",
        () => "count",
    }
}

fn page() -> String {
    let mut text = "# Metrics\n\n\
        What a worker tells at `/metrics`. `source` and `origin` are regions. The page is written from `src/base/metric.rs`\n\
        (`UPDATE_GOLDEN=1 cargo test --test metrics`).\n\n\
        | metric | kind | unit | labels | |\n|---|---|---|---|---|\n"
        .to_owned();
    for (kind, metrics) in KINDS {
        for (name, help) in metrics {
            text += &format!("| `{name}` | {kind} | {} | {} | {help} |\n", unit(name), labels(name).join(", "));
        }
    }
    text
}

#[test]
fn the_page_of_metrics_is_up_to_date() {
    let path = root().join("docs/metrics.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, page()).expect("the page can be written");
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), page(), "UPDATE_GOLDEN=1 rewrites it");
}

#[test]
fn names_are_unique_ours_and_say_kind_and_unit() {
    let mut seen = BTreeSet::new();
    for (kind, metrics) in KINDS {
        for (name, help) in metrics {
            assert!(seen.insert(name), "{name} is there twice");
            assert!(name.starts_with("driftless_"), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}: counters, and they alone, end in _total");
            assert!(help.ends_with('.') && !help.contains('|'), "{name}: {help}");
            for wrong in ["_ms", "_millis", "_minutes", "_kb", "_mib", "_percent"] {
                assert!(!name.ends_with(wrong), "{name}: base units are seconds, bytes and ratios");
            }
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Of each use of a metric in `text`, such as `counter!(metric::X, "label" => …)`, the constant's name and the labels.
fn uses(text: &str) -> Vec<(String, Vec<String>)> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("!( metric::", "!(metric::");
    let mut found = Vec::new();
    for (at, _) in text.match_indices("!(metric::") {
        let arguments = &text[at + 2..];
        let mut depth = 1;
        let end = arguments.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let arguments = &arguments[..end.unwrap_or(arguments.len())];
        let constant = arguments["metric::".len()..].split(|c: char| !c.is_alphanumeric() && c != '_').next();
        let parts = arguments.split(',').filter_map(|part| part.trim().strip_prefix('"')?.split_once("\" =>"));
        found.push((constant.unwrap_or_default().to_owned(), parts.map(|(label, _)| label.to_owned()).collect()));
    }
    found
}

#[test]
fn each_metric_is_used_with_the_labels_that_the_catalogue_names() {
    let catalogue = fs::read_to_string(root().join("src/base/metric.rs")).expect("the catalogue is there");
    let constants: BTreeMap<&str, &str> = catalogue
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.strip_suffix("\";")?.split_once(": &str = \""))
        .collect();
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut used = BTreeSet::new();
    for file in files {
        for (constant, found) in uses(&fs::read_to_string(&file).expect("a source file is text")) {
            let name = constants.get(constant.as_str()).unwrap_or_else(|| panic!("{}: metric::{constant}", file.display()));
            assert_eq!(found, labels(name), "{}: labels of {name}", file.display());
            used.insert(*name);
        }
    }
    assert_eq!(used, names().collect(), "what is used, and what the catalogue has");
    let example = "gauge!(metric::A, \"b\" => f(1, 2), \"c\" => d).set(counter!(metric::E));";
    let expected = [("A".to_owned(), vec!["b".to_owned(), "c".to_owned()]), ("E".to_owned(), Vec::new())];
    assert_eq!(uses(example), expected);
}
