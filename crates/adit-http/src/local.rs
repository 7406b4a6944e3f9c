//! A small HTTP server for local endpoints: health, metrics, state. Not for the public.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

/// Time for a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a request's body.
const BODY_MAX: usize = 64 * 1024;

/// Pause after an accept that failed, as when file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An answer of a local endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Plain text.
    #[must_use]
    pub fn text(status: StatusCode, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// JSON.
    #[must_use]
    pub fn json(status: StatusCode, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: "application/json", body: body.into() }
    }

    /// The text format of Prometheus.
    #[must_use]
    pub fn metrics(body: String) -> Self {
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        Self { status: StatusCode::OK, content_type, body: body.into_bytes() }
    }

    /// No such endpoint.
    #[must_use]
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "no such endpoint\n")
    }
}

/// A request to a local endpoint.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// Its body: JSON, if there is one.
    pub body: Bytes,
}

/// Answers a request.
pub type Respond = dyn Fn(&Asked) -> Answer;

/// Serves endpoints on a listener until it is dropped. Run it in a local task.
pub async fn serve(listener: TcpListener, answer: Rc<Respond>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::task::spawn_local(connection(stream, answer.clone()))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the local endpoint");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, answer: Rc<Respond>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let answer = read(request).await.map_or_else(|refused| refused, |asked| answer(&asked));
            Ok::<_, Infallible>(respond(answer))
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "local endpoint");
    }
}

/// Whoever changes something says so in JSON, and is no page in a browser: such a page can reach loopback too.
async fn read(request: Request<Incoming>) -> Result<Asked, Answer> {
    let (head, body) = request.into_parts();
    let (method, path) = (head.method, head.uri.path().to_owned());
    if method.is_safe() {
        return Ok(Asked { method, path, body: Bytes::new() });
    }
    let is_json = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !is_json || head.headers.contains_key(header::ORIGIN) {
        let message = "send `Content-Type: application/json`, and not from a page\n";
        return Err(Answer::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => Ok(Asked { method, path, body: body.to_bytes() }),
        Err(_) => Err(Answer::text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n")),
    }
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(answer.content_type));
    response
}
