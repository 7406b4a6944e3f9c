//! The edge's local endpoints: health, readiness, metrics and the state of its tunnels. Never on a public address.

mod bans;

pub use bans::{remember, remembered};

use std::time::SystemTime;

use adit_cache::Purge;
use adit_http::local::{Answer, Asked};
use adit_lifecycle::readiness::Readiness;
use adit_policy::host::HostPattern;
use adit_policy::snapshot::TunnelId;
use http::StatusCode;
use serde_json::json;

use crate::Edge;
use crate::registry::Session;

/// Answers a local request.
#[must_use]
pub fn answer(edge: &Edge, readiness: &Readiness, asked: &Asked) -> Answer {
    if !asked.method.is_safe() {
        return change(edge, asked);
    }
    match asked.path.as_str() {
        "/healthz" => Answer::text(StatusCode::OK, "ok\n"),
        "/readyz" => ready(readiness),
        "/metrics" => {
            count_cache(edge);
            edge.metrics.records_dropped.set(i64::try_from(edge.access_log.dropped()).unwrap_or(i64::MAX));
            Answer::metrics(edge.metrics.encode())
        }
        "/tunnels" => Answer::json(StatusCode::OK, tunnels(edge).to_string()),
        "/bans" => Answer::json(StatusCode::OK, bans::list(edge).to_string()),
        "/cache" => Answer::json(StatusCode::OK, cache(edge).to_string()),
        "/shutoff" => Answer::json(StatusCode::OK, shutoff(edge).to_string()),
        _ => Answer::not_found(),
    }
}

/// Changes something, and says what has become of it.
fn change(edge: &Edge, asked: &Asked) -> Answer {
    let done = match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/bans") => bans::add(&edge.doors, &asked.body),
        ("DELETE", "/bans") => bans::remove(&edge.doors, &asked.body),
        ("POST", "/cache/purge") => purge(edge, &asked.body),
        ("POST", "/tunnels/release") => release(edge, &asked.body),
        ("POST" | "DELETE" | "PUT" | "PATCH", _) => return Answer::not_found(),
        _ => return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "GET, POST or DELETE\n"),
    };
    match done {
        Ok(done) => Answer::json(StatusCode::OK, done.to_string()),
        Err(error) => Answer::json(StatusCode::BAD_REQUEST, json!({ "error": error }).to_string()),
    }
}

fn purge(edge: &Edge, body: &[u8]) -> Result<serde_json::Value, String> {
    let purge: Purge = serde_json::from_slice(body).map_err(|error| format!("not a purge: {error}"))?;
    let store = edge.cache.as_ref().ok_or("nothing is kept at this edge")?;
    store.purge(purge.clone(), SystemTime::now()).map_err(|error| error.to_string())?;
    tracing::info!(?purge, "purged");
    Ok(json!({ "purged": true }))
}

/// Takes a name away from the tunnel that owns it: `tunnel` is its name or id, `hostname` the name or pattern.
fn release(edge: &Edge, body: &[u8]) -> Result<serde_json::Value, String> {
    let said: serde_json::Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let name = said["tunnel"].as_str().ok_or("`tunnel` is missing")?;
    let text = said["hostname"].as_str().ok_or("`hostname` is missing")?;
    let pattern =
        HostPattern::parse(text).map_err(|error| format!("`{text}` is not a valid host pattern: {error}"))?;
    let view = edge.registry.view().clone();
    let by_id = || view.snapshot.tunnel(TunnelId(name.parse().ok()?));
    let tunnel = view.snapshot.tunnel_by_name(name).or_else(by_id);
    let tunnel = tunnel.ok_or_else(|| format!("there is no tunnel `{name}`"))?;
    if !edge.registry.release(tunnel.id, &pattern) {
        return Err(format!(
            "tunnel `{name}` does not own `{pattern}`; `adit tunnel info {name}` shows what it owns"
        ));
    }
    let owner = edge.registry.owners().borrow().find(&pattern);
    let owner = owner.and_then(|id| view.snapshot.tunnel(id)).map(|tunnel| tunnel.name.clone());
    tracing::info!(tunnel = tunnel.name, %pattern, owner, "name released");
    Ok(json!({ "released": pattern.to_string(), "owner": owner }))
}

fn cache(edge: &Edge) -> serde_json::Value {
    let stats = edge.cache.as_ref().map(|store| store.stats()).unwrap_or_default();
    json!({ "objects": stats.objects, "bytes": stats.bytes, "memory": stats.memory })
}

fn count_cache(edge: &Edge) {
    if let Some(store) = &edge.cache {
        let stats = store.stats();
        edge.metrics.cache_size(stats.objects as u64, stats.bytes, stats.memory);
    }
}

fn shutoff(edge: &Edge) -> serde_json::Value {
    let view = edge.registry.view();
    let names = view.snapshot.shutoff().patterns().iter().map(ToString::to_string);
    json!({ "names": names.collect::<Vec<_>>() })
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
    let owners = edge.registry.owners().borrow().clone();
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
        let owns: Vec<_> = owners.of_tunnel(tunnel.id).iter().map(ToString::to_string).collect();
        let granted: Vec<_> = tunnel.grant.patterns().iter().map(ToString::to_string).collect();
        json!({
            "name": tunnel.name, "id": tunnel.id.to_string(), "hostnames": granted,
            "managed": tunnel.held.is_some(), "serves": serves, "owns": owns, "refused": refused,
            "connections": connections,
        })
    };
    json!({ "tunnels": view.snapshot.tunnels().iter().map(tunnel).collect::<Vec<_>>() })
}

fn connection(session: &Session) -> serde_json::Value {
    let since = session.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({
        "id": session.id.to_string(), "connector": session.connector.to_string(), "index": session.index,
        "protocol": session.connection.protocol().as_str(), "remote": session.remote.to_string(),
        "version": session.version, "arch": session.arch, "since": since.as_secs(),
        "in_flight": session.connection.in_flight(), "draining": session.connection.is_draining(),
        "suspect": session.connection.is_suspect(), "configured": session.is_configured(),
        "keeps_rules": session.keeps_rules(),
        "rtt_ms": session.connection.rtt().map(|rtt| rtt.as_secs_f64() * 1000.0),
    })
}
