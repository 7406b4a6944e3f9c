//! Quick tunnels: `POST /tunnel` at the edge's own name answers with credentials for a throw-away name (cloudflared:
//! `cmd/cloudflared/tunnel/quick_tunnel.go`).

use std::net::IpAddr;
use std::time::Instant;

use adit_policy::grant::Grant;
use adit_policy::host::{HostPattern, Hostname};
use adit_policy::quick::name;
use adit_policy::snapshot::{Snapshot, Tunnel, TunnelId, TunnelSecret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Edge;
use crate::body::AnswerBody;
use crate::route;

/// Account that the credentials name.
const ACCOUNT: &str = "quick";

/// The answer, where this request asks for a quick tunnel and may.
pub(crate) fn answer<B>(
    edge: &Edge,
    snapshot: &Snapshot,
    client: IpAddr,
    request: &Request<B>,
) -> Option<Response<AnswerBody>> {
    if request.method() != Method::POST || request.uri().path() != "/tunnel" {
        return None;
    }
    let quick = snapshot.quick().filter(|quick| quick.allows(client))?;
    let host = route::host(request.uri(), request.headers()).ok()?;
    if host != snapshot.domain {
        return None;
    }
    let answer = match invite(edge, snapshot, quick.limit) {
        Ok(invited) => {
            tracing::info!(%client, hostname = invited["hostname"].as_str(), "quick tunnel created");
            json!({ "success": true, "result": invited, "errors": [] })
        }
        Err(error) => {
            tracing::warn!(%client, error, "no quick tunnel");
            json!({ "success": false, "result": null, "errors": [{ "code": 1, "message": error }] })
        }
    };
    Some(json_response(&answer))
}

/// Whether it is good news stands in the body: cloudflared does not look at the status.
fn json_response(answer: &Value) -> Response<AnswerBody> {
    let body = Bytes::from(answer.to_string());
    let mut response = Response::new(AnswerBody::page(body, None));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The answer is a secret.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A tunnel for a random name, taken in; what its connector has to know.
fn invite(edge: &Edge, snapshot: &Snapshot, limit: usize) -> Result<Value, String> {
    let (secret, bytes): ([u8; 32], [u8; 6]) = (random()?, random()?);
    let name = name(bytes);
    let hostname =
        Hostname::parse(&format!("{name}.{}", snapshot.domain)).map_err(|error| error.to_string())?;
    let id = Uuid::new_v4();
    let tunnel = Tunnel {
        id: TunnelId(id),
        name: name.clone(),
        secret: TunnelSecret::new(secret.to_vec()),
        account_tag: Some(ACCOUNT.to_owned()),
        grant: Grant::new([HostPattern::Exact(hostname.clone())]),
        held: None,
    };
    edge.registry.invite(tunnel, limit, Instant::now()).map_err(|error| error.to_string())?;
    Ok(json!({
        "id": id.to_string(), "name": name, "hostname": hostname.to_string(),
        "account_tag": ACCOUNT, "secret": STANDARD.encode(secret),
    }))
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.secure_random.fill(&mut bytes).map_err(|_| "no randomness".to_owned())?;
    Ok(bytes)
}
