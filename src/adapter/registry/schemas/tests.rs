//! Against a small HTTP server that answers as a registry does.

use super::*;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::routing::get;
use std::sync::mpsc::{Receiver, channel};

const OURS: &str = include_str!("../../../../schemas/vector_change.avsc");

type Schemas = Arc<Mutex<HashMap<u32, (StatusCode, String)>>>;

/// A registry on a port of its own that answers what `schemas` holds, and 40403 for the rest.
async fn registry(schemas: Schemas) -> String {
    let answer = |Path(id): Path<u32>, Extract(schemas): Extract<Schemas>| async move {
        let absent = || (StatusCode::NOT_FOUND, r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned());
        lock(&schemas).get(&id).cloned().unwrap_or_else(absent)
    };
    let routes = axum::Router::new().route("/schemas/ids/{id}", get(answer)).with_state(schemas);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, routes).await.unwrap() });
    url
}

fn found(text: &str) -> (StatusCode, String) {
    (StatusCode::OK, serde_json::json!({ "schema": text }).to_string())
}

fn sources(urls: &[(&str, &str)], runtime: &tokio::runtime::Runtime) -> (RegistrySchemas, Receiver<()>) {
    let address = |url: &str| RegistryAddress { url: url.to_owned(), login: None };
    let addresses: Vec<_> = urls.iter().map(|(region, url)| (Region::new(region), address(url))).collect();
    let (wake, woken) = channel();
    let wake = Arc::new(move || {
        // The test may be over.
        let _ = wake.send(());
    });
    (RegistrySchemas::new(runtime.handle().clone(), &addresses, wake).unwrap(), woken)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// Looks up until there is an answer, sleeping until woken in between.
fn resolve(schemas: &mut RegistrySchemas, woken: &Receiver<()>, region: &str, id: u32) -> SchemaLookup {
    loop {
        match schemas.lookup(&Region::new(region), id) {
            SchemaLookup::Pending => woken.recv_timeout(Duration::from_secs(20)).expect("woken by the answer"),
            answer => return answer,
        }
    }
}

#[test]
fn ids_belong_to_their_regions_registry_and_are_asked_for_once() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (us, eu) = (Schemas::default(), Schemas::default());
    lock(&us).insert(1, found(OURS));
    lock(&eu).insert(1, found(r#""string""#));
    let urls = (runtime.block_on(registry(us.clone())), runtime.block_on(registry(eu)));
    let (mut schemas, woken) = sources(&[("us", &urls.0), ("eu", &urls.1)], &runtime);
    let answer = resolve(&mut schemas, &woken, "us", 1);
    assert!(matches!(&answer, SchemaLookup::Known(schema) if matches!(**schema, WriterSchema::Ours)), "{answer:?}");
    let answer = resolve(&mut schemas, &woken, "eu", 1);
    assert!(matches!(&answer, SchemaLookup::Known(schema) if matches!(**schema, WriterSchema::Unusable(_))), "{answer:?}");
    lock(&us).clear();
    assert!(matches!(schemas.lookup(&Region::new("us"), 1), SchemaLookup::Known(_)), "kept for ever");
    assert!(matches!(schemas.lookup(&Region::new("mars"), 1), SchemaLookup::Unknown));
}

#[test]
fn an_absent_id_may_be_registered_later() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let us = Schemas::default();
    let url = runtime.block_on(registry(us.clone()));
    let (mut schemas, woken) = sources(&[("us", &url)], &runtime);
    schemas.unknown_for = Duration::from_millis(50);
    assert!(matches!(resolve(&mut schemas, &woken, "us", 7), SchemaLookup::Unknown));
    lock(&us).insert(7, found(OURS));
    assert!(matches!(schemas.lookup(&Region::new("us"), 7), SchemaLookup::Unknown), "believed for a while");
    std::thread::sleep(schemas.unknown_for);
    assert!(matches!(resolve(&mut schemas, &woken, "us", 7), SchemaLookup::Known(_)));
}

#[test]
fn f65_only_a_definite_answer_ends_the_wait_and_other_regions_go_on() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (us, eu) = (Schemas::default(), Schemas::default());
    // What proxies say: neither is an answer about the id.
    lock(&us).insert(1, (StatusCode::SERVICE_UNAVAILABLE, "starting".into()));
    lock(&us).insert(2, (StatusCode::NOT_FOUND, "<html>no such page</html>".into()));
    lock(&eu).insert(1, found(OURS));
    let urls = (runtime.block_on(registry(us.clone())), runtime.block_on(registry(eu)));
    let (mut schemas, woken) = sources(&[("us", &urls.0), ("eu", &urls.1), ("ap", "http://127.0.0.1:1")], &runtime);
    let waiting = [("us", 1), ("us", 2), ("ap", 1)];
    for _ in 0..20 {
        for (region, id) in waiting {
            assert!(matches!(schemas.lookup(&Region::new(region), id), SchemaLookup::Pending), "{region} {id}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(matches!(resolve(&mut schemas, &woken, "eu", 1), SchemaLookup::Known(_)));
    lock(&us).insert(1, found(OURS));
    lock(&us).insert(2, found(OURS));
    for (region, id) in &waiting[..2] {
        assert!(matches!(resolve(&mut schemas, &woken, region, *id), SchemaLookup::Known(_)));
    }
}
