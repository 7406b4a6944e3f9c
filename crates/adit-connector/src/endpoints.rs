//! The connector's local endpoints, with cloudflared's paths and shapes (cloudflared: `metrics/`, `diagnostic/`).

use std::collections::BTreeMap;

use adit_http::local::Answer;
use adit_policy::ingress::Ingress;
use adit_tunnel::Protocol;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::Connector;
use crate::status::LinkStatus;

/// What the endpoints tell beside the connector's own state.
#[derive(Debug)]
pub struct About {
    /// The tunnel.
    pub tunnel: Uuid,
    /// The name of a quick tunnel.
    pub quick: Option<String>,
    /// Flags that were set, by name.
    pub flags: BTreeMap<String, String>,
    /// Rules as JSON, in the shape of a configuration.
    pub describe: fn(&Ingress) -> Value,
    /// The machine, as JSON.
    pub system: fn() -> Value,
}

/// Answers a local request.
#[must_use]
pub fn answer(connector: &Connector, about: &About, method: &Method, path: &str) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    let json = |value: &Value| Answer::json(StatusCode::OK, value.to_string());
    match path {
        "/ready" => ready(connector),
        "/healthcheck" => Answer::text(StatusCode::OK, "OK\n"),
        "/metrics" => Answer::metrics(connector.metrics.encode()),
        "/quicktunnel" => json(&json!({ "hostname": about.quick.as_deref().unwrap_or_default() })),
        "/config" => json(&config(connector, about)),
        "/diag/tunnel" => json(&tunnel(connector, about)),
        "/diag/configuration" => json(&flags(about)),
        "/diag/system" => json(&(about.system)()),
        _ => Answer::not_found(),
    }
}

/// 200 while at least one connection is registered.
fn ready(connector: &Connector) -> Answer {
    let connections = connector.status.ready();
    let status = if connections > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({
        "status": status.as_u16(), "readyConnections": connections, "connectorId": connector.id.to_string(),
    });
    if let (Some(fault), Some(members)) = (connector.status.fault(), body.as_object_mut()) {
        members.insert("configurationError".to_owned(), fault.into());
    }
    let notes = connector.status.notes();
    if let (false, Some(members)) = (notes.is_empty(), body.as_object_mut()) {
        members.insert("configurationWarnings".to_owned(), notes.into());
    }
    Answer::json(status, body.to_string())
}

fn config(connector: &Connector, about: &About) -> Value {
    json!({ "version": connector.status.version(), "config": (about.describe)(&connector.rules.load().ingress) })
}

fn tunnel(connector: &Connector, about: &About) -> Value {
    let links = connector.status.links();
    let connections: Vec<Value> = links.into_iter().map(|(index, link)| connection(index, link)).collect();
    json!({
        "tunnelID": about.tunnel.to_string(), "connectorID": connector.id.to_string(),
        "connections": connections, "icmp_sources": [],
    })
}

/// cloudflared leaves the index out where it is 0, and numbers its transports.
fn connection(index: u8, link: LinkStatus) -> Value {
    let protocol = match link.protocol {
        Protocol::Http2 => 0,
        Protocol::Quic => 1,
    };
    let mut connection =
        json!({ "isConnected": true, "protocol": protocol, "edgeAddress": link.edge.ip().to_string() });
    if let (1.., Some(members)) = (index, connection.as_object_mut()) {
        members.insert("index".to_owned(), index.into());
    }
    connection
}

fn flags(about: &About) -> Value {
    let flags = about.flags.iter().map(|(name, value)| (name.clone(), Value::from(value.clone())));
    Value::Object(flags.collect::<Map<_, _>>())
}
