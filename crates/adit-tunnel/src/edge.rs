//! The edge's end of a tunnel connection: it opens a stream per request and gets a response.
//!
//! A [`Connection`] is cheap to clone and may be used from any thread; it is cheapest on the thread that owns it.

mod accept;
mod body;
mod h2;
mod health;
mod pump;
mod quic;
mod stalled;
mod udp;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use adit_wire::connect::StreamKind;
use adit_wire::features::Extensions;
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body;
use tokio::sync::Notify;

pub use accept::{Accepted, Control, accept_h2, accept_quic};
pub use body::{Duplex, ResponseBody};
pub use stalled::cut_stalled;
pub use udp::{UdpFlow, UdpRefused};

use crate::connector::ConfigurationApplied;
use crate::control::push;
use crate::limits::{CONNECTION_WINDOW, FIXED_CONNECTION_WINDOW};
use crate::window::Windows;
use crate::{LinkClosed, Protocol, SendError};

/// Takes the interim responses (1xx, but not 101) to a request, as they come and before the final one.
pub trait InterimSink: std::fmt::Debug {
    /// Takes one. Of a flood of them only the first ones arrive here.
    fn interim(&self, status: StatusCode, headers: HeaderMap);
}

/// What the edge asks a connector.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Plain HTTP, a WebSocket to open, or raw bytes to an address.
    pub kind: StreamKind,
    /// The request method.
    pub method: &'a Method,
    /// The host that ingress rules match: lower-case, without port. For raw bytes, where they go as `ip:port`.
    pub host: &'a str,
    /// Path and query, as the visitor sent them; starts with `/`.
    pub target: &'a str,
    /// End-to-end header fields. Hop-by-hop fields and control headers are gone already.
    pub headers: &'a HeaderMap,
    /// Where interim responses go; `None` drops them.
    pub interim: Option<&'a dyn InterimSink>,
}

/// One live connection to a connector.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    transport: Transport,
    /// Extensions that both ends speak; set once, at registration.
    extensions: OnceLock<Extensions>,
    in_flight: AtomicUsize,
    draining: AtomicBool,
    health: health::Health,
    flows: udp::Flows,
    windows: Windows,
    stalled: stalled::Stalled,
    /// Told when a draining connection has nothing left in flight.
    settled: Notify,
}

#[derive(Debug)]
enum Transport {
    Quic(quinn::Connection),
    H2(h2::Sender),
}

impl Connection {
    fn new(transport: Transport) -> Self {
        Self(Arc::new(Shared {
            transport,
            extensions: OnceLock::new(),
            in_flight: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            health: health::Health::default(),
            flows: udp::Flows::default(),
            windows: Windows::default(),
            stalled: stalled::Stalled::default(),
            settled: Notify::new(),
        }))
    }

    /// Sends a request and waits for the head of the answer; the body follows in the response.
    ///
    /// `body` is `None` when the request has none. It is taken only when its first byte is asked for: while it is
    /// still there after an error, the request may be sent again elsewhere.
    ///
    /// Dropping the future, or the response body, cancels the request at the origin.
    ///
    /// # Errors
    /// [`SendError`] says whether the origin can have seen the request.
    pub async fn send<B>(
        &self,
        head: RequestHead<'_>,
        body: &mut Option<B>,
    ) -> Result<Response<ResponseBody>, SendError>
    where
        B: Body<Data = Bytes> + Unpin + 'static,
    {
        let guard = InFlight::new(self);
        if let Some(interim) = head.interim.filter(|_| !self.extensions().contains(Extensions::INTERIM)) {
            // This connector never says that the origin wants the body.
            interim.interim(StatusCode::CONTINUE, HeaderMap::new());
        }
        match &self.0.transport {
            Transport::Quic(connection) => quic::send(connection, head, body, guard).await,
            Transport::H2(sender) => sender.send(head, body, guard).await,
        }
    }

    /// Pushes a configuration to the connector; it applies the newest version that it gets. Run it on the owning thread.
    ///
    /// # Errors
    /// A text for the operator when the call itself failed.
    pub async fn push_configuration(
        &self,
        version: i32,
        json: &[u8],
    ) -> Result<ConfigurationApplied, String> {
        match &self.0.transport {
            Transport::Quic(connection) => {
                push::send_quic(connection, version, json).await.map_err(|error| error.to_string())
            }
            Transport::H2(sender) => sender.push_configuration(version, json).await,
        }
    }

