//! The connector's local endpoints, with cloudflared's paths (cloudflared: `metrics/`).

use std::sync::atomic::Ordering;

use adit_http::local::Answer;
use http::{Method, StatusCode};
use serde_json::json;

use crate::Connector;

/// Answers a local request.
#[must_use]
pub fn answer(connector: &Connector, method: &Method, path: &str) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match path {
        "/ready" => ready(connector),
        "/healthcheck" => Answer::text(StatusCode::OK, "OK\n"),
        "/metrics" => Answer::metrics(connector.metrics.encode()),
        _ => Answer::not_found(),
    }
}

/// 200 while at least one connection is registered.
fn ready(connector: &Connector) -> Answer {
    let connections = connector.ready.load(Ordering::Relaxed);
    let status = if connections > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": status.as_u16(), "readyConnections": connections, "connectorId": connector.id.to_string(),
    });
    Answer::json(status, body.to_string())
}
