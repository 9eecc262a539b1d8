//! The shape of the source: layers, which library is named where, sizes, names. An ordinary test, so that nothing
//! else need be run to know.

use std::fs;
use std::path::{Path, PathBuf};

/// Every module of the crate with its layer. A file imports its own module and lower layers, nothing else.
const LAYERS: &[(&str, u8)] = &[
    ("base", 0),
    ("merge", 1),
    ("record", 2),
    ("region", 3),
    ("store", 3),
    ("port", 3),
    ("topology", 4),
    ("processor", 5),
    ("task", 6),
    ("stream", 7),
    ("ops", 8),
    ("adapter", 8),
    ("console", 8),
    ("testing", 9),
    ("demo", 10),
    ("config", 10),
    ("app", 11),
    ("cli", 12),
    ("main", 13),
    ("lib", 13),
];

/// Libraries that are named in these folders or files only.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("rdkafka", &["src/adapter/kafka"]),
    ("milvus", &["src/adapter/milvus"]),
    ("fjall", &["src/adapter/disk/tables.rs"]),
    ("tonic", &["src/adapter/milvus"]),
    ("schema_registry_converter", &["src/adapter/registry"]),
    ("apache_avro", &["src/record"]),
    ("axum", &["src/console", "src/app"]),
    ("ratatui", &["src/demo", "src/console"]),
    ("clap", &["src/cli", "src/app/logging.rs"]),
    ("tokio", &["src/adapter", "src/console", "src/app", "src/cli", "src/main.rs"]),
    ("secrecy", &["src/config", "src/adapter"]),
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "mod"];

struct Source {
    /// Relative to the repository: `src/base/ids.rs`.
    path: String,
    /// Without tests, comments and texts in quotes; one entry a line of the file.
    code: Vec<String>,
}

impl Source {
    /// `src/base/ids.rs` → `base`.
    fn module(&self) -> &str {
        let rest = self.path.strip_prefix("src/").unwrap_or(&self.path);
        rest.split(['/', '.']).next().unwrap_or(rest)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    files.sort();
    assert!(files.len() > 50, "only {} source files were found", files.len());
    let mut sources = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).expect("it was found below the root").display().to_string();
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        let text = fs::read_to_string(&file).expect("a source file is text");
        sources.push(Source { path, code: if is_test { Vec::new() } else { code_of(&text) } });
    }
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Blanks out test modules (they end with their closing brace at the attribute's indent), comments and quotes.
fn code_of(text: &str) -> Vec<String> {
    let mut code = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = format!("{indent}}}");
            for inner in lines.by_ref() {
                if inner == end || (inner.starts_with(indent) && inner.ends_with(';') && inner.contains("mod ")) {
                    break;
                }
            }
            continue;
        }
        code.push(without_texts(line));
    }
    code
}

fn without_texts(line: &str) -> String {
    let mut bare = String::new();
    for (index, part) in line.split('"').enumerate() {
        if index % 2 == 0 {
            bare.push_str(part);
        }
    }
    match bare.find("//") {
        Some(comment) => bare[..comment].to_owned(),
        None => bare,
    }
}

/// The names that follow `crate::` in a line, braces included: `use crate::{base, merge::hlc};`.
fn crate_modules(line: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let list = rest.strip_prefix('{').map_or_else(|| vec![rest], |inner| inner.split(',').collect());
        for item in list {
            let name: String = item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            modules.push(name);
        }
    }
    modules
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

#[test]
fn a_file_imports_only_lower_layers() {
    let mut breaches = Vec::new();
    for source in sources() {
        let module = source.module();
        let Some(own) = layer(module) else {
            breaches.push(format!("{}: module `{module}` has no layer: give it one in LAYERS", source.path));
            continue;
        };
        for (number, line) in source.code.iter().enumerate() {
            for used in crate_modules(line) {
                let allowed = used == module || layer(&used).is_none_or(|used| used < own);
                if !allowed {
                    breaches.push(format!("{}:{}: `{module}` uses `{used}`, which is not below it", source.path, number + 1));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn a_library_is_named_only_where_its_adapter_is() {
    let mut breaches = Vec::new();
    for source in sources() {
        for (library, places) in LIBRARIES {
            if places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            for (number, line) in source.code.iter().enumerate() {
                if names_library(line, library) {
                    breaches.push(format!("{}:{}: names {library}", source.path, number + 1));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// `library::` at the beginning of a path, not in the middle of one.
fn names_library(line: &str, library: &str) -> bool {
    let path = format!("{library}::");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    })
}

#[test]
fn files_and_functions_stay_small_and_names_say_something() {
    let mut breaches = Vec::new();
    for source in sources() {
        if source.code.len() > FILE_LINES_MAX {
            breaches.push(format!("{}: {} lines, at most {FILE_LINES_MAX}", source.path, source.code.len()));
        }
        for part in source.path.split('/').map(|part| part.trim_end_matches(".rs")) {
            if EMPTY_NAMES.contains(&part) {
                breaches.push(format!("{}: a module named `{part}`", source.path));
            }
        }
        breaches.extend(long_functions(&source));
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// rustfmt puts a function's closing brace at the indent of its first line.
fn long_functions(source: &Source) -> Vec<String> {
    let mut long = Vec::new();
    for (start, line) in source.code.iter().enumerate() {
        let begins = ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn ", "async fn ", "pub async fn ", "pub(super) async fn "];
        let indent = line.len() - line.trim_start().len();
        if !begins.iter().any(|begin| line.trim_start().starts_with(begin)) {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        let length = source.code[start..].iter().position(|line| *line == end).map_or(1, |lines| lines + 1);
        let one_line = line.ends_with('}') || line.ends_with(';');
        if !one_line && length > FUNCTION_LINES_MAX {
            long.push(format!("{}:{}: {length} lines, at most {FUNCTION_LINES_MAX}", source.path, start + 1));
        }
    }
    long
}

#[test]
fn the_rules_are_seen_to_bite() {
    assert_eq!(crate_modules("use crate::{base::ids, merge};"), ["base", "merge"]);
    assert!(names_library("use tokio::time;", "tokio") && !names_library("use crate::adapter::milvus::X;", "milvus"));
    let text = "fn a() {\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n}\n// crate::cli\nlet x = \"crate::cli\";\n}";
    assert!(code_of(text).iter().all(|line| crate_modules(line).is_empty()));
    let long = format!("fn long() {{\n{}}}\n", "    x;\n".repeat(FUNCTION_LINES_MAX));
    let source = Source { path: "src/a.rs".to_owned(), code: code_of(&long) };
    assert_eq!(long_functions(&source).len(), 1);
}
