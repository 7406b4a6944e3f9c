//! What passes between visitor and tunnel: heads without hop-by-hop fields, bodies as they come, upgrades both ways.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use adit_http::{cloudflare, forwarded, hop, relay};
use adit_policy::field;
use adit_policy::policy::Settings;
use adit_policy::policy::fields::FieldPreset;
use adit_tunnel::edge::{Duplex, InterimSink, RequestHead, ResponseBody};
use adit_wire::connect::StreamKind;
use adit_wire::names;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, Uri, Version};
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use uuid::Uuid;

use crate::act::Onward;
use crate::body::{AnswerBody, RequestBody, Upload};
use crate::gone::Gone;
use crate::interim::Interim;
use crate::record::Record;
use crate::route::Routed;

/// How a connection or a stream becomes a WebSocket's.
pub(crate) enum Upgrade {
    /// The library hands the bytes over. The word that the visitor is gone comes along: then nobody may be reading.
    Switch(OnUpgrade, Option<Arc<Gone>>),
    /// The request's body is the way up, the answer's the way down.
    Stream(RequestBody),
}

/// A request ready for a tunnel.
pub(crate) struct Outbound {
    pub(crate) head: Head,
    pub(crate) body: Option<Upload>,
    /// Bytes of the body that were read.
    pub(crate) uploaded: Rc<Cell<u64>>,
}

/// Its head.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) method: Method,
    kind: StreamKind,
    authority: String,
    target: String,
    headers: HeaderMap,
    interim: Option<Interim>,
}

impl Head {
    /// A request of the cache's own, with these fields.
    pub(crate) fn fetching(mut self, fields: Vec<(HeaderName, HeaderValue)>) -> Outbound {
        for (name, value) in fields {
            self.headers.insert(name, value);
        }
        Outbound { head: self, body: None, uploaded: Rc::default() }
    }

    pub(crate) fn as_request(&self) -> RequestHead<'_> {
        RequestHead {
            kind: self.kind,
            method: &self.method,
            host: &self.authority,
            target: &self.target,
            headers: &self.headers,
            interim: self.interim.as_ref().map(|interim| interim as &dyn InterimSink),
        }
    }
}

/// Makes the tunnel's request from the visitor's.
pub(crate) fn request(onward: &Onward, head: Parts, body: RequestBody, uploaded: Rc<Cell<u64>>) -> Outbound {
    let has_body = !body.is_end_stream() && !onward.request().is_websocket;
    let expects = has_body && expects_continue(&head);
    let interim = body.interim();
    let body = has_body.then(|| {
        let upload = Upload::new(body, uploaded.clone(), onward.settings().body_limit);
        upload.expecting(interim.clone().filter(|_| expects))
    });
    let mut head = Head { interim, ..self::head(onward, head) };
    if expects {
        head.headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
    }
    Outbound { head, body, uploaded }
}

/// Makes the head of the tunnel's request from the visitor's.
pub(crate) fn head(onward: &Onward, head: Parts) -> Head {
    let request = onward.request();
    let (client, websocket) = (request.client, request.is_websocket);
    let mut headers = head.headers;
    // A WebSocket may say where a bastion is to go; only a rule that is one listens.
    let destination = headers.remove(names::JUMP_DESTINATION).filter(|_| websocket);
    hop::strip(&mut headers);
    let wants_cloudflare = onward.settings().headers.preset == Some(FieldPreset::Cloudflare);
    // Only the word of a trusted proxy counts.
    let country =
        (wants_cloudflare && client.proxied).then(|| cloudflare::take_country(&mut headers)).flatten();
    // Some of it would steer the connector itself.
    field::strip_claims(&mut headers);
    if onward.settings().methods.is_some() || onward.settings().cache.is_some() {
        field::strip_method_overrides(&mut headers);
    }
    headers.remove(header::HOST);
    // Only a body gives it a meaning.
    headers.remove(header::EXPECT);
    headers.extend(destination.map(|value| (HeaderName::from_static(names::JUMP_DESTINATION), value)));
    let visit = forwarded::Visit {
        client: client.ip,
        scheme: client.scheme,
        host: onward.authority(),
        id: &request.id_text(),
        version: head.version,
    };
    forwarded::set(&mut headers, &visit);
    if wants_cloudflare {
        cloudflare::set(&mut headers, &visit, country);
    }
    if let Some(identity) = request.identity() {
        identity.set(&mut headers);
    }
    onward.settings().headers.request.apply_to_request(&mut headers);
    let mut method = head.method;
    if websocket && head.version >= Version::HTTP_2 {
        complete_handshake(&mut headers);
        method = Method::GET;
    }
    Head {
        method,
        kind: if websocket { StreamKind::WebSocket } else { StreamKind::Http },
        authority: onward.authority().to_owned(),
        target: target(&head.uri),
        headers,
        interim: None,
    }
}

