//! Loads that wrk cannot make: gRPC calls, WebSocket messages, streams of events. Load and origin share this process,
//! whose CPU time is not counted.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use adit_testkit::visitor::{Sender, Visitor, full, whole};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Method};
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::load::Requests;

const HOST: &str = "localhost";
/// Connections of the gRPC load, and calls at the same time on each.
const GRPC: (usize, usize) = (8, 8);
/// Bytes of a gRPC message, with its head of five.
const GRPC_MESSAGE: usize = 105;
/// WebSockets at the same time.
const WEBSOCKETS: usize = 64;
/// Bytes of a WebSocket message.
const MESSAGE: usize = 1024;
/// Streams of events at the same time.
pub(crate) const STREAMS: usize = 200;
/// Each stream says a line this often.
const EVERY: Duration = Duration::from_millis(1000);

/// The load's side of a chain.
pub(crate) struct Live {
    runtime: tokio::runtime::Runtime,
    visitor: Visitor,
}

/// What one asker saw.
#[derive(Default)]
struct Seen {
    times: Vec<Duration>,
    failed: u64,
}

impl Live {
    /// Visitors of an edge on this port of the loopback, who trust this certificate.
    pub(crate) fn new(port: u16, certificate: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let visitor = Visitor::new(SocketAddr::from(([127, 0, 0, 1], port)), certificate);
        Ok(Self { runtime, visitor })
    }

    /// gRPC calls, one after the other on each of many streams.
    pub(crate) fn grpc(&self, seconds: u32) -> Result<Requests> {
        let visitor = self.visitor.clone().http2();
        self.runtime.block_on(async {
            let mut askers = JoinSet::new();
            for _ in 0..GRPC.0 {
                let Sender::Http2(connection) = visitor.connect(HOST).await? else { continue };
                for _ in 0..GRPC.1 {
                    let (visitor, sender) = (visitor.clone(), Sender::Http2(connection.clone()));
                    askers.spawn(calls(visitor, sender, until(seconds)));
                }
            }
            gathered(askers, seconds).await
        })
    }

    /// Messages there and back, one after the other on each of many WebSockets.
    pub(crate) fn websockets(&self, seconds: u32) -> Result<Requests> {
        self.runtime.block_on(async {
            let mut askers = JoinSet::new();
            for _ in 0..WEBSOCKETS {
                askers.spawn(echoes(self.visitor.clone(), until(seconds)));
            }
            gathered(askers, seconds).await
        })
    }

    /// Listens to many streams of events.
    pub(crate) fn events(&self, seconds: u32) -> Result<Requests> {
        self.runtime.block_on(async {
            let mut askers = JoinSet::new();
            for _ in 0..STREAMS {
                askers.spawn(listens(self.visitor.clone(), until(seconds)));
            }
            gathered(askers, seconds).await
        })
    }
}

fn until(seconds: u32) -> Instant {
    Instant::now() + Duration::from_secs(seconds.into())
}

async fn calls(visitor: Visitor, mut sender: Sender, until: Instant) -> Seen {
    let mut message = vec![0; GRPC_MESSAGE];
    if let Some(length) = message.get_mut(4) {
        *length = (GRPC_MESSAGE - 5) as u8;
    }
    let message = Bytes::from(message);
    let mut seen = Seen::default();
    while Instant::now() < until {
        let mut request = visitor.request(Method::POST, HOST, "/grpc", full(message.clone()));
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        let began = Instant::now();
        let answer = async { whole(sender.send(request).await?).await };
        match answer.await {
            Ok(answer) if answer.body == message && answer.trailers.contains_key("grpc-status") => {
                seen.times.push(began.elapsed());
            }
            _ => seen.failed += 1,
        }
    }
    seen
}

async fn echoes(visitor: Visitor, until: Instant) -> Seen {
    let mut socket = visitor.websocket(HOST, "/websocket").await;
    let message = Message::Binary(Bytes::from(vec![b'x'; MESSAGE]));
    let mut seen = Seen::default();
    while Instant::now() < until {
        let began = Instant::now();
        let sent = socket.send(message.clone()).await;
        match socket.next().await {
            Some(Ok(back)) if sent.is_ok() && back == message => seen.times.push(began.elapsed()),
            _ => {
                seen.failed += 1;
                return seen;
            }
        }
    }
    seen
}

async fn listens(visitor: Visitor, until: Instant) -> Seen {
    let mut seen = Seen::default();
    let path = format!("/events/{}", EVERY.as_millis());
    let request = visitor.request(Method::GET, HOST, &path, adit_testkit::visitor::empty());
    let Ok(answer) = visitor.send(HOST, request).await else {
        seen.failed += 1;
        return seen;
    };
    let mut body = answer.into_body();
    while let Ok(frame) = tokio::time::timeout_at(until.into(), body.frame()).await {
        match frame {
            Some(Ok(_)) => seen.times.push(Duration::ZERO),
            _ => {
                seen.failed += 1;
                return seen;
            }
        }
    }
    seen
}

async fn gathered(mut askers: JoinSet<Seen>, seconds: u32) -> Result<Requests> {
    let (mut times, mut failed) = (Vec::new(), 0);
    while let Some(seen) = askers.join_next().await {
        let seen = seen.context("a load broke")?;
        times.extend(seen.times);
        failed += seen.failed;
    }
    times.sort_unstable();
    let percentile = |part: usize| {
        let time = times.get(times.len().saturating_sub(1) * part / 100).copied().unwrap_or_default();
        time.as_secs_f64() * 1000.0
    };
    let count = times.len() as u64;
    let per_second = count as f64 / f64::from(seconds);
    Ok(Requests { count, per_second, p50: percentile(50), p99: percentile(99), failed })
}
