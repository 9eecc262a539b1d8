//! The console whole: a scripted plant, its JSON, and what is served of it over a real socket.

use super::assets::{PAGE, PARTS};
use super::plant::{About, LinkObserved, Mode, Observation, Plant, RegionObserved, Switchboard};
use super::server::Server;
use super::state::Console;
use super::tap::{Ear, Tap, channel};
use crate::base::ids::{Region, TopicPartition};
use crate::base::time::UnixMs;
use crate::port::log::{Ack, Append, AppendRefused, Appender};
use crate::record::headers;
use crate::stream::report::{SourceReport, TaskReport, ThreadReport};
use crate::task::lag::Stage;
use bytes::Bytes;
use serde_json::{Value as Json, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MARKUP: &str = "<img src=x onerror=alert(1)>";

/// Shows what it is told to show; its one link is cut and healed.
#[derive(Clone)]
struct Script {
    shown: Arc<Mutex<Observation>>,
}

impl Plant for Script {
    fn observe(&self) -> Observation {
        self.shown.lock().unwrap().clone()
    }
}

impl Switchboard for Script {
    fn switch(&self, from: &str, to: &str, up: bool) -> Option<String> {
        let mut shown = self.shown.lock().unwrap();
        let link = shown.links.iter_mut().find(|link| link.from.as_str() == from && link.to.as_str() == to)?;
        link.up = up;
        Some(format!("{from} to {to}: {up}"))
    }
}

fn source(region: &str, lags: [i64; 3], silent: bool) -> SourceReport {
    SourceReport {
        region: region.to_owned(),
        topic: format!("{region}.vector-cdc"),
        present: true,
        next_offset: 7,
        frontier_ms: None,
        open_records: 3,
        oldest_open_ms: None,
        lag_ms: Stage::ALL.iter().map(|stage| stage.name()).zip(lags).collect(),
        stalled_ms: 0,
        disagreements: Vec::new(),
        gaps: 0,
        heartbeat_overdue: silent,
        clock_ahead_ms: Some([-3, 4]),
        lag: Default::default(),
    }
}

/// `eu` with one task that hears of itself and of `us`.
fn observation(now: i64, of_us: SourceReport) -> Observation {
    let mut task = TaskReport::restoring(crate::base::ids::TaskId { shard: 0, partition: 2 }, None, Duration::ZERO, Vec::new());
    task.state = "running";
    task.sources = vec![source("eu", [1, 2, 3], false), of_us];
    let report = ThreadReport { joined: true, tasks: vec![task], ..ThreadReport::default() };
    let (us, eu) = (Region::new("us"), Region::new("eu"));
    let regions = vec![RegionObserved { region: eu.clone(), report, rows: Some(12) }];
    Observation { now: UnixMs(now), regions, links: vec![LinkObserved { from: us, to: eu, up: true }] }
}

fn console(now: i64, of_us: SourceReport) -> (Arc<Console>, Script, Ear) {
    let script = Script { shown: Arc::new(Mutex::new(observation(now, of_us))) };
    let about = About {
        mode: Mode::Demo,
        version: "0",
        application: MARKUP.to_owned(),
        topology: json!({ "name": "t", "source": { "name": "changes" }, "nodes": [] }),
        regions: vec![Region::new("eu"), Region::new("us")],
    };
    let (ear, inbox) = channel();
    (Arc::new(Console::new(about, Box::new(script.clone()), inbox, true)), script, ear)
}

fn state(console: &Console) -> Json {
    serde_json::from_str(&console.state()).expect("JSON")
}

#[test]
fn the_state_says_which_link_which_stage_and_since_when() {
    let (console, script, _) = console(100_000, source("us", [40, 50, 9_000], false));
    for now in [100_000, 101_000, 102_000, 103_000] {
        *script.shown.lock().unwrap() = observation(now, source("us", [40, 50, 9_000 + now - 100_000], false));
        console.look();
    }
    let state = state(&console);
    let link = &state["links"][1];
    assert_eq!((&link["from"], &link["to"], &link["leg"]), (&json!("us"), &json!("eu"), &json!("sink")));
    assert_eq!(link["lag_ms"], json!({ "polled": 40, "merged": 50, "acknowledged": 12_000 }));
    let condition = &state["conditions"][0];
    assert_eq!((&condition["level"], &condition["title"]), (&json!("alarm"), &json!("eu is behind us")));
    assert_eq!(condition["since_ms"], json!(91_000), "when the oldest change that waits was appended");
    assert_eq!(state["history"]["columns"].as_array().map(Vec::len), Some(4));
    assert_eq!(state["tasks"][0]["work_ms"], json!(11_960), "what of the lag is its own");
}

#[test]
fn a_link_that_says_nothing_is_told_from_one_that_is_slow() {
    let (console, script, _) = console(100_000, source("us", [4_000, 4_000, 4_000], true));
    console.look();
    let silent = state(&console);
    assert_eq!(silent["conditions"][0]["title"], "eu hears nothing from us");
    assert_eq!(silent["conditions"][0]["since_ms"], 96_000);
    *script.shown.lock().unwrap() = observation(104_000, source("us", [0, 0, 0], false));
    console.look();
    let healed = state(&console);
    assert_eq!(healed["conditions"], json!([]));
    assert_eq!((&healed["ended"][0]["since_ms"], &healed["ended"][0]["until_ms"]), (&json!(96_000), &json!(100_000)));
}

/// Takes one record in two.
#[derive(Default)]
struct Moody {
    refuse: bool,
}

impl Appender for Moody {
    fn append(&mut self, append: Append, _: u64) -> Result<(), AppendRefused> {
        self.refuse = !self.refuse;
        if self.refuse { Err(AppendRefused::QueueFull(append.into())) } else { Ok(()) }
    }

    fn poll_acks(&mut self, _: &mut Vec<Ack>) {}
}

fn dead_letter(topic: &str) -> Append {
    let header = |name: &str, value: &'static str| (Arc::from(name), Some(Bytes::from(value)));
    Append {
        to: TopicPartition::new(topic, 0),
        key: Some(Bytes::from(MARKUP)),
        value: None,
        headers: vec![
            header(headers::REASON, "the producer's own"),
            header(headers::REASON, "bad-id"),
            header(headers::OFFSET, "9"),
        ]
        .into(),
    }
}

#[test]
fn what_is_kept_is_heard_of_once_it_is_taken_and_a_full_queue_holds_nobody_up() {
    let (console, _, ear) = console(1, source("us", [0, 0, 0], false));
    let (letters, conflicts): (Arc<str>, Arc<str>) = (Arc::from("letters"), Arc::from("conflicts"));
    let mut tap = Tap::new(Box::<Moody>::default(), ear, Region::new("eu"), letters, conflicts);
    for topic in ["letters", "elsewhere"] {
        assert!(matches!(tap.append(dead_letter(topic), 1), Err(AppendRefused::QueueFull(_))));
        assert!(tap.append(dead_letter(topic), 1).is_ok());
    }
    console.look();
    let recent = state(&console)["recent"].clone();
    let heard: Vec<_> = recent["dead_letters"].as_array().unwrap().iter().map(|it| (&it["key"], &it["reason"])).collect();
    assert_eq!(heard, [(&json!(MARKUP), &json!("bad-id"))]);
    for _ in 0..1_000 {
        tap.append(dead_letter("letters"), 1).ok();
    }
    console.look();
    let recent = state(&console)["recent"].clone();
    assert_eq!((recent["dead_letters"].as_array().map(Vec::len), recent["missed"].as_u64()), (Some(30), Some(500 - 256)));
}

/// What was answered: the status line and headers, and the body.
fn ask(address: SocketAddr, request: &str, headers: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "{request} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head.to_lowercase(), body.to_owned())
}

fn served(console: &Arc<Console>, script: Option<Script>) -> Server {
    let switchboard = script.map(|script| Arc::new(script) as Arc<dyn Switchboard>);
    Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), console.clone(), switchboard).expect("a free port")
}