/// Path and query as they came. An absolute URL may have a query and no path, which is `/` (RFC 9110, section 4.2.3).
fn target(uri: &Uri) -> String {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let root = if target.starts_with('?') { "/" } else { "" };
    [root, target].concat()
}

/// Whether the client expects 100 (Continue). There is no other expectation; HTTP/1.0 has none (RFC 9110, section 10.1.1).
fn expects_continue(head: &Parts) -> bool {
    let expected = head.headers.get(header::EXPECT).map(HeaderValue::as_bytes);
    let is_continue = expected.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    is_continue && head.version > Version::HTTP_10
}

/// RFC 8441 has no key; origins on HTTP/1.1 want one.
fn complete_handshake(headers: &mut HeaderMap) {
    let key = STANDARD.encode(Uuid::new_v4().as_bytes());
    if let Ok(key) = HeaderValue::try_from(key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    headers.entry(header::SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
}

/// Makes the visitor's answer from the tunnel's.
pub(crate) fn response(
    answer: Response<ResponseBody>,
    version: Version,
    upgrade: Option<Upgrade>,
    mut record: Record,
) -> Response<AnswerBody> {
    let (mut head, body) = answer.into_parts();
    let upgrade_to = head.headers.remove(header::UPGRADE);
    hop::strip(&mut head.headers);
    head.headers.remove(names::GATED);
    head.headers.remove(header::TE);
    if head.status == StatusCode::UPGRADE_REQUIRED && version < Version::HTTP_2 {
        name_upgrade(&mut head.headers, upgrade_to);
    }
    head.headers.append(header::VIA, forwarded::via(Version::HTTP_11));
    record.answered(head.status);
    let duplex = if head.status == StatusCode::SWITCHING_PROTOCOLS {
        body.into_duplex()
    } else {
        return Response::from_parts(head, AnswerBody::tunnel(body, record));
    };
    if version >= Version::HTTP_2 {
        head.status = StatusCode::OK;
        head.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    } else {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    head.headers.remove(header::CONTENT_LENGTH);
    let body = match (upgrade, duplex) {
        (Some(Upgrade::Stream(body)), Some(duplex)) => AnswerBody::stream(body, duplex, record),
        (Some(Upgrade::Switch(upgrade, gone)), Some(duplex)) => {
            tokio::task::spawn_local(async move {
                let gone = async {
                    match gone {
                        Some(gone) => gone.wait().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = carry(upgrade, duplex, record) => {}
                    () = gone => {}
                }
            });
            AnswerBody::empty(None)
        }
        _ => AnswerBody::empty(Some(record)),
    };
    Response::from_parts(head, body)
}

/// Says which protocol a 426 response asks for (RFC 9110, section 15.5.22). HTTP/2 and HTTP/3 have no field for it.
fn name_upgrade(headers: &mut HeaderMap, upgrade_to: Option<HeaderValue>) {
    if let Some(upgrade_to) = upgrade_to {
        headers.insert(header::UPGRADE, upgrade_to);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// How a name is reached the next time.
pub(crate) struct Announcing {
    alt_svc: Option<HeaderValue>,
    settings: Arc<Settings>,
    is_https: bool,
}

impl Announcing {
    pub(crate) fn of(routed: &Routed) -> Self {
        let request = routed.request();
        // Behind a proxy it is the proxy who is reached; and a certificate cannot be asked for on QUIC.
        let direct =
            request.tls.is_some() && !request.client.proxied && routed.policy().client_certificates.is_none();
        let alt_svc = request.edge().alt_svc.clone().filter(|_| direct);
        Self { alt_svc, settings: routed.settings().clone(), is_https: request.client.scheme == "https" }
    }

    /// Sets the fields that the operator wants, and tells the browser how to come the next time: by HTTPS only, and by
    /// HTTP/3.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        let fixed = self.settings.security_headers.iter().flat_map(|fixed| fixed.0.iter());
        for (name, value) in fixed {
            headers.insert(name, value.clone());
        }
        if let Some(hsts) = self.settings.hsts.filter(|_| self.is_https)
            && let Ok(value) = HeaderValue::try_from(hsts.to_string())
        {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
        }
        self.settings.headers.response.apply(headers);
        if let Some(value) = &self.alt_svc {
            headers.insert(header::ALT_SVC, value.clone());
        }
    }
}

/// Carries an upgraded connection until both directions have ended.
async fn carry(upgrade: OnUpgrade, duplex: Duplex, mut record: Record) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return record.broke(error.to_string()),
    };
    match relay::both(TokioIo::new(upgraded), duplex).await {
        Ok((up, down)) => {
            record.uploaded().set(up);
            record.sent(down);
        }
        // Either side may just go away; that is how most WebSockets end.
        Err(error) => tracing::debug!(%error, "upgraded connection ended"),
    }
}
