//! The binary as it is used: help pages, answers, exit codes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn driftless(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftless"));
    command.args(arguments).env_remove("DRIFTLESS_LOG").output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pages_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli")
}

#[test]
fn there_is_a_page_of_help_for_each_command_and_it_is_up_to_date() {
    let folder = pages_folder();
    let pages = driftless::cli::pages();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        for page in &pages {
            std::fs::write(folder.join(&page.file), &page.text).unwrap();
        }
    }
    let files: BTreeSet<String> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(files, pages.iter().map(|page| page.file.clone()).collect());
    for page in &pages {
        let found = std::fs::read_to_string(folder.join(&page.file)).unwrap();
        assert_eq!(found, page.text, "{} is stale; UPDATE_GOLDEN=1 rewrites it", page.file);
    }
}

#[test]
fn every_command_says_its_exit_codes_and_the_leaves_give_examples() {
    for page in driftless::cli::pages() {
        let is_leaf = !page.text.contains("\nCommands:");
        assert!(!is_leaf || page.text.contains("Exit codes:"), "{} says no exit codes", page.file);
        assert!(!is_leaf || page.text.contains("Examples:"), "{} gives no examples", page.file);
    }
}

/// What somebody types at night, out of a runbook, must not be wrong.
#[test]
fn commands_in_the_runbooks_exist_with_their_options() {
    let pages: BTreeMap<String, String> = driftless::cli::pages().into_iter().map(|page| (page.file, page.text)).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("driftless ")) {
            let words: Vec<&str> = line.split_whitespace().take_while(|word| *word != "#" && *word != "|").collect();
            let found = [2, 1].into_iter().find_map(|count| pages.get(&format!("{}.md", words.get(..count)?.join("-"))));
            let page = found.unwrap_or_else(|| panic!("{}: no command `driftless {line}`", path.display()));
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(
                    page.contains(&format!("{option} ")) || page.contains(&format!("{option}\n")),
                    "{}: {line}",
                    path.display()
                );
            }
            seen += 1;
        }
    }
    assert!(seen > 15, "only {seen} commands were found");
}

#[test]
fn lag_is_asked_of_kafka_or_of_workers_and_says_who_does_not_answer() {
    assert_eq!(driftless(&["lag"]).status.code(), Some(2));
    assert_eq!(driftless(&["lag", "--config", "us.toml", "--worker", "127.0.0.1:1"]).status.code(), Some(2));
    let output = driftless(&["lag", "--worker", "127.0.0.1:1", "--watch"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("worker 127.0.0.1:1 does not answer"), "{}", text(&output.stderr));
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [
        &["wroker"] as &[&str],
        &["worker"],
        &["topology", "validate"],
        &["dead-letter", "list", "--reason", "x", "--config", "f"],
    ] {
        assert_eq!(driftless(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_configuration_with_faults_ends_with_2_and_every_one_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("us.toml");
    let example = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/driftless/us.toml")).unwrap();
    std::fs::write(&file, example.replace("max_lateness = \"1h\"", "max_lateness = \"1 fortnight\"").replace("uri =", "url ="))
        .unwrap();
    for command in [&["worker"] as &[&str], &["doctor"], &["topics", "check"], &["topics", "create"], &["dead-letter", "list"]] {
        let output = driftless(&[command, &["--config", file.to_str().unwrap()]].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {told}");
        assert!(told.contains("unknown key `url` in [milvus]") && told.contains("Did you mean `uri`?"), "{told}");
        assert!(told.contains("\"1 fortnight\" is not a usable duration"), "{told}");
    }
    let output = driftless(&["worker", "--config", "no-such-file.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no-such-file.toml"), "{}", text(&output.stderr));
}

#[test]
fn a_worker_does_not_start_without_a_state_folder_it_can_write() {
    let folder = tempfile::tempdir().unwrap();
    let (file, blocked) = (folder.path().join("us.toml"), folder.path().join("blocked"));
    std::fs::write(&blocked, "").unwrap();
    let example = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/driftless/us.toml")).unwrap();
    std::fs::write(&file, example.replace("/var/lib/driftless", blocked.join("state").to_str().unwrap())).unwrap();
    let output = driftless(&["worker", "--config", file.to_str().unwrap()]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("blocked/state cannot be written") && told.contains("or name another folder"), "{told}");
}

#[test]
fn a_topology_is_described_and_validated() {
    let output = driftless(&["topology", "describe"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), include_str!("golden/replicate.txt"));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    let good = include_str!("../topologies/replicate.toml");
    std::fs::write(&file, good).unwrap();
    let name = file.to_str().unwrap();
    assert_eq!(driftless(&["topology", "validate", name]).status.code(), Some(0));

    let bad = good.replace("parents = [\"changes\"]", "parents = [\"lww_merge\"]").replace("stores = ", "stors = ");
    std::fs::write(&file, bad).unwrap();
    let output = driftless(&["topology", "validate", name]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for part in ["t.toml:18:8: the nodes form a cycle", "unknown key `stors`", "Did you mean `stores`?", "is used by nobody"] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    let json = driftless(&["topology", "validate", name, "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["faults"].as_array().unwrap().len(), told.matches("t.toml:").count() - 1);
    assert_eq!(value["faults"][0]["line"], 13);
}
