//! Who is asking: a visitor's connection, served on whatever HTTP it speaks, and what is known of each request's sender.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use adit_http3::Limits;
use adit_lifecycle::drain::DrainWatcher;
use adit_policy::limits;
use adit_policy::snapshot::Snapshot;
use adit_telemetry::metrics::GaugeGuard;
use adit_tunnel::coalesce::coalesced;
use adit_tunnel::limits::PUBLIC_STREAMS_FIRST;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinSet, spawn_local};

use crate::body::AnswerBody;
use crate::gate::{Exchange, Gate};
use crate::gone::{Gone, Leaves};
use crate::listener::Held;
use crate::serve::{Closed, serve};
use crate::tls::Identity;
use crate::worker::Worker;
use crate::{Edge, http3};

/// A visitor's connection.
pub(crate) struct Visitor {
    pub(crate) edge: Arc<Edge>,
    pub(crate) worker: Rc<Worker>,
    /// The other end: who connected, or whose connection a trusted proxy says it is.
    pub(crate) remote: SocketAddr,
    /// How it is encrypted here; `None` if it is not.
    pub(crate) tls: Option<Rc<Secured>>,
    /// The word that it is gone, on TCP.
    pub(crate) gone: OnceCell<Arc<Gone>>,
    /// Counts it as held by its worker.
    pub(crate) _held: Held,
}

/// A connection that is encrypted here.
pub(crate) struct Secured {
    /// The name that it was opened for.
    pub(crate) name: Option<Box<str>>,
    /// The certificate that the visitor showed.
    pub(crate) identity: Option<Identity>,
}

/// Who sent one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// The address for log, limits and origins.
    pub(crate) ip: IpAddr,
    /// The scheme that the visitor used.
    pub(crate) scheme: &'static str,
    /// Whether it came through a proxy whose word counts.
    pub(crate) proxied: bool,
}

impl Client {
    /// By the connection, or by the word of a trusted proxy.
    pub(crate) fn of(visitor: &Visitor, snapshot: &Snapshot, headers: &HeaderMap) -> Self {
        let ip = visitor.remote.ip();
        let scheme = if visitor.tls.is_some() { "https" } else { "http" };
        let Some(trust) = snapshot.trust().filter(|trust| trust.includes(ip)) else {
            return Self { ip, scheme, proxied: false };
        };
        let values = headers.get_all(trust.field.name()).into_iter();
        let said: Vec<&[u8]> = values.map(HeaderValue::as_bytes).collect();
        let scheme = forwarded_scheme(headers).unwrap_or(scheme);
        Self { ip: trust.visitor(ip, said.into_iter()), scheme, proxied: true }
    }
}

/// What the nearest proxy says; of several, the last one's word.
fn forwarded_scheme(headers: &HeaderMap) -> Option<&'static str> {
    let last = headers.get_all("x-forwarded-proto").iter().next_back()?.to_str().ok()?;
    match last.rsplit(',').next()?.trim() {
        scheme if scheme.eq_ignore_ascii_case("https") => Some("https"),
        scheme if scheme.eq_ignore_ascii_case("http") => Some("http"),
        _ => None,
    }
}

