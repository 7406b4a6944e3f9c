//! Which transport to dial an edge with: QUIC first, HTTP/2 where UDP does not pass, and QUIC again later.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use adit_tunnel::Protocol;
use adit_tunnel::connector::{Dial, DialError, Link, dial};
use adit_tunnel::tls::ConnectorTls;

/// What the operator wants (cloudflared's `protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// QUIC, and HTTP/2 where it does not pass.
    #[default]
    Auto,
    /// This one only.
    Only(Protocol),
}

/// Budget for transport and TLS handshake.
const DIAL_TIMEOUT: Duration = Duration::from_secs(8);
/// Head start of QUIC. A handshake takes one round trip; after this the other one runs beside it.
const QUIC_HEAD_START: Duration = Duration::from_millis(2_500);
/// First pause before QUIC is tried again after HTTP/2 won.
const RETRY_QUIC_AFTER: Duration = Duration::from_secs(60);
/// The pause doubles up to this.
const RETRY_QUIC_AFTER_MAX: Duration = Duration::from_secs(30 * 60);

/// What all connections of a connector have learned about the way to their edges.
#[derive(Debug)]
pub(crate) struct Dialler {
    transport: Transport,
    tls: ConnectorTls,
    bind: Option<std::net::IpAddr>,
    quic: Mutex<Experience>,
}

/// Whether QUIC passes, as far as we know.
#[derive(Debug, Clone, Copy)]
struct Experience {
    /// Until when it is not tried; `None` while it works.
    blocked_until: Option<Instant>,
    pause: Duration,
}

impl Dialler {
    pub(crate) fn new(transport: Transport, tls: ConnectorTls, bind: Option<std::net::IpAddr>) -> Self {
        let quic = Mutex::new(Experience { blocked_until: None, pause: RETRY_QUIC_AFTER });
        Self { transport, tls, bind, quic }
    }

    /// Dials an edge by the best transport.
    ///
    /// # Errors
    /// What the last transport that was tried says.
    pub(crate) async fn dial(&self, edge: SocketAddr) -> Result<Link, DialError> {
        match self.transport {
            Transport::Only(protocol) => self.by(edge, protocol).await,
            Transport::Auto if self.quic_is_blocked(Instant::now()) => self.by(edge, Protocol::Http2).await,
            Transport::Auto => self.race(edge).await,
        }
    }

    /// When a connection on HTTP/2 should try to move to QUIC; `None` when it need not.
    pub(crate) fn retry_quic_at(&self, protocol: Protocol) -> Option<Instant> {
        let auto = self.transport == Transport::Auto && protocol == Protocol::Http2;
        auto.then(|| self.experience().blocked_until).flatten()
    }

    /// Whether QUIC passes again.
    pub(crate) async fn quic_passes(&self, edge: SocketAddr) -> bool {
        let passed = self.by(edge, Protocol::Quic).await;
        match passed {
            Ok(mut link) => {
                link.close("probe");
                self.quic_works();
                true
            }
            Err(_) => {
                self.quic_fails(Instant::now());
                false
            }
        }
    }

    async fn by(&self, edge: SocketAddr, protocol: Protocol) -> Result<Link, DialError> {
        let way = Dial { edge, protocol, bind: self.bind, tls: self.tls.clone(), timeout: DIAL_TIMEOUT };
        dial(&way).await
    }

    async fn race(&self, edge: SocketAddr) -> Result<Link, DialError> {
        let mut quic = std::pin::pin!(self.by(edge, Protocol::Quic));
        tokio::select! {
            biased;
            linked = &mut quic => match linked {
                Ok(link) => {
                    self.quic_works();
                    return Ok(link);
                }
                Err(error) => {
                    tracing::debug!(%edge, %error, "QUIC failed; trying HTTP/2");
                    return self.fall_back(edge, error).await;
                }
            },
            () = tokio::time::sleep(QUIC_HEAD_START) => {}
        }
        let mut h2 = std::pin::pin!(self.by(edge, Protocol::Http2));
        tokio::select! {
            biased;
            Ok(link) = &mut quic => {
                self.quic_works();
                Ok(link)
            }
            Ok(link) = &mut h2 => {
                self.http2_won(edge);
                Ok(link)
            }
            else => self.by(edge, Protocol::Http2).await,
        }
    }

    /// A certificate that is refused on one transport is refused on the other; everything else may be the network's.
    async fn fall_back(&self, edge: SocketAddr, error: DialError) -> Result<Link, DialError> {
        match self.by(edge, Protocol::Http2).await {
            Ok(link) => {
                self.http2_won(edge);
                Ok(link)
            }
            Err(_) => Err(error),
        }
    }

    fn http2_won(&self, edge: SocketAddr) {
        tracing::warn!(%edge, "UDP does not pass to the edge; using HTTP/2 on TCP, and trying QUIC again later");
        self.quic_fails(Instant::now());
    }

    fn quic_works(&self) {
        *self.experience_mut() = Experience { blocked_until: None, pause: RETRY_QUIC_AFTER };
    }

    fn quic_fails(&self, now: Instant) {
        let mut experience = self.experience_mut();
        if experience.blocked_until.is_none_or(|until| until <= now) {
            experience.blocked_until = Some(now + experience.pause);
            experience.pause = (experience.pause * 2).min(RETRY_QUIC_AFTER_MAX);
        }
    }

    fn quic_is_blocked(&self, now: Instant) -> bool {
        self.experience().blocked_until.is_some_and(|until| now < until)
    }

    fn experience(&self) -> Experience {
        *self.experience_mut()
    }

    fn experience_mut(&self) -> std::sync::MutexGuard<'_, Experience> {
        self.quic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
