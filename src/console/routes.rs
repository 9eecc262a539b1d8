//! What the console answers over HTTP: the page, its state, its events, and the demo's switches.
//!
//! Reading is all that a GET does. The one thing that acts, a POST, exists only where there is a switchboard, and is
//! refused to other sites' pages: a browser sends [`ASKED_BY_PAGE`] to its own origin only, and by an address that names
//! this machine only.

use super::assets::{Asset, PAGE, PARTS};
use super::plant::Switchboard;
use super::state::{Console, TICK};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Pages that may be open at once.
const PAGES_MAX: usize = 32;
/// A header that a page of another origin can't send without asking first, which is not answered.
pub const ASKED_BY_PAGE: &str = "x-driftless-console";

/// The console's routes, to be merged with others.
pub fn router(console: Arc<Console>, switchboard: Option<Arc<dyn Switchboard>>) -> Router {
    let mut reading = Router::new().route(PAGE.path, get(|| async { asset(&PAGE) }));
    for part in PARTS {
        reading = reading.route(part.path, get(move || async move { asset(part) }));
    }
    let reading = reading.route("/console/state", get(state)).route("/console/events", get(events)).with_state(console.clone());
    match switchboard {
        None => reading,
        Some(switchboard) => reading
            .merge(Router::new().route("/console/links/{from}/{to}/{wish}", post(switch)).with_state((console, switchboard))),
    }
}

/// Looks once a second for as long as it is polled.
pub async fn keep_looking(console: Arc<Console>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        console.look();
    }
}

type Headers = [(HeaderName, &'static str); 5];

fn headers(content_type: &'static str, caching: &'static str) -> Headers {
    [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, caching),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ]
}

fn asset(asset: &'static Asset) -> (Headers, &'static str) {
    (headers(asset.content_type, "no-cache"), asset.text)
}

async fn state(State(console): State<Arc<Console>>) -> (Headers, String) {
    (headers("application/json", "no-store"), console.state())
}

async fn events(State(console): State<Arc<Console>>) -> Response {
    if console.pages_open() >= PAGES_MAX {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open: close some\n").into_response();
    }
    let looks = stream::unfold(console.events(), |mut events| async move {
        events.changed().await.ok()?;
        let text = events.borrow_and_update().clone();
        Some((Ok::<_, Infallible>(Event::default().data(text)), events))
    });
    (headers("text/event-stream", "no-store"), Sse::new(looks).keep_alive(KeepAlive::default())).into_response()
}

type Switches = (Arc<Console>, Arc<dyn Switchboard>);

async fn switch(
    State((console, switchboard)): State<Switches>,
    Path((from, to, wish)): Path<(String, String, String)>,
    asked: HeaderMap,
) -> (StatusCode, String) {
    if !is_of_the_page(&asked) {
        return (StatusCode::FORBIDDEN, "only the console's own page may do that\n".to_owned());
    }
    let up = match wish.as_str() {
        "cut" => false,
        "heal" => true,
        _ => return (StatusCode::NOT_FOUND, "a link can be cut and healed\n".to_owned()),
    };
    let Some(what) = switchboard.switch(&from, &to, up) else {
        return (StatusCode::NOT_FOUND, "there is no such link\n".to_owned());
    };
    console.happened(what.clone());
    console.look();
    (StatusCode::OK, what + "\n")
}

/// By its header, and by an address that no name server of somebody else's can have pointed here.
fn is_of_the_page(asked: &HeaderMap) -> bool {
    let host = asked.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    asked.contains_key(ASKED_BY_PAGE) && names_an_address(host)
}

fn names_an_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        // An IPv6 address without a port stands in brackets as well.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_somebody_could_have_named_is_no_address() {
        for host in ["127.0.0.1:9464", "localhost:9464", "localhost", "[::1]:9464", "[::1]", "10.0.0.7"] {
            assert!(names_an_address(host), "{host}");
        }
        for host in ["", "evil.example:9464", "127.0.0.1.evil.example", "localhost.evil.example:9464"] {
            assert!(!names_an_address(host), "{host}");
        }
    }
}