impl Visitor {
    /// Serves HTTP/1.1.
    pub(crate) async fn http1<IO>(self: Rc<Self>, stream: IO, drain: DrainWatcher)
    where
        IO: AsyncRead + AsyncWrite + Leaves + Unpin + Send + 'static,
    {
        let gone = self.gone.get_or_init(|| stream.gone()).clone();
        let _counted = GaugeGuard::new(self.edge.metrics.visitors.clone());
        let _blocker = drain.block();
        let mut server = http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEADER_READ_TIMEOUT)
            .max_buf_size(limits::HEAD_BYTES_MAX)
            .max_header_size(limits::HEAD_BYTES_MAX)
            .max_headers(limits::HEADERS_MAX);
        let (stream, exchange) = Gate::new(stream, self.edge.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            serve_http1(self.clone(), exchange.clone(), request)
        });
        let mut connection =
            std::pin::pin!(server.serve_connection(TokioIo::new(stream), service).with_upgrades());
        // How a visitor's connection ends is in the records of its requests.
        tokio::select! {
            ended = connection.as_mut() => drop(ended),
            () = gone.wait() => {}
            () = drain.draining() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => drop(ended),
                    () = gone.wait() => {}
                }
            }
        }
    }

    /// Serves HTTP/2. What one turn of it says is written at once, not frame by frame.
    pub(crate) async fn http2<IO>(self: Rc<Self>, stream: IO, drain: DrainWatcher)
    where
        IO: AsyncRead + AsyncWrite + Leaves + Unpin + 'static,
    {
        let gone = stream.gone();
        let (stream, mut flusher) = coalesced(stream);
        let _counted = GaugeGuard::new(self.edge.metrics.visitors.clone());
        let _blocker = drain.block();
        let mut server = http2::Builder::new(Local);
        server
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .max_concurrent_streams(limits::H2_STREAMS_MAX)
            .max_header_list_size(limits::H2_HEADER_LIST_MAX)
            .initial_stream_window_size(limits::H2_STREAM_WINDOW)
            .initial_connection_window_size(limits::H2_CONNECTION_WINDOW)
            .max_send_buf_size(limits::H2_SEND_BUFFER)
            .keep_alive_interval(limits::H2_KEEP_ALIVE)
            .keep_alive_timeout(limits::H2_KEEP_ALIVE_TIMEOUT);
        let service = service_fn(move |request: Request<Incoming>| serve(self.clone(), request));
        let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
        let mut draining = std::pin::pin!(drain.draining());
        let mut gone = std::pin::pin!(gone.wait());
        let mut leaves = false;
        poll_fn(|cx| {
            if gone.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if !leaves && draining.as_mut().poll(cx).is_ready() {
                leaves = true;
                connection.as_mut().graceful_shutdown();
            }
            let polled = connection.as_mut().poll(cx).map(drop);
            flusher.flush(cx);
            polled
        })
        .await;
    }

    /// Serves HTTP/3.
    pub(crate) async fn http3(self: Rc<Self>, quic: quinn::Connection, drain: DrainWatcher) {
        let _counted = GaugeGuard::new(self.edge.metrics.visitors.clone());
        let _blocker = drain.block();
        let limits = Limits {
            head_bytes: limits::HEAD_BYTES_MAX,
            fields: limits::HEADERS_MAX,
            head_time: limits::HEADER_READ_TIMEOUT,
            read: limits::H3_READ,
        };
        let mut connection = match adit_http3::Connection::start(quic.clone(), limits).await {
            Ok(connection) => connection,
            Err(error) => return tracing::debug!(remote = %self.remote, %error, "no HTTP/3"),
        };
        let mut requests = JoinSet::new();
        let mut leaving = false;
        loop {
            tokio::select! {
                incoming = connection.accept() => match incoming {
                    Some(incoming) => drop(requests.spawn_local(http3::answer(self.clone(), incoming))),
                    None => break,
                },
                Some(_) = requests.join_next() => {}
                () = drain.draining(), if !leaving => {
                    leaving = true;
                    connection.say_goodbye().await;
                }
            }
            // Room for many requests costs memory, so it is made when somebody has many.
            if requests.len() > PUBLIC_STREAMS_FIRST as usize / 2 {
                quic.set_max_concurrent_bi_streams(limits::H3_STREAMS_MAX.into());
            }
            if leaving && requests.is_empty() {
                break;
            }
        }
    }
}

/// Answers a request of HTTP/1. One that was to change what the connection carries is told to the stream.
async fn serve_http1(
    visitor: Rc<Visitor>,
    exchange: Exchange,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Closed> {
    let is_connect = request.method() == Method::CONNECT;
    let may_switch = is_connect || request.headers().contains_key(UPGRADE);
    let mut response = serve(visitor, request).await?;
    if may_switch {
        exchange.answered(&mut response);
    }
    if is_connect {
        // A client may send on as if it were connected (RFC 9110, section 9.3.6).
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Runs the server's own tasks on this worker.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        drop(spawn_local(async move {
            future.await;
        }));
    }
}
