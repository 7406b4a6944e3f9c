//! One request from head to answer. The only file that knows the order of the stages:
//!
//! route → guard → limit → act → cache → upstream → forward, with rescue and record around the whole.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit_http::body::declared_length;
use adit_http::upgrade::is_websocket;
use adit_http3::{Protocol, RecvBody};
use adit_policy::cache::status::CacheStatus;
use adit_policy::policy::Settings;
use adit_policy::policy::bans::Site;
use adit_policy::policy::compress::{self, Candidate};
use adit_policy::policy::pace::Slow;
use adit_policy::snapshot::HttpMode;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};

use crate::act::Act;
use crate::body::{AnswerBody, RequestBody};
use crate::cache::{Kept, Said};
use crate::capacity::Refused;
use crate::compress::Compression;
use crate::context::RequestContext;
use crate::forward::Upgrade;
use crate::interim::Interim;
use crate::pace::{Intake, Watch};
use crate::record::{CLOSED, Record};
use crate::registry::View;
use crate::rescue::{Problem, Reader};
use crate::route::Routed;
use crate::running::Running;
use crate::visitor::{Client, Visitor};
use crate::{Edge, act, cache, fields, forward, guard, limit, pace, purge, quick, route, upstream};

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
    interim: Option<Interim>,
) -> Result<Response<AnswerBody>, Closed> {
    let upgrade = wants_websocket(&request)
        .then(|| Upgrade::Switch(hyper::upgrade::on(&mut request), visitor.gone.get().cloned()));
    let request = request.map(|body| match interim {
        Some(interim) => RequestBody::Http1(body, interim),
        None => RequestBody::Http2(body),
    });
    answer(&visitor, Asked { request, upgrade }).await
}

/// Answers one request of HTTP/3. There, a WebSocket is a body in each direction (RFC 9220).
///
/// # Errors
/// The same.
pub(crate) async fn serve_http3(
    visitor: Rc<Visitor>,
    request: Request<RecvBody>,
    interim: Interim,
) -> Result<Response<AnswerBody>, Closed> {
    let websocket = request.extensions().get::<Protocol>().is_some_and(Protocol::is_websocket);
    let (head, body) = request.into_parts();
    let body = RequestBody::Http3(Box::new(body), interim);
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
    // It is handed on from stage to stage.
    let mut head = Box::new(head);
    let received = fields::receive(&visitor.edge, &mut head);
    let running = Running::start(&visitor.traffic, client.ip);
    let request = RequestContext::of_request(visitor, client, head.uri.clone(), upgrade.is_some());
    let mut record = Record::start(&request, visitor.remote, &head);
    let accept = head.headers.get(header::ACCEPT).cloned();
    let running = received.and_then(|()| running.map_err(|refused| overloaded(&visitor.edge, refused)));
    let routed = running.and_then(|mut running| {
        running.ended(true);
        Ok((running, route::route(request, view.clone(), &head.headers)?))
    });
    let (mut running, routed) = match routed {
        Ok(routed) => routed,
        Err(problem) => {
            let settings = view.policies.find("").map(|policy| policy.base.clone()).unwrap_or_default();
            let reader = Reader { accept: accept.as_ref(), host: "", pages: settings.pages.as_deref() };
            return rescue(&visitor.edge, &problem, &reader, record);
        }
    };
    let watch = Watch::current();
    watch.iter().for_each(|watch| watch.begin());
    let (is_stream, is_upgrade) = (pace::is_stream(&head.headers), upgrade.is_some());
    let measured = watch.as_ref().filter(|_| !is_upgrade && !body.is_end_stream());
    let body = body.paced(measured.and_then(|watch| Intake::of(watch, routed.settings(), &head.headers)));
    let codings = Codings::of(&head, routed.settings());
    let (settings, host) = (routed.settings().clone(), routed.host().clone());
    let tunnel = routed.route().tunnel;
    let announcing = forward::Announcing::of(&routed);
    running.ended(false);
    let passed = pass(routed, (head, body, upgrade), &mut record).await;
    running.ended(true);
    let slow = watch.as_ref().and_then(|watch| watch.slow());
    let response = match passed.map_err(|problem| slow.map_or(problem, |slow| slow_client(visitor, slow))) {
        Ok(passed) => passed.into_response(record, settings.timeouts.idle),
        Err(problem) => {
            let pages = settings.pages.as_deref();
            let reader = Reader { accept: accept.as_ref(), host: host.as_str(), pages };
            let unnoted = matches!(problem, Problem::Banned | Problem::Denied);
            let response = rescue(&visitor.edge, &problem, &reader, record)?;
            if unnoted {
                return Ok(response);
            }
            response
        }
    };
    let site = Site { name: host.as_str(), tunnel: Some(tunnel) };
    note(&visitor.edge, client, (site, &settings), response.status());
    let response = finish(&visitor.edge, &settings, &announcing, codings.as_ref(), response);
    if let Some(watch) = watch {
        let is_upgraded = is_upgrade && matches!(response.status().as_u16(), 101 | 200);
        watch.expect(&settings, is_stream || pace::is_stream(response.headers()), is_upgraded);
    }
    Ok(response.map(|body| body.running(running)))
}

