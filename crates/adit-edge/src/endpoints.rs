//! The edge's local endpoints: health, readiness, metrics and the state of its tunnels. Never on a public address.

use adit_http::local::Answer;
use adit_lifecycle::readiness::Readiness;
use http::{Method, StatusCode};
use serde_json::json;

use crate::Edge;
use crate::registry::Session;

/// Answers a local request.
#[must_use]
pub fn answer(edge: &Edge, readiness: &Readiness, method: &Method, path: &str) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match path {
        "/healthz" => Answer::text(StatusCode::OK, "ok\n"),
        "/readyz" => ready(readiness),
        "/metrics" => {
            edge.metrics.records_dropped.set(i64::try_from(edge.access_log.dropped()).unwrap_or(i64::MAX));
            Answer::metrics(edge.metrics.encode())
        }
        "/tunnels" => Answer::json(StatusCode::OK, tunnels(edge).to_string()),
        _ => Answer::not_found(),
    }
}

fn ready(readiness: &Readiness) -> Answer {
    let pending = readiness.pending();
    if pending.is_empty() {
        return Answer::text(StatusCode::OK, "ready\n");
    }
    Answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", pending.join(", ")))
}

/// Every tunnel with its connections, its routes and what it was refused.
fn tunnels(edge: &Edge) -> serde_json::Value {
    let view = edge.registry.view();
    let (sessions, refusals) = (edge.registry.sessions(), edge.registry.refusals());
    let tunnel = |tunnel: &adit_policy::snapshot::Tunnel| {
        let connections: Vec<_> = sessions
            .iter()
            .filter(|session| session.tunnel == tunnel.id)
            .map(|session| connection(session))
            .collect();
        let mut serves: Vec<_> = view
            .routes
            .routes()
            .into_iter()
            .filter(|route| route.tunnel == tunnel.id)
            .map(|route| route.pattern.to_string())
            .collect();
        serves.sort_unstable();
        let refused: Vec<_> = refusals
            .iter()
            .filter(|refusal| refusal.tunnel() == tunnel.id)
            .map(ToString::to_string)
            .collect();
        let granted: Vec<_> = tunnel.grant.patterns().iter().map(ToString::to_string).collect();
        json!({
            "name": tunnel.name, "id": tunnel.id.to_string(), "hostnames": granted,
            "managed": tunnel.held.is_some(), "serves": serves, "refused": refused, "connections": connections,
        })
    };
    json!({ "tunnels": view.snapshot.tunnels().iter().map(tunnel).collect::<Vec<_>>() })
}

fn connection(session: &Session) -> serde_json::Value {
    let since = session.since.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({
        "id": session.id.to_string(), "connector": session.connector.to_string(), "index": session.index,
        "protocol": session.connection.protocol().as_str(), "remote": session.remote.to_string(),
        "version": session.version, "arch": session.arch, "since": since.as_secs(),
        "in_flight": session.connection.in_flight(), "draining": session.connection.is_draining(),
        "suspect": session.connection.is_suspect(), "configured": session.is_configured(),
        "rtt_ms": session.connection.rtt().map(|rtt| rtt.as_secs_f64() * 1000.0),
    })
}