const LOCAL: &str = "Host: 127.0.0.1\r\n";

#[test]
fn every_answer_forbids_what_is_not_the_consoles_own() {
    let (console, _, _ear) = console(1, source("us", [0, 0, 0], false));
    let server = served(&console, None);
    let paths = PARTS.iter().map(|part| part.path).chain(["/", "/console/state"]);
    for path in paths {
        let (head, _) = ask(server.address(), &format!("GET {path}"), LOCAL);
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        assert!(
            head.contains("content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';"),
            "{path}: {head}"
        );
        assert!(head.contains("frame-ancestors 'none'") && head.contains("nosniff"), "{path}: {head}");
        assert!(!head.contains("unsafe") && !head.contains("access-control"), "{path}: {head}");
    }
}

#[test]
fn the_page_names_nothing_of_elsewhere_and_reads_no_text_as_markup() {
    for asset in PARTS.iter().chain([&PAGE]) {
        let text = asset.text.replace("http://www.w3.org/2000/svg", "");
        for forbidden in ["http://", "https://", "//cdn", "@import", "url("] {
            assert!(!text.contains(forbidden), "{} has {forbidden}", asset.path);
        }
        for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"] {
            assert!(!text.contains(sink), "{} has {sink}", asset.path);
        }
    }
    let inline = ["<style", "style=\"", "onclick=", "<script>"];
    assert!(inline.iter().all(|forbidden| !PAGE.text.contains(forbidden)), "the policy forbids it");
    let named = PAGE.text.split('"').filter(|text| text.starts_with("/console/"));
    for name in named {
        assert!(PARTS.iter().any(|part| part.path == name), "{name} is not served");
    }
    let imported = PARTS.iter().flat_map(|part| part.text.lines()).filter_map(|line| line.split_once("from \"./"));
    for (_, name) in imported {
        let path = format!("/console/{}", name.trim_end_matches("\";"));
        assert!(PARTS.iter().any(|part| part.path == path), "{path} is not served");
    }
}

