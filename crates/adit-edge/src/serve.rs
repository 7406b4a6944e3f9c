//! One request from head to answer. The only file that knows the order of the stages:
//!
//! route → upstream → forward, with rescue and record around the whole.

use std::rc::Rc;
use std::sync::Arc;

use adit_http::upgrade::is_websocket;
use adit_http3::{Protocol, RecvBody};
use adit_policy::snapshot::HttpMode;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use crate::body::{AnswerBody, RequestBody};
use crate::forward::Upgrade;
use crate::record::{CLOSED, Record};
use crate::registry::View;
use crate::rescue::{Problem, Reader};
use crate::route::Routed;
use crate::visitor::{Client, Visitor};
use crate::{Edge, forward, quick, route, upstream};

/// Where files that prove ownership are asked for (RFC 8555, section 8.3).
const PROOFS: &str = "/.well-known/acme-challenge/";

/// There is no answer: the connection is closed, or the stream reset.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
pub(crate) struct Closed;

/// A request with what its protocol says about it.
struct Asked {
    request: Request<RequestBody>,
    upgrade: Option<Upgrade>,
}

/// Answers one request of HTTP/1.1 or HTTP/2.
///
/// # Errors
/// [`Closed`] when the host is nobody's: strangers get nothing.
pub(crate) async fn serve(
    visitor: Rc<Visitor>,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Closed> {
    let upgrade = wants_websocket(&request).then(|| Upgrade::Switch(hyper::upgrade::on(&mut request)));
    answer(&visitor, Asked { request: request.map(RequestBody::Http), upgrade }).await
}

/// Answers one request of HTTP/3. There, a WebSocket is a body in each direction (RFC 9220).
///
/// # Errors
/// The same.
pub(crate) async fn serve_http3(
    visitor: Rc<Visitor>,
    request: Request<RecvBody>,
) -> Result<Response<AnswerBody>, Closed> {
    let websocket = request.extensions().get::<Protocol>().is_some_and(Protocol::is_websocket);
    let (head, body) = request.into_parts();
    let body = RequestBody::Http3(Box::new(body));
    let (body, upgrade) =
        if websocket { (RequestBody::None, Some(Upgrade::Stream(body))) } else { (body, None) };
    answer(&visitor, Asked { request: Request::from_parts(head, body), upgrade }).await
}

async fn answer(visitor: &Visitor, asked: Asked) -> Result<Response<AnswerBody>, Closed> {
    let Asked { request, upgrade } = asked;
    let view: Arc<View> = visitor.edge.registry.view().clone();
    let client = Client::of(visitor, &view.snapshot, request.headers());
    if visitor.tls.is_none()
        && let Some(answer) = plain(visitor, &view, client, &request)
    {
        return answer;
    }
    if let Some(answer) = quick::answer(&visitor.edge, &view.snapshot, client.ip, &request) {
        return Ok(answer);
    }
    let (head, body) = request.into_parts();
    let mut record = Record::start(visitor, client, &head);
    // The one field that an error page looks at: the head is given away.
    let accept = head.headers.get(header::ACCEPT).cloned();
    let routed = match route::route(visitor, client, view.clone(), &head.uri, &head.headers) {
        Ok(routed) => routed,
        Err(problem) => {
            let default = view.snapshot.hosts().default_policy();
            let reader = Reader { accept: accept.as_ref(), host: "", pages: default.pages.as_deref() };
            return rescue(&visitor.edge, &problem, &reader, record);
        }
    };
    let mut response = match proxy(visitor, client, &routed, head, body, upgrade, &mut record).await {
        Ok(proxied) => proxied.into_response(record),
        Err(problem) => {
            let pages = routed.policy.pages.as_deref();
            let reader = Reader { accept: accept.as_ref(), host: routed.host.as_str(), pages };
            rescue(&visitor.edge, &problem, &reader, record)?
        }
    };
    forward::announce(visitor, client, &routed, response.headers_mut());
    Ok(response)
}

/// The answer of the tunnel with what its forwarding needs.
struct Proxied {
    answer: Response<adit_tunnel::edge::ResponseBody>,
    version: Version,
    upgrade: Option<Upgrade>,
}

impl Proxied {
    fn into_response(self, record: Record) -> Response<AnswerBody> {
        forward::response(self.answer, self.version, self.upgrade, record)
    }
}

async fn proxy(
    visitor: &Visitor,
    client: Client,
    routed: &Routed,
    head: Parts,
    body: RequestBody,
    upgrade: Option<Upgrade>,
    record: &mut Record,
) -> Result<Proxied, Problem> {
    if let Some(text) = &routed.policy.maintenance {
        return Err(Problem::Maintenance(text.clone()));
    }
    let version = head.version;
    if head.method == Method::CONNECT && upgrade.is_none() {
        return Err(Problem::BadRequest);
    }
    let asking = forward::Asking { routed, client, tls: visitor.tls.as_ref(), websocket: upgrade.is_some() };
    let mut outbound = forward::request(&asking, head, body, record);
    let answer = upstream::send(&visitor.edge, &visitor.worker, routed, &mut outbound, record).await?;
    if let Some(problem) = Problem::of_home(&answer) {
        return Err(problem);
    }
    Ok(Proxied { answer, version, upgrade })
}

fn rescue(
    edge: &Edge,
    problem: &Problem,
    reader: &Reader<'_>,
    mut record: Record,
) -> Result<Response<AnswerBody>, Closed> {
    record.failed(problem);
    if matches!(problem, Problem::UnknownHost) {
        record.status(CLOSED);
        edge.metrics.unknown_hosts.inc();
        return Err(Closed);
    }
    let id = record.id();
    let (head, page) = problem.answer(reader, std::str::from_utf8(&id).unwrap_or_default()).into_parts();
    record.status(head.status.as_u16());
    Ok(Response::from_parts(head, AnswerBody::page(page, Some(record))))
}

fn wants_websocket(request: &Request<Incoming>) -> bool {
    if request.version() == Version::HTTP_2 {
        let protocol = request.extensions().get::<hyper::ext::Protocol>();
        return request.method() == Method::CONNECT
            && protocol.is_some_and(|name| name.as_str() == "websocket");
    }
    is_websocket(request.method(), request.version(), request.headers())
}

/// What the plain listener answers by itself: health, proofs, and the way to HTTPS. `None`: the request is proxied.
fn plain(
    visitor: &Visitor,
    view: &Arc<View>,
    client: Client,
    request: &Request<RequestBody>,
) -> Option<Result<Response<AnswerBody>, Closed>> {
    let path = request.uri().path();
    if path == "/healthz" {
        return Some(Ok(text(Bytes::from_static(b"ok\n"))));
    }
    if let Some(proof) = path.strip_prefix(PROOFS).and_then(|name| visitor.edge.tls.proof_file(name)) {
        return Some(Ok(text(proof.into())));
    }
    // A proxy that ends TLS has done what a redirect would ask for.
    if view.snapshot.http_mode == HttpMode::Serve || client.scheme == "https" {
        return None;
    }
    Some(match route::find(view, request.uri(), request.headers()) {
        Ok(host) => Ok(redirect(host.as_str(), visitor.edge.https_port, request)),
        Err(_) => Err(Closed),
    })
}

fn text(body: Bytes) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::page(body, None));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// 308 keeps method and body.
fn redirect(host: &str, port: Option<u16>, request: &Request<RequestBody>) -> Response<AnswerBody> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let mut response = Response::new(AnswerBody::empty(None));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    // Host and target came through the parser, so they make a valid value.
    if let Ok(location) = HeaderValue::try_from(format!("https://{host}{port}{target}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