    /// Which transport this is.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match &self.0.transport {
            Transport::Quic(_) => Protocol::Quic,
            Transport::H2(_) => Protocol::Http2,
        }
    }

    /// Requests that are being answered now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Whether new requests may use it: neither draining nor suspect nor closed.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.is_draining() && !self.0.health.is_suspect()
    }

    /// Whether the connector asked to be given no new requests.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Whether nothing was heard from the peer although it was probed.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.0.health.is_suspect()
    }

    /// Marks the connection as draining: it finishes what it has.
    pub fn start_drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Resolves when no request is in flight.
    pub async fn idle(&self) {
        loop {
            let notified = self.0.settled.notified();
            if self.in_flight() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Makes the connection a registered one: it gets the room of a tunnel, and `extensions` says what both ends can do
    /// beyond cloudflared's protocol. The first call counts. Call it on the owning thread.
    pub fn registered(&self, extensions: Extensions) {
        // A second registration on one connection cannot change what streams already rely on.
        if self.0.extensions.set(extensions).is_err() {
            return;
        }
        let has_windows = extensions.contains(Extensions::WINDOWS);
        if let Transport::Quic(connection) = &self.0.transport {
            let window = if has_windows { CONNECTION_WINDOW } else { FIXED_CONNECTION_WINDOW };
            crate::quic::grow_for_tunnel(connection, window);
        }
        if has_windows {
            drop(tokio::task::spawn_local(self.clone().carry_windows()));
        }
    }

    /// Opens the stream of window updates and carries them until the connection ends.
    async fn carry_windows(self) {
        let windows = self.0.windows.clone();
        let ended = match &self.0.transport {
            Transport::Quic(connection) => quic::carry_windows(connection, windows).await,
            Transport::H2(sender) => sender.carry_windows(windows).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "no window updates");
        }
    }

    /// Closes the connection at once; the peer's log shows the reason (QUIC only).
    pub fn close(&self, reason: &str) {
        self.0.health.mark_closed();
        match &self.0.transport {
            Transport::Quic(connection) => connection.close(quinn::VarInt::from_u32(0), reason.as_bytes()),
            Transport::H2(sender) => sender.close(),
        }
    }

    /// Resolves when the connection has ended, with the cause.
    pub async fn closed(&self) -> LinkClosed {
        match &self.0.transport {
            Transport::Quic(connection) => connection.closed().await.into(),
            Transport::H2(sender) => sender.closed().await,
        }
    }

    /// Watches the peer until the connection ends: sets and clears suspicion. Run it on the owning thread.
    pub async fn watch_health(&self) {
        match &self.0.transport {
            Transport::Quic(connection) => self.0.health.watch_quic(connection).await,
            // The HTTP/2 driver measures its own pings.
            Transport::H2(sender) => drop(sender.closed().await),
        }
        self.0.health.mark_closed();
    }

    /// Smoothed round-trip time, where the transport knows it.
    #[must_use]
    pub fn rtt(&self) -> Option<std::time::Duration> {
        match &self.0.transport {
            Transport::Quic(connection) => Some(connection.rtt()),
            Transport::H2(sender) => sender.rtt(),
        }
    }

    fn stalled(&self) -> &stalled::Stalled {
        &self.0.stalled
    }

    fn extensions(&self) -> Extensions {
        self.0.extensions.get().copied().unwrap_or_default()
    }
}

/// Counts one request as in flight for as long as it lives.
#[derive(Debug)]
struct InFlight(Connection);

impl InFlight {
    fn new(connection: &Connection) -> Self {
        connection.0.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(connection.clone())
    }

    /// Resolves when the peer falls silent.
    async fn suspect(&self) {
        self.0.0.health.suspected().await;
    }

    fn extensions(&self) -> Extensions {
        self.0.extensions()
    }

    /// Returns the connection if it has only the transport's windows.
    fn with_fixed_windows(&self) -> Option<Connection> {
        self.windows().is_none().then(|| self.0.clone())
    }

    /// Returns the windows of the connection's streams, where both ends keep them.
    fn windows(&self) -> Option<&Windows> {
        Some(&self.0.0.windows).filter(|_| self.extensions().contains(Extensions::WINDOWS))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let before = self.0.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        if before == 1 && self.0.is_draining() {
            self.0.0.settled.notify_waiters();
        }
    }
}
