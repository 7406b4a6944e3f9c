//! A connection to an edge, for ever: resolve, dial, register, serve, and again when it ends.
//!
//! Nothing here gives up. A tunnel that was deleted at the edge gets a clear message at every attempt, and works by
//! itself once it is there again.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_lifecycle::drain::DrainWatcher;
use adit_tunnel::LinkClosed;
use adit_tunnel::connector::{Handlers, Link, UdpSessions};
use adit_tunnel::control::client::{Control, RegisterFailed};
use adit_tunnel::tls::ConnectorTls;
use adit_wire::credentials::Credentials;
use adit_wire::features::{self, Extensions};
use adit_wire::registration::{ClientInfo, ConnectionOptions, RegisterRequest, TunnelAuth};
use tokio::net::lookup_host;
use tokio::sync::watch;
use uuid::Uuid;

use crate::dialler::Dialler;
pub use crate::dialler::Transport;
use crate::private::udp::{Calls, Sessions as UdpFlows};
use crate::remote::Remote;
use crate::rescue::chain;
use crate::serve::{Load, Place};
use crate::status::LinkStatus;
use crate::{Connector, health};

/// First pause after a failure.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// After the last stream, the edge gets this long to end the connection by itself.
const LINGER: Duration = Duration::from_millis(500);

/// Where to connect, and as whom.
#[derive(Debug)]
pub struct Settings {
    /// Edges as `host:port`; names are resolved at every attempt.
    pub edges: Vec<String>,
    /// The tunnel's credentials.
    pub credentials: Credentials,
    /// How many connections.
    pub connections: u8,
    /// Which transport.
    pub transport: Transport,
    /// Trust.
    pub tls: ConnectorTls,
    /// Local address to dial from.
    pub bind: Option<IpAddr>,
    /// IPv4 only, or IPv6 only.
    pub family: Option<Family>,
    /// Largest pause between attempts.
    pub pause_max: Duration,
    /// Whether only post-quantum key exchange is good enough; the trust says so already.
    pub post_quantum: bool,
    /// Whether UDP sessions use datagrams of version 3.
    pub datagram_v3: bool,
    /// How long a drain may take.
    pub grace: Duration,
    /// Version that the edge is told.
    pub version: String,
    /// Who takes configurations that the edge pushes.
    pub remote: Arc<Remote>,
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    fn has(self, address: &SocketAddr) -> bool {
        (self == Self::V4) == address.is_ipv4()
    }
}

/// What the sessions of one connector share.
pub struct Sessions {
    connector: Arc<Connector>,
    settings: Settings,
    dialler: Dialler,
    /// The configuration that the edge is told, as JSON.
    configuration: watch::Receiver<Vec<u8>>,
}

impl Sessions {
    /// Sessions that tell the edge this configuration, and each new one that is sent.
    #[must_use]
    pub fn new(
        connector: Arc<Connector>,
        settings: Settings,
        configuration: watch::Receiver<Vec<u8>>,
    ) -> Arc<Self> {
        let dialler = Dialler::new(settings.transport, settings.tls.clone(), settings.bind);
        Arc::new(Self { connector, settings, dialler, configuration })
    }

    /// Runs this worker's share of the connections until the drain is done.
    pub async fn run(self: Arc<Self>, worker: usize, workers: usize, drain: DrainWatcher) {
        let place = Place::new(&self.connector);
        if worker == 0 {
            // Ends with the worker.
            drop(tokio::task::spawn_local(health::watch(self.connector.clone())));
        }
        let indices = (0..self.settings.connections).filter(|index| usize::from(*index) % workers == worker);
        let sessions: Vec<_> = indices
            .map(|index| {
                let session =
                    Session { shared: self.clone(), place: place.clone(), index, drain: drain.clone() };
                tokio::task::spawn_local(session.run())
            })
            .collect();
        for session in sessions {
            // A session that panicked has said so.
            drop(session.await);
        }
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("settings", &self.settings).finish_non_exhaustive()
    }
}

struct Session {
    shared: Arc<Sessions>,
    place: Rc<Place>,
    index: u8,
    drain: DrainWatcher,
}

