//! One request from head to answer. The only file that knows the order of the stages:
//!
//! route → upstream → forward, with rescue and record around the whole.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use adit_http::upgrade::is_websocket;
use adit_policy::snapshot::HttpMode;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::body::AnswerBody;
use crate::record::{CLOSED, Record};
use crate::rescue::Problem;
use crate::worker::Worker;
use crate::{Edge, forward, quick, route, upstream};

/// Who is asking, and on which worker.
pub(crate) struct Visitor {
    pub(crate) edge: Arc<Edge>,
    pub(crate) worker: Rc<Worker>,
    pub(crate) remote: SocketAddr,
    /// Whether the connection is encrypted here.
    pub(crate) tls: bool,
}

/// There is no answer: the connection is closed, or the stream reset.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
pub(crate) struct Closed;

/// Answers one request.
///
/// # Errors
/// [`Closed`] when the host is nobody's: strangers get nothing.
pub(crate) async fn serve(
    visitor: Rc<Visitor>,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Closed> {
    if !visitor.tls
        && let Some(answer) = plain(&visitor, &request)
    {
        return answer;
    }
    if let Some(answer) = quick::answer(&visitor.edge, visitor.remote, &request) {
        return Ok(answer);
    }
    let websocket = wants_websocket(&request);
    let upgrade = websocket.then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let scheme = if visitor.tls { "https" } else { "http" };
    let mut record = Record::start(&visitor.edge, &visitor.worker, visitor.remote, scheme, &head);
    // The one field that an error page looks at: the head is given away.
    let accept = head.headers.get(header::ACCEPT).cloned();
    match proxy(&visitor, head, body, upgrade, scheme, &mut record).await {
        Ok(proxied) => Ok(proxied.into_response(record)),
        Err(problem) => rescue(&visitor, &problem, accept.as_ref(), record),
    }
}

/// The answer of the tunnel with what its forwarding needs.
struct Proxied {
    answer: Response<adit_tunnel::edge::ResponseBody>,
    version: Version,
    upgrade: Option<OnUpgrade>,
}

impl Proxied {
    fn into_response(self, record: Record) -> Response<AnswerBody> {
        forward::response(self.answer, self.version, self.upgrade, record)
    }
}

async fn proxy(
    visitor: &Visitor,
    head: Parts,
    body: Incoming,
    upgrade: Option<OnUpgrade>,
    scheme: &'static str,
    record: &mut Record,
) -> Result<Proxied, Problem> {
    let view = visitor.edge.registry.view().clone();
    let routed = route::route(view, &head.uri, &head.headers)?;
    let version = head.version;
    if head.method == Method::CONNECT && upgrade.is_none() {
        return Err(Problem::BadRequest);
    }
    let mut outbound = forward::request(&routed, head, body, upgrade.is_some(), scheme, record);
    let answer = upstream::send(&visitor.edge, &visitor.worker, &routed, &mut outbound, record).await?;
    Ok(Proxied { answer, version, upgrade })
}

fn rescue(
    visitor: &Visitor,
    problem: &Problem,
    accept: Option<&HeaderValue>,
    mut record: Record,
) -> Result<Response<AnswerBody>, Closed> {
    record.failed(problem);
    if matches!(problem, Problem::UnknownHost) {
        record.status(CLOSED);
        visitor.edge.metrics.unknown_hosts.inc();
        return Err(Closed);
    }
    let id = record.id();
    let (head, page) = problem.answer(accept, std::str::from_utf8(&id).unwrap_or_default()).into_parts();
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

/// What the plain listener answers by itself: health, and the way to HTTPS. `None`: the request is proxied.
fn plain(visitor: &Visitor, request: &Request<Incoming>) -> Option<Result<Response<AnswerBody>, Closed>> {
    if request.uri().path() == "/healthz" {
        return Some(Ok(healthy()));
    }
    let view = visitor.edge.registry.view().clone();
    if view.snapshot.http_mode == HttpMode::Serve {
        return None;
    }
    Some(match route::route(view, request.uri(), request.headers()) {
        Ok(routed) => Ok(redirect(routed.host.as_str(), visitor.edge.https_port, request)),
        Err(_) => Err(Closed),
    })
}

fn healthy() -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::page(Bytes::from_static(b"ok\n"), None));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// 308 keeps method and body.
fn redirect(host: &str, port: Option<u16>, request: &Request<Incoming>) -> Response<AnswerBody> {
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