fn overloaded(edge: &Edge, refused: Refused) -> Problem {
    edge.metrics.overload(refused.word());
    Problem::Overloaded(refused)
}

fn slow_client(visitor: &Visitor, slow: Slow) -> Problem {
    visitor.edge.metrics.overload("slow_request");
    Problem::SlowClient(slow)
}

/// What compression looks at: the head is given away by then.
struct Codings {
    method: Method,
    accepted: HeaderMap,
}

impl Codings {
    /// `None` where nothing is compressed.
    fn of(head: &Parts, settings: &Settings) -> Option<Self> {
        settings.compress.as_ref()?;
        let mut accepted = HeaderMap::new();
        for name in [header::ACCEPT_ENCODING, header::IF_NONE_MATCH] {
            for value in head.headers.get_all(&name) {
                accepted.append(&name, value.clone());
            }
        }
        Some(Self { method: head.method.clone(), accepted })
    }
}

/// Some answers count against a visitor.
fn note(edge: &Edge, client: Client, (site, settings): (Site<'_>, &Settings), status: StatusCode) {
    let Some(rule) = &settings.ban else { return };
    if edge.doors.note(client.ip, site, rule, status) {
        edge.metrics.bans.inc();
    }
}

/// What comes of a request that nothing went wrong with.
enum Passed {
    /// The edge's own answer.
    Own(Response<Bytes>),
    /// One that was kept.
    Kept(Box<Kept>),
    /// The origin's.
    Proxied(Box<Proxied>),
}

/// The answer of the tunnel with what its forwarding needs.
struct Proxied {
    answer: Response<adit_tunnel::edge::ResponseBody>,
    version: Version,
    upgrade: Option<Upgrade>,
    /// What the cache has to say, and whether in short too.
    cache: Option<(CacheStatus, bool)>,
}

impl Passed {
    fn into_response(self, mut record: Record, idle: Option<Duration>) -> Response<AnswerBody> {
        match self {
            Self::Own(answer) => {
                record.status(answer.status().as_u16());
                answer.map(|page| AnswerBody::page(page, Some(record)))
            }
            Self::Kept(kept) => {
                record.status(kept.response.status().as_u16());
                record.cached(kept.status.outcome);
                kept.response.map(|body| AnswerBody::kept(body, record).with_idle(idle))
            }
            Self::Proxied(proxied) => {
                let Proxied { answer, version, upgrade, cache } = *proxied;
                let is_websocket = upgrade.is_some();
                cache.iter().for_each(|(status, _)| record.cached(status.outcome));
                let mut response = forward::response(answer, version, upgrade, record);
                if let Some((status, in_short)) = &cache {
                    cache::say(response.headers_mut(), status, *in_short);
                }
                response.map(|body| body.with_idle(idle.filter(|_| !is_websocket)))
            }
        }
    }
}

/// The stages, in their order. Each takes what the one before it has left.
async fn pass(
    routed: Routed,
    (mut head, body, upgrade): (Box<Parts>, RequestBody, Option<Upgrade>),
    record: &mut Record,
) -> Result<Passed, Problem> {
    // A WebSocket comes by CONNECT where it cannot come by GET (RFC 8441).
    let method = if upgrade.is_some() { &Method::GET } else { &head.method };
    let permitted = guard::guard(routed, method)?;
    let mut admitted = limit::admit(permitted, &head.headers)?;
    record.hold(admitted.take_ticket());
    if purge::is_call(admitted.request().edge(), &head) {
        return purge::answer(&admitted, &head, body).await.map(Passed::Own);
    }
    let onward = match act::act(admitted, &mut head)? {
        Act::Answer(answer) => return Ok(Passed::Own(answer)),
        Act::Onward(onward) => onward,
    };
    let version = head.version;
    let is_about_all = head.uri.path() == "*" && head.method != Method::OPTIONS;
    if is_about_all || (head.method == Method::CONNECT && upgrade.is_none()) {
        return Err(Problem::BadRequest);
    }
    let rule = onward.settings().cache.as_ref().filter(|_| upgrade.is_none());
    let in_short = rule.is_some_and(|rule| rule.status_header);
    let said =
        if rule.is_some() { cache::answer(&onward, &head, record).await? } else { Said::Nothing(None) };
    let status = match said {
        Said::Kept(kept) => return Ok(Passed::Kept(kept)),
        Said::Passed(answer, status) => {
            let cache = Some((status, in_short));
            return Ok(Passed::Proxied(Box::new(Proxied { answer: *answer, version, upgrade, cache })));
        }
        Said::Nothing(status) => status,
    };
    let changing = cache::may_change(&head.method, &onward).then(|| head.clone());
    let mut outbound = forward::request(&onward, *head, body, record.uploaded());
    let answer = upstream::send(&onward, &mut outbound, |session| record.asked(session)).await?;
    if let (Some(head), Some(store)) = (changing, &onward.request().edge().cache) {
        cache::forget(store, &onward, &head, (answer.status(), answer.headers()));
    }
    match Problem::of_home(&answer) {
        Some(problem) => Err(problem),
        None => {
            let cache = status.map(|status| (status, in_short));
            Ok(Passed::Proxied(Box::new(Proxied { answer, version, upgrade, cache })))
        }
    }
}

/// Sets what every answer of a name has, and compresses what is worth it.
fn finish(
    edge: &Edge,
    settings: &Settings,
    announcing: &forward::Announcing,
    codings: Option<&Codings>,
    mut response: Response<AnswerBody>,
) -> Response<AnswerBody> {
    announcing.apply(response.headers_mut());
    let (Some(rule), Some(codings)) = (&settings.compress, codings) else { return response };
    if response.status() == StatusCode::NOT_MODIFIED {
        compress::mark_not_modified(response.headers_mut(), &codings.accepted);
        return response;
    }
    let is_head = codings.method == Method::HEAD;
    let body = response.body().size_hint().exact().filter(|_| !is_head);
    let length = declared_length(response.headers()).or(body);
    let candidate = Candidate { status: response.status(), headers: response.headers(), length };
    let chosen = rule.choose(&candidate, &codings.accepted);
    if rule.is_worth_it(&candidate) {
        compress::mark_varies(response.headers_mut());
    }
    if let Some(coding) = chosen.filter(|_| is_head && response.body().is_end_stream()) {
        compress::mark(response.headers_mut(), coding);
        return response;
    }
    let encoder = chosen.and_then(|coding| Some((coding, Compression::new(edge.encoders.reserve(coding)?))));
    let Some((coding, encoder)) = encoder else { return response };
    compress::mark(response.headers_mut(), coding);
    response.map(|body| body.encoded(encoder))
}

fn rescue(
    edge: &Edge,
    problem: &Problem,
    reader: &Reader<'_>,
    mut record: Record,
) -> Result<Response<AnswerBody>, Closed> {
    record.failed(problem);
    if matches!(problem, Problem::UnknownHost | Problem::Dropped) {
        record.status(CLOSED);
        if matches!(problem, Problem::UnknownHost) {
            edge.metrics.unknown_hosts.inc();
        }
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
    let host = route::find(view, request.uri(), request.headers());
    // What is switched off says so, and sends nobody elsewhere.
    if host.as_ref().is_ok_and(|host| view.snapshot.shutoff().includes(host.as_str())) {
        return None;
    }
    Some(match host {
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
