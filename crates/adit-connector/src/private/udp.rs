//! UDP sessions of one connection: a socket each, and datagrams between it and the edge (cloudflared:
//! `datagramsession/`, `quic/v3/`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit_policy::ingress::destination_of;
use adit_telemetry::metrics::GaugeGuard;
use adit_tunnel::connector::UdpSessions;
use adit_tunnel::datagrams::Datagrams;
use adit_wire::datagram::{Datagram, Outcome, PAYLOAD_MAX, registered};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::{Flow, NotOffered, offer};
use crate::Connector;
use crate::idle::Idle;

/// Silence that ends a session where the edge does not say (cloudflared's default).
const IDLE: Duration = Duration::from_secs(210);
/// Longer silences than this are not borne: sessions would pile up.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// The sessions of one connection. They end with it.
pub(crate) struct Sessions {
    connector: Arc<Connector>,
    datagrams: Datagrams,
    open: RefCell<HashMap<Uuid, Session>>,
}

struct Session {
    to: SocketAddr,
    socket: Rc<Socket>,
    reading: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// A session's socket, and its silence.
struct Socket {
    udp: UdpSocket,
    idle: Idle,
    _flow: Flow,
    _counted: GaugeGuard,
}

/// A session could not be opened.
#[derive(Debug, thiserror::Error)]
enum NotOpened {
    #[error(transparent)]
    NotOffered(#[from] NotOffered),
    #[error("no socket towards {0}: {1}")]
    Socket(SocketAddr, std::io::Error),
}

impl NotOpened {
    fn outcome(&self) -> Outcome {
        match self {
            Self::NotOffered(NotOffered::NotAllowed(_)) => Outcome::Failed(self.to_string()),
            Self::NotOffered(NotOffered::TooMany(_)) => Outcome::TooMany,
            Self::Socket(..) => Outcome::NoSocket,
        }
    }
}

impl Sessions {
    /// No sessions yet.
    pub(crate) fn new(connector: &Arc<Connector>, datagrams: Datagrams) -> Rc<Self> {
        Rc::new(Self { connector: connector.clone(), datagrams, open: RefCell::default() })
    }

    /// Takes datagrams until the connection ends.
    pub(crate) async fn run(self: Rc<Self>) {
        while let Ok(datagram) = self.datagrams.next().await {
            match datagram {
                Datagram::Payload { id, data } => self.pass_on(id, &data),
                Datagram::Register { id, to, idle } => self.answer(id, to, idle),
                Datagram::Registered { .. } | Datagram::Other => {}
            }
        }
        self.open.borrow_mut().clear();
    }

    /// Bytes of unknown sessions are dropped in silence, as cloudflared does.
    fn pass_on(&self, id: Uuid, data: &[u8]) {
        if let Some(session) = self.open.borrow().get(&id) {
            session.socket.idle.touch();
            // What the socket does not take now is lost, as UDP may lose it.
            if session.socket.udp.try_send(data).is_err() {
                self.connector.metrics.udp_dropped.inc();
            }
        }
    }

    /// Version 3: the question may come twice, and the answer is the same.
    fn answer(self: &Rc<Self>, id: Uuid, to: SocketAddr, idle: Duration) {
        let known = self.open.borrow().get(&id).is_some_and(|session| session.to == to);
        let outcome = match known {
            true => Outcome::Open,
            false => self.open(id, to, idle).map_or_else(|error| error.outcome(), |()| Outcome::Open),
        };
        // A lost answer is asked for again.
        let _sent = self.datagrams.send_raw(registered(id, &outcome));
    }

    fn open(self: &Rc<Self>, id: Uuid, to: SocketAddr, idle: Duration) -> Result<(), NotOpened> {
        let opened = self.try_open(id, to, idle);
        match &opened {
            Ok(()) => tracing::debug!(session = %id, %to, "UDP session opened"),
            Err(error) => tracing::warn!(session = %id, %to, cause = %error, "UDP session refused"),
        }
        opened
    }

    fn try_open(self: &Rc<Self>, id: Uuid, to: SocketAddr, idle: Duration) -> Result<(), NotOpened> {
        let dialled = destination_of(to);
        let flow = offer(&self.connector, dialled)?;
        let udp = bind(dialled).map_err(|error| NotOpened::Socket(to, error))?;
        let metrics = &self.connector.metrics;
        metrics.udp_total.inc();
        let idle = if idle.is_zero() { IDLE } else { idle.min(IDLE_MAX) };
        let socket = Rc::new(Socket {
            udp,
            idle: Idle::new(idle),
            _flow: flow,
            _counted: GaugeGuard::new(metrics.udp_active.clone()),
        });
        let (sessions, read) = (Rc::downgrade(self), socket.clone());
        let datagrams = self.datagrams.clone();
        let reading = tokio::task::spawn_local(async move {
            carry_back(id, &read, &datagrams).await;
            if let Some(sessions) = sessions.upgrade() {
                sessions.ended(id);
            }
        });
        self.open.borrow_mut().insert(id, Session { to, socket, reading: reading.abort_handle() });
        Ok(())
    }

    /// A session ended by itself.
    fn ended(&self, id: Uuid) {
        let session = self.open.borrow_mut().remove(&id);
        if session.is_some() {
            tracing::debug!(session = %id, "UDP session ended: idle");
            self.datagrams.end_session(id, "idle");
        }
    }
}

impl UdpSessions for Calls {
    fn register(&self, id: Uuid, to: SocketAddr, idle: Duration) -> Result<(), String> {
        self.0.open(id, to, idle).map_err(|error| error.to_string())
    }

    fn unregister(&self, id: Uuid) {
        self.0.open.borrow_mut().remove(&id);
    }
}

/// The same sessions, as calls of the edge reach them (version 2).
pub(crate) struct Calls(pub(crate) Rc<Sessions>);

fn bind(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = StdSocket::bind(any)?;
    // Only its answers are heard.
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Bytes from the socket to the edge, until nothing has moved in either direction for too long.
async fn carry_back(id: Uuid, socket: &Socket, datagrams: &Datagrams) {
    let mut buffer = vec![0; PAYLOAD_MAX + 1];
    loop {
        tokio::select! {
            received = socket.udp.recv(&mut buffer) => {
                // "Connection refused": nobody listens there now; somebody may later.
                let Ok(length) = received else { continue };
                socket.idle.touch();
                // Too large for a datagram, or a full queue: lost, as UDP may lose it.
                let _sent = datagrams.send(id, buffer.get(..length).unwrap_or_default());
            }
            _ = socket.idle.expired() => return,
        }
    }
}