/// Why one attempt ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot resolve the edge {0}")]
    Resolve(String, #[source] std::io::Error),
    #[error(transparent)]
    Dial(#[from] adit_tunnel::connector::DialError),
    #[error(transparent)]
    Register(#[from] RegisterFailed),
    #[error("the connection to the edge ended")]
    Closed(#[from] LinkClosed),
    #[error("drained")]
    Drained,
    #[error("moving to QUIC")]
    Moving,
    #[error("made anew by order")]
    Restarted(Duration),
}

impl Session {
    async fn run(self) {
        let mut backoff = Backoff::new(self.shared.settings.pause_max);
        let mut attempts: u8 = 0;
        loop {
            let attempt = self.attempt(attempts, &mut backoff);
            let ended = tokio::select! {
                ended = attempt => ended,
                () = self.cancelled() => return,
            };
            match ended {
                Ended::Drained => return,
                Ended::Moving => continue,
                Ended::Restarted(pause) => {
                    tracing::info!(
                        connIndex = self.index,
                        ?pause,
                        "Restarting connection due to reconnect signal"
                    );
                    tokio::select! {
                        () = tokio::time::sleep(pause) => continue,
                        () = self.drain.draining() => return,
                    }
                }
                _ if self.drain.is_draining() => return,
                error => tracing::warn!(
                    connIndex = self.index,
                    cause = chain(&error),
                    "connection to the edge failed"
                ),
            }
            attempts = attempts.saturating_add(1);
            self.shared.connector.metrics.reconnects.inc();
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = self.drain.draining() => return,
            }
        }
    }

    /// Resolves when the drain begins before there is a connection to drain; a connection drains by itself.
    async fn cancelled(&self) {
        self.drain.draining().await;
        tokio::time::sleep(self.shared.settings.grace + LINGER).await;
    }

    async fn attempt(&self, attempts: u8, backoff: &mut Backoff) -> Ended {
        match self.connect(attempts).await {
            Ok((link, edge)) => {
                backoff.reset();
                self.serve(link, edge).await
            }
            Err(ended) => ended,
        }
    }

    async fn connect(&self, attempts: u8) -> Result<(Link, SocketAddr), Ended> {
        let edge = self.resolve(attempts).await?;
        let connecting = async {
            let mut link = self.shared.dialler.dial(edge).await?;
            let registered = link.register(&self.registration(attempts)).await;
            self.shared.connector.metrics.registration(registered.is_ok());
            registered.map(|()| (link, edge)).map_err(Ended::from)
        };
        tokio::select! {
            link = connecting => link,
            () = self.drain.draining() => Err(Ended::Drained),
        }
    }

    /// One of the edge's addresses: connections spread over them, and a failed attempt takes the next.
    async fn resolve(&self, attempts: u8) -> Result<SocketAddr, Ended> {
        let turn = usize::from(self.index) + usize::from(attempts);
        let edges = &self.shared.settings.edges;
        let edge = edges.get(turn % edges.len().max(1)).cloned().unwrap_or_default();
        let resolved = lookup_host(&edge).await.map_err(|error| Ended::Resolve(edge.clone(), error))?;
        let family = self.shared.settings.family;
        let addresses: Vec<SocketAddr> =
            resolved.filter(|address| family.is_none_or(|family| family.has(address))).collect();
        let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        let address = addresses.get(usize::from(attempts) % addresses.len().max(1)).copied();
        address.ok_or_else(|| Ended::Resolve(edge, missing()))
    }

    fn registration(&self, attempts: u8) -> RegisterRequest {
        let credentials = &self.shared.settings.credentials;
        // An edge that does not hear this keeps its rules to itself.
        let obedient = self.shared.connector.takes_rules().then_some(features::ALLOW_REMOTE_CONFIG);
        let known = [features::SERIALIZED_HEADERS, features::QUIC_EOF, features::DATAGRAM_V2];
        let newer = self.shared.settings.datagram_v3.then_some(features::DATAGRAM_V3);
        let strict = self.shared.settings.post_quantum.then_some(features::POST_QUANTUM);
        let features = known
            .into_iter()
            .chain(obedient)
            .chain(strict)
            .chain(newer)
            .chain(Extensions::ALL.names())
            .map(str::to_owned)
            .collect();
        RegisterRequest {
            auth: TunnelAuth {
                account_tag: credentials.account_tag.clone(),
                secret: credentials.tunnel_secret.clone(),
            },
            tunnel_id: credentials.tunnel_id,
            conn_index: self.index,
            options: ConnectionOptions {
                client: ClientInfo {
                    client_id: self.shared.connector.id,
                    features,
                    version: self.shared.settings.version.clone(),
                    arch: format!("{}_{}", std::env::consts::OS, std::env::consts::ARCH),
                },
                origin_local_ip: None,
                replace_existing: false,
                compression_quality: 0,
                num_previous_attempts: attempts,
            },
        }
    }

    /// Serves streams until the connection ends or is drained.
    async fn serve(&self, mut link: Link, edge: SocketAddr) -> Ended {
        let (details, protocol) = (link.details().clone(), link.protocol());
        let _registered = Registered::new(
            &self.shared.connector,
            self.index,
            &details.location,
            LinkStatus { protocol, edge, managed: details.remotely_managed },
        );
        tracing::info!(connIndex = self.index, connection = %details.uuid, event = 0, ip = %edge.ip(), location = details.location, %protocol, "Registered tunnel connection");
        self.settle(details.remotely_managed);
        let (remote, connector) = (self.shared.settings.remote.clone(), self.shared.connector.clone());
        let sessions = link.datagrams().map(|datagrams| UdpFlows::new(&self.shared.connector, datagrams));
        link.answer_calls(Handlers {
            configuration: Some(Rc::new(move |version, json| remote.take(&connector, version, json))),
            sessions: sessions.clone().map(|sessions| Rc::new(Calls(sessions)) as Rc<dyn UdpSessions>),
        });
        // Ends with the connection.
        let datagrams = sessions.map(|sessions| tokio::task::spawn_local(sessions.run()));
        let telling = tokio::task::spawn_local(tell(
            link.control(),
            self.shared.configuration.clone(),
            self.shared.connector.clone(),
            details.remotely_managed,
        ));
        let load = Load::default();
        let ended = self.accept(&mut link, &load).await;
        telling.abort();
        link.close("bye");
        if let Some(datagrams) = datagrams {
            datagrams.abort();
        }
        if let Ended::Closed(cause) = &ended {
            tracing::debug!(connIndex = self.index, %cause, "link closed");
        }
        ended
    }

    /// Says whose rules are served on this connection. An edge that holds none leaves what the own side says.
    fn settle(&self, managed: bool) {
        let connector = &self.shared.connector;
        if managed && !connector.takes_rules() {
            tracing::warn!(
                connIndex = self.index,
                "the edge holds rules for this tunnel; they are not taken, because this connector keeps its own"
            );
        }
        if !managed && !connector.status.is_managed() {
            connector.release();
        }
    }

    async fn accept(&self, link: &mut Link, load: &Load) -> Ended {
        let control = link.control();
        let mut leaving = std::pin::pin!(self.leave(&control, load));
        let mut moving = std::pin::pin!(self.may_move(link.protocol()));
        loop {
            tokio::select! {
                biased;
                opening = link.accept() => match opening {
                    Ok(opening) => {
                        self.place.spawn(opening, load);
                        link.make_room(load.count());
                    }
                    Err(_) if self.drain.is_draining() => return Ended::Drained,
                    Err(closed) => return Ended::Closed(closed),
                },
                () = &mut leaving => return Ended::Drained,
                pause = self.shared.connector.restarts.next() => return Ended::Restarted(pause),
                () = &mut moving => return self.move_over(link, load).await,
            }
        }
    }

    /// Resolves when the drain has begun and its last stream is done, or its grace period is over.
    async fn leave(&self, control: &Control, load: &Load) {
        self.drain.draining().await;
        let grace = self.shared.settings.grace;
        let polite = async {
            if let Err(error) = control.unregister(grace).await {
                tracing::debug!(%error, "unregister");
            }
            load.idle().await;
            tokio::time::sleep(LINGER).await;
        };
        if tokio::time::timeout(grace, polite).await.is_err() {
            tracing::warn!(connIndex = self.index, "grace period is over; cutting the streams that are left");
        }
    }

    /// Resolves when QUIC passes again, for a connection that had to take HTTP/2.
    async fn may_move(&self, protocol: adit_tunnel::Protocol) {
        loop {
            let Some(at) = self.shared.dialler.retry_quic_at(protocol) else {
                return std::future::pending().await;
            };
            tokio::time::sleep_until(at.max(Instant::now()).into()).await;
            let Ok(edge) = self.resolve(0).await else { continue };
            if self.shared.dialler.quic_passes(edge).await {
                return;
            }
        }
    }

    /// Finishes what runs on the old connection; the new one is dialled meanwhile by the caller's loop.
    async fn move_over(&self, link: &mut Link, load: &Load) -> Ended {
        let control = link.control();
        let grace = self.shared.settings.grace;
        let mut finishing = std::pin::pin!(async {
            drop(control.unregister(grace).await);
            load.idle().await;
        });
        let deadline = tokio::time::sleep(grace);
        let mut deadline = std::pin::pin!(deadline);
        loop {
            tokio::select! {
                opening = link.accept() => match opening {
                    Ok(opening) => self.place.spawn(opening, load),
                    Err(_) => return Ended::Moving,
                },
                () = &mut finishing => return Ended::Moving,
                () = &mut deadline => return Ended::Moving,
            }
        }
    }
}

/// Tells the edge the configuration, now and whenever it changes. An edge whose rules are served knows them.
async fn tell(
    control: Control,
    mut configuration: watch::Receiver<Vec<u8>>,
    connector: Arc<Connector>,
    managed: bool,
) {
    let metrics = &connector.metrics;
    loop {
        let json = configuration.borrow_and_update().clone();
        let is_known = managed && connector.takes_rules();
        if !json.is_empty() && !is_known {
            metrics.config_pushes.inc();
            if let Err(error) = control.update_local_configuration(&json).await {
                metrics.config_push_errors.inc();
                tracing::warn!(%error, "the edge does not take all of the configuration");
            }
        }
        if configuration.changed().await.is_err() {
            return;
        }
    }
}

/// Counts a registered connection for as long as it lives.
struct Registered {
    connector: Arc<Connector>,
    index: u8,
    _gauges: [adit_telemetry::metrics::GaugeGuard; 2],
}

impl Registered {
    fn new(connector: &Arc<Connector>, index: u8, location: &str, link: LinkStatus) -> Self {
        connector.status.connected(index, link);
        Self { connector: connector.clone(), index, _gauges: connector.metrics.connected(index, location) }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connector.status.disconnected(self.index);
    }
}

/// Pauses between attempts: doubling, with jitter, so that connectors do not come back in step.
#[derive(Debug)]
struct Backoff {
    pause: Duration,
    max: Duration,
}

impl Backoff {
    fn new(max: Duration) -> Self {
        Self { pause: BACKOFF_MIN, max }
    }

    fn reset(&mut self) {
        self.pause = BACKOFF_MIN;
    }

    /// Between half of the present pause and all of it.
    fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (self.pause * 2).min(self.max);
        let random = u32::from_be_bytes(*Uuid::new_v4().as_bytes().first_chunk().unwrap_or(&[0; 4]));
        pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_jitter_and_are_bounded() {
        let max = Duration::from_secs(30);
        let mut backoff = Backoff::new(max);
        let mut expected = BACKOFF_MIN;
        for _ in 0..20 {
            let pause = backoff.next();
            assert!(pause >= expected / 2 && pause <= expected, "{pause:?} of {expected:?}");
            expected = (expected * 2).min(max);
        }
        backoff.reset();
        assert!(backoff.next() <= BACKOFF_MIN);
    }
}
