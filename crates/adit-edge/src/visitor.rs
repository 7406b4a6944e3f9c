//! Who is asking: a visitor's connection, served on whatever HTTP it speaks, and what is known of each request's sender.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use adit_http3::{Code, Limits};
use adit_lifecycle::drain::DrainWatcher;
use adit_policy::limits;
use adit_policy::snapshot::Snapshot;
use adit_telemetry::metrics::GaugeGuard;
use adit_tunnel::coalesce::coalesced;
use adit_tunnel::limits::PUBLIC_STREAMS_FIRST;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Sleep, sleep};

use crate::body::AnswerBody;
use crate::calm::Calming;
use crate::capacity::Traffic;
use crate::gate::{Exchange, Gate};
use crate::gone::{Gone, Leaves};
use crate::linger::Linger;
use crate::listener::Held;
use crate::pace::{Guard, Outlet, Watch};
use crate::serve::{Closed, serve};
use crate::tls::{Identity, Shown};
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
    /// What happens on it.
    pub(crate) traffic: Rc<Traffic>,
    /// Counts it as held by its worker.
    pub(crate) _held: Held,
}

/// A connection that is encrypted here.
pub(crate) struct Secured {
    /// The name that it was opened for.
    pub(crate) name: Option<Box<str>>,
    /// What the visitor's certificate proves.
    pub(crate) shown: Shown,
}

