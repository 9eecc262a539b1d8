//! The demo end to end, small: three regions with real workers, a cut link and every kind of trouble.

#![allow(clippy::disallowed_methods, reason = "a process is waited for from outside")]

use driftless::demo::{Counts, DemoOptions, Report, run};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn demo(seed: u64, seconds: u64) -> Report {
    let options = DemoOptions { seed, changes: 3_000, vectors: 300, dim: 8, seconds, json: true };
    run(&options).expect("the demo runs to its verdict")
}

#[test]
fn a_seed_gives_one_content_at_any_pace_however_the_threads_interleave() {
    let (first, again, other) = (demo(7, 2), demo(7, 4), demo(8, 2));
    for report in [&first, &again, &other] {
        assert!(report.converged && report.settled, "{report}");
        assert_eq!(report.exit_code(), 0, "{report}");
        assert!(report.counts.dead_letters > 0, "{report}");
        every_change_is_accounted_for(report);
    }
    assert_eq!((first.changes, &first.digest), (again.changes, &again.digest));
    assert_ne!(first.digest, other.digest);
}

fn every_change_is_accounted_for(report: &Report) {
    let mut received_at_home = 0;
    for pair in &report.pairs {
        let Counts { received, applied, coalesced, duplicates, stale, conflicts, dead_letters } = pair.counts;
        let accounted = applied + coalesced + duplicates + stale + conflicts + dead_letters;
        assert_eq!(received, accounted, "{}→{} in\n{report}", pair.from, pair.to);
        if pair.from == pair.to {
            received_at_home += received;
        }
    }
    assert_eq!(received_at_home, report.changes as u64, "{report}");
}

#[test]
fn what_is_out_of_range_is_refused_with_the_option_and_the_range() {
    let error = run(&DemoOptions { dim: 0, ..DemoOptions::default() }).expect_err("no vector has dimension 0");
    assert_eq!(error.exit_code(), 2);
    assert_eq!(error.to_string(), "--dim 0 is out of range: choose from 1 to 32768");
}

/// `driftless demo --serve` as a process, and where its console is.
struct Served {
    process: Child,
    address: String,
}

impl Served {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftless"));
        command.args(["demo", "--serve", "127.0.0.1:0", "--vectors", "100", "--dim", "8"]).env_remove("DRIFTLESS_LOG");
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
        let mut line = String::new();
        BufReader::new(process.stderr.take().expect("piped")).read_line(&mut line).expect("text");
        let (_, rest) = line.split_once("http://").unwrap_or_else(|| panic!("no address in {line}"));
        Self { process, address: rest.split('/').next().unwrap_or_default().to_owned() }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let head = format!("{request} HTTP/1.1\r\nHost: {}\r\nX-Driftless-Console: 1\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer.split_once("\r\n\r\n").expect("an answer").1.to_owned()
    }

    fn link(&self, from: &str, to: &str) -> Json {
        let state: Json = serde_json::from_str(&self.ask("GET /console/state")).expect("JSON");
        let links = state["links"].as_array().cloned().unwrap_or_default();
        links.into_iter().find(|link| link["from"] == from && link["to"] == to).unwrap_or_default()
    }

    fn await_link(&self, what: &str, is_so: impl Fn(&Json) -> bool) {
        let give_up = Instant::now() + Duration::from_secs(120);
        while !is_so(&self.link("us", "eu")) {
            assert!(Instant::now() < give_up, "never {what}: {}", self.link("us", "eu"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It has ended already, unless the test fails.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn a_served_demo_goes_on_until_ctrl_c_and_its_links_are_cut_and_healed() {
    let mut demo = Served::start();
    let lag_ms = |link: &Json| link["lag_ms"]["acknowledged"].as_i64();
    demo.await_link("carries anything", |link| link["applied_per_second"].as_f64() > Some(0.0) && lag_ms(link) < Some(2_000));
    assert!(demo.ask("POST /console/links/us/eu/cut").contains("is cut"));
    assert_eq!(demo.link("us", "eu")["up"], false);
    assert_eq!(demo.link("eu", "us")["up"], true);
    demo.await_link("4 s behind", |link| lag_ms(link) >= Some(4_000) && link["silent"] == 6);
    assert!(demo.ask("POST /console/links/us/eu/heal").contains("is healed"));
    demo.await_link("well again", |link| lag_ms(link) < Some(2_000) && link["silent"] == 0);
    let process = demo.process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &process]).status().expect("kill runs").success());
    assert_eq!(demo.process.wait().expect("it ends").code(), Some(0));
}
