//! The driver itself: its clock, its errors, and what a killed worker leaves.

use crate::play::settings;
use driftless::base::ids::VectorId;
use driftless::port::vector::StoreError;
use driftless::processor::register_standard;
use driftless::testing::topology_driver::{InputChange, Leftovers, START, TopologyDriver};
use driftless::topology::build::NodeTypes;
use driftless::topology::spec::REPLICATE;
use std::path::Path;
use std::time::Duration;

fn driver() -> TopologyDriver {
    let mut types = NodeTypes::default();
    register_standard(&mut types);
    TopologyDriver::parse("replicate.toml", REPLICATE, &types, settings("eu", &["us".to_owned()])).expect("the built-in topology")
}

#[test]
fn time_passes_only_when_the_test_says_so() {
    let mut driver = driver();
    let mut throttled = 3;
    driver.database().check_writes_with(Some(Box::new(move |_, _| {
        throttled -= 1;
        if throttled < 0 { Ok(()) } else { Err(StoreError::Throttled("slow down".to_owned())) }
    })));
    driver.pipe_change(InputChange::upsert("docs", "1", &[1.0, 0.0])).unwrap();
    assert_eq!(driver.now().wall, START);
    assert!(driver.rows("docs").unwrap().is_empty(), "it is tried again when its time has come");
    driver.advance_wall_clock(Duration::from_secs(60)).unwrap();
    assert_eq!(driver.now().wall.since_ms(START), 60_000);
    assert!(driver.rows("docs").unwrap().contains_key(&VectorId::Int(1)));
}

#[test]
fn a_killed_workers_successor_has_its_state_and_no_other() {
    let mut driver = driver();
    let first = driver.pipe_change(InputChange::upsert("docs", "1", &[1.0, 0.0])).unwrap();
    driver.kill(Leftovers::Lost).unwrap();
    let key = driver.row_key("docs", "1").unwrap();
    assert_eq!(driver.store("versions").unwrap().get(&key).unwrap().version, first.version);
    assert_eq!((driver.crashes(), driver.report().totals.verdict("winner")), (1, 0), "what is counted is a worker's own");
    driver.restart().unwrap();
    assert_eq!(driver.store("versions").unwrap().len(), 1);
    assert!(driver.progress().unwrap().sources.iter().any(|source| source.next_offset > first.offset));
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let mut driver = driver();
    let told = |error: driftless::base::error::Error| error.to_string();
    assert!(told(driver.pipe_input("ap.vector-cdc", None, None).unwrap_err()).contains("us.vector-cdc"));
    assert!(told(driver.store("version").err().unwrap()).contains("[\"versions\"]"));
    assert!(told(driver.rows("others").unwrap_err()).contains("\"others\""));
    assert!(told(driver.row_key("docs", "007").unwrap_err()).contains("bad-id"));
    let of_ap = InputChange::upsert("docs", "1", &[0.0; 2]).from_region("ap");
    assert!(told(driver.pipe_change(of_ap).unwrap_err()).contains("region ap"));
    let mut types = NodeTypes::default();
    register_standard(&mut types);
    let nowhere = TopologyDriver::load(Path::new("none.toml"), &types, settings("eu", &[]));
    assert!(told(nowhere.err().unwrap()).contains("none.toml"));
}