impl Secured {
    /// Who the visitor is by a valid certificate.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        match &self.shown {
            Shown::Valid(identity) => Some(identity),
            Shown::Nothing | Shown::Invalid(_) => None,
        }
    }
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
        let (edge, traffic) = (self.edge.clone(), self.traffic.clone());
        let (stream, upgraded) = Linger::new(stream);
        let (stream, watch) = Outlet::new(stream, traffic.clone());
        let mut guard = Guard::new(watch);
        let (stream, exchange) = Gate::new(stream, self.edge.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (visitor, exchange, upgraded) = (self.clone(), exchange.clone(), upgraded.clone());
            async move {
                let served = serve_http1(visitor, exchange, request).await;
                if served.as_ref().is_ok_and(|response| response.status() == StatusCode::SWITCHING_PROTOCOLS)
                {
                    upgraded.set();
                }
                served
            }
        });
        let mut connection =
            std::pin::pin!(server.serve_connection(TokioIo::new(stream), service).with_upgrades());
        let mut draining = std::pin::pin!(drain.draining());
        let mut told = std::pin::pin!(told_to_go(&traffic));
        let mut gone = std::pin::pin!(gone.wait());
        let mut leaves = false;
        let ended = poll_fn(|cx| {
            if gone.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            if !leaves && draining.as_mut().poll(cx).is_ready() {
                leaves = true;
                connection.as_mut().graceful_shutdown();
            }
            if told.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(End::Shed));
            }
            // How a visitor's connection ends is in the records of its requests.
            guard
                .poll(cx, |cx| connection.as_mut().poll(cx).map(drop))
                .map(|ended| if ended.is_none() { Some(End::Slow) } else { None })
        });
        End::note(ended.await, &edge);
    }

    /// Serves HTTP/2. What one turn of it says is written at once, not frame by frame.
    pub(crate) async fn http2<IO>(self: Rc<Self>, stream: IO, drain: DrainWatcher)
    where
        IO: AsyncRead + AsyncWrite + Leaves + Unpin + 'static,
    {
        let gone = stream.gone();
        let (stream, calm) = Calming::new(Linger::new(stream).0);
        let (stream, mut flusher) = coalesced(stream);
        let _counted = GaugeGuard::new(self.edge.metrics.visitors.clone());
        let _blocker = drain.block();
        let (edge, traffic) = (self.edge.clone(), self.traffic.clone());
        let mut server = http2::Builder::new(Local(self.clone()));
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
        let service = service_fn(move |request: Request<Incoming>| serve(self.clone(), request, None));
        let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
        let mut draining = std::pin::pin!(drain.draining());
        let mut over = std::pin::pin!(over(&traffic));
        let mut gone = std::pin::pin!(gone.wait());
        let mut goodbye: Option<(End, Pin<Box<Sleep>>)> = None;
        let mut leaves = false;
        let ended = poll_fn(|cx| {
            if gone.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            if !leaves && draining.as_mut().poll(cx).is_ready() {
                leaves = true;
                connection.as_mut().graceful_shutdown();
            }
            if goodbye.is_none()
                && let Poll::Ready(end) = over.as_mut().poll(cx)
            {
                goodbye = Some((end, Box::pin(sleep(end.time_for_goodbye()))));
                match end {
                    End::Cancelling => calm.set(true),
                    _ if leaves => {}
                    _ => connection.as_mut().graceful_shutdown(),
                }
            }
            let polled = connection.as_mut().poll(cx).map(drop);
            flusher.flush(cx);
            let is_late = goodbye.as_mut().is_some_and(|(_, time)| time.as_mut().poll(cx).is_ready());
            if polled.is_ready() || is_late {
                Poll::Ready(goodbye.as_ref().map(|(end, _)| *end))
            } else {
                Poll::Pending
            }
        });
        End::note(ended.await, &edge);
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
        let mut over = std::pin::pin!(over(&self.traffic));
        let mut leaving = false;
        loop {
            tokio::select! {
                incoming = connection.accept() => match incoming {
                    Some(incoming) => {
                        let visitor = self.clone();
                        drop(requests.spawn_local(watched(self.clone(), http3::answer(visitor, quic.clone(), incoming))));
                    }
                    None => break,
                },
                Some(_) = requests.join_next() => {}
                () = drain.draining(), if !leaving => {
                    leaving = true;
                    connection.say_goodbye().await;
                }
                end = over.as_mut() => {
                    End::note(Some(end), &self.edge);
                    match end {
                        End::Cancelling => quic.close(Code::EXCESSIVE_LOAD.value(), b"most requests were cancelled"),
                        _ => connection.say_goodbye().await,
                    }
                    break;
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
    // HTTP/1.0 knows no interim responses (RFC 9110, section 15.2).
    let interim = (request.version() == Version::HTTP_11).then(|| exchange.begin());
    let mut response = serve(visitor, request, interim).await?;
    if may_switch {
        exchange.answered(&mut response);
    }
    if is_connect {
        // A client may send on as if it were connected (RFC 9110, section 9.3.6).
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Why a visitor's connection is ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing was asked for a while.
    Idle,
    /// It makes room for others.
    Shed,
    /// The visitor takes its answers too slowly.
    Slow,
    /// The visitor cancels most of its requests.
    Cancelling,
}

impl End {
    /// How long the visitor may take to hear of it.
    fn time_for_goodbye(self) -> Duration {
        match self {
            Self::Idle => limits::IDLE_GOODBYE,
            Self::Shed | Self::Slow | Self::Cancelling => limits::SHED_GOODBYE,
        }
    }

    fn note(end: Option<Self>, edge: &Edge) {
        let Some(end) = end else { return };
        edge.metrics.overload(match end {
            Self::Idle => "idle",
            Self::Shed => "shed",
            Self::Slow => "slow_response",
            Self::Cancelling => "cancelling",
        });
    }
}

/// Resolves when an idle connection is to make room for others.
async fn told_to_go(traffic: &Traffic) {
    loop {
        traffic.told_to_go().await;
        if traffic.idle_since().is_some() {
            return;
        }
    }
}

/// Resolves when a connection of many streams is over: idle, to make room, or abused.
async fn over(traffic: &Traffic) -> End {
    let limit = traffic.idle_limit();
    let idle = async {
        loop {
            match traffic.idle_since().map(|since| since + limit) {
                Some(until) if until <= Instant::now() => return End::Idle,
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => sleep(limit).await,
            }
        }
    };
    let told = async {
        loop {
            traffic.told_to_go().await;
            if traffic.is_calmed() {
                return End::Cancelling;
            }
            if traffic.idle_since().is_some() {
                return End::Shed;
            }
        }
    };
    tokio::select! {
        end = idle => end,
        end = told => end,
    }
}

/// Runs the task of one stream, which is busy, and ends when its visitor is slow.
async fn watched(visitor: Rc<Visitor>, stream: impl Future) {
    let _busy = visitor.traffic.busy();
    let mut guard = Guard::new(Watch::of_stream(visitor.traffic.clone()));
    let mut stream = Box::pin(stream);
    let ended = poll_fn(|cx| guard.poll(cx, |cx| stream.as_mut().poll(cx).map(drop)));
    if ended.await.is_none() {
        End::note(Some(End::Slow), &visitor.edge);
    }
}

/// Runs the server's own tasks on this worker: one for each stream.
#[derive(Clone)]
struct Local(Rc<Visitor>);

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        drop(spawn_local(watched(self.0.clone(), future)));
    }
}