#[test]
fn events_follow_each_other_with_what_is_new() {
    let (console, _, _ear) = console(1, source("us", [0, 0, 0], false));
    let server = served(&console, None);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET /console/events HTTP/1.1\r\n{LOCAL}\r\n").unwrap();
    let lines = BufReader::new(stream).lines().map(|line| line.unwrap());
    let mut events = lines.filter_map(|line| serde_json::from_str::<Json>(line.strip_prefix("data: ")?).ok());
    let (first, second) = (events.next().unwrap(), events.next().unwrap());
    assert_eq!(second["tick"].as_u64(), first["tick"].as_u64().map(|tick| tick + 1));
    assert_eq!(second["history"]["columns"].as_array().map(Vec::len), Some(1));
    assert_eq!(second["about"]["application"], MARKUP, "as it is: the page shows text as text");
    drop(server);
    assert_eq!(events.next(), None, "the end of the server is the end of its pages");
}

#[test]
fn a_link_is_switched_by_the_page_alone_and_only_where_there_are_switches() {
    let (console, script, _ear) = console(1, source("us", [0, 0, 0], false));
    let server = served(&console, Some(script.clone()));
    let cut = "POST /console/links/us/eu/cut";
    let status = |request: &str, headers: &str| ask(server.address(), request, headers).0[9..12].to_owned();
    let page = format!("{LOCAL}X-Driftless-Console: 1\r\n");
    assert_eq!(status(cut, LOCAL), "403", "any site's form could send it");
    assert_eq!(status(cut, "Host: evil.example\r\nX-Driftless-Console: 1\r\n"), "403", "a name that points here");
    assert_eq!(status("GET /console/links/us/eu/cut", &page), "405");
    assert!(script.observe().links[0].up);
    assert_eq!(status(cut, &page), "200");
    assert!(!script.observe().links[0].up);
    assert_eq!(state(&console)["links"][1]["up"], false);
    assert_eq!(state(&console)["happened"][0]["what"], "us to eu: false");
    assert_eq!(status("POST /console/links/us/eu/heal", &page), "200");
    assert!(script.observe().links[0].up);
    assert_eq!(status("POST /console/links/eu/mars/cut", &page), "404");
    assert_eq!(status("POST /console/links/us/eu/burn", &page), "404");
    let worker = served(&console, None);
    assert_eq!(&ask(worker.address(), cut, &page).0[9..12], "404");
}

#[test]
fn a_history_without_end_keeps_ten_minutes() {
    let (console, _, _ear) = console(1, source("us", [0, 0, 0], false));
    for _ in 0..1_500 {
        console.look();
    }
    assert_eq!(state(&console)["history"]["columns"].as_array().map(Vec::len), Some(600));
}
