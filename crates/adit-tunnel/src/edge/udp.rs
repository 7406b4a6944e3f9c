//! UDP through the tunnel: sessions that the edge opens on a connection, with their bytes in datagrams.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use adit_wire::datagram::{self, Datagram, Outcome, Version};
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use super::{Connection, Transport};
use crate::control::sessions::{self, UdpSessions};
use crate::datagrams::Datagrams;
use crate::limits::{RPC_TIMEOUT, UDP_QUEUE, UDP_REGISTER_ATTEMPTS};

/// What a connection knows of its sessions.
#[derive(Debug, Default)]
pub(super) struct Flows {
    version: OnceLock<Version>,
    /// Told when the version is known.
    known: Notify,
    open: Mutex<HashMap<Uuid, mpsc::Sender<Bytes>>>,
    asked: Mutex<HashMap<Uuid, oneshot::Sender<Outcome>>>,
}

/// A session could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UdpRefused {
    /// The transport carries no datagrams.
    #[error("this connection carries no UDP: it is on HTTP/2")]
    Transport,
    /// The connector said no, or nothing.
    #[error("{0}")]
    Connector(String),
}

/// An open session. It ends when it is dropped.
#[derive(Debug)]
pub struct UdpFlow {
    id: Uuid,
    connection: Connection,
    datagrams: Datagrams,
    received: mpsc::Receiver<Bytes>,
}

impl Flows {
    fn open(&self) -> MutexGuard<'_, HashMap<Uuid, mpsc::Sender<Bytes>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<Uuid, oneshot::Sender<Outcome>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, datagram: Datagram) {
        match datagram {
            Datagram::Payload { id, data } => {
                if let Some(flow) = self.open().get(&id) {
                    // A reader that is too slow loses bytes, as on any UDP socket.
                    drop(flow.try_send(data));
                }
            }
            Datagram::Registered { id, outcome } => {
                if let Some(asked) = self.asked().remove(&id) {
                    // Who asked may have given up.
                    drop(asked.send(outcome));
                }
            }
            Datagram::Register { .. } | Datagram::Other => {}
        }
    }

    fn close(&self, id: Uuid) {
        self.open().remove(&id);
        self.asked().remove(&id);
    }
}

impl Connection {
    /// Records which datagrams the connector speaks. The first word counts.
    pub fn set_datagrams(&self, version: Version) {
        self.0.flows.version.get_or_init(|| version);
        self.0.flows.known.notify_waiters();
    }

    /// Whether UDP sessions can be opened on it.
    #[must_use]
    pub fn carries_udp(&self) -> bool {
        matches!(self.0.transport, Transport::Quic(_)) && self.0.flows.version.get().is_some()
    }

    fn datagrams(&self) -> Option<Datagrams> {
        let Transport::Quic(connection) = &self.0.transport else { return None };
        Some(Datagrams::new(connection.clone(), *self.0.flows.version.get()?))
    }

    /// Opens a session to an address of the connector's network; the connector decides whether it may go there. `idle`
    /// is the silence after which the connector ends it.
    ///
    /// # Errors
    /// [`UdpRefused`] with the connector's words, where it has any.
    pub async fn open_udp(&self, to: SocketAddr, idle: Duration) -> Result<UdpFlow, UdpRefused> {
        let datagrams = self.datagrams().ok_or(UdpRefused::Transport)?;
        let id = Uuid::new_v4();
        let (sender, received) = mpsc::channel(UDP_QUEUE);
        self.0.flows.open().insert(id, sender);
        // From here on, dropping it cleans up.
        let flow = UdpFlow { id, connection: self.clone(), datagrams, received };
        flow.register(to, idle).await?;
        Ok(flow)
    }

    /// Hands datagrams to their sessions until the connection ends. Never resolves on a transport without datagrams.
    /// Run it on the owning thread.
    pub async fn serve_datagrams(&self) {
        loop {
            // The version comes with the registration.
            let known = self.0.flows.known.notified();
            let Some(datagrams) = self.datagrams() else {
                known.await;
                continue;
            };
            while let Ok(datagram) = datagrams.next().await {
                self.0.flows.take(datagram);
            }
            return;
        }
    }

    /// The connector's own streams end sessions.
    pub(super) fn sessions(&self) -> Rc<dyn UdpSessions> {
        Rc::new(Ends(self.clone()))
    }
}

/// The edge's answers to the connector's calls: it opens no sessions for anybody.
struct Ends(Connection);

impl UdpSessions for Ends {
    fn register(&self, _: Uuid, _: SocketAddr, _: Duration) -> Result<(), String> {
        Err("an edge opens no sessions for its connectors".to_owned())
    }

    fn unregister(&self, id: Uuid) {
        self.0.0.flows.close(id);
    }
}

impl UdpFlow {
    /// Sends bytes. Whether they left: they may be too many for the path.
    #[must_use]
    pub fn send(&self, data: &[u8]) -> bool {
        self.datagrams.send(self.id, data)
    }

    /// The next bytes; `None` when the connector has ended the session, or the connection is gone.
    pub async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            data = self.received.recv() => data,
            _ = self.connection.closed() => None,
        }
    }

    async fn register(&self, to: SocketAddr, idle: Duration) -> Result<(), UdpRefused> {
        match self.datagrams.version() {
            Version::V2 => sessions::call_register(&self.datagrams.connection, self.id, to, idle)
                .await
                .map_err(UdpRefused::Connector),
            Version::V3 => self.register_v3(to, idle).await,
        }
    }

    /// Asking is a datagram too, which may be lost: it is repeated.
    async fn register_v3(&self, to: SocketAddr, idle: Duration) -> Result<(), UdpRefused> {
        let refused = |text: &str| Err(UdpRefused::Connector(text.to_owned()));
        for _ in 0..UDP_REGISTER_ATTEMPTS {
            let (asked, answer) = oneshot::channel();
            self.connection.0.flows.asked().insert(self.id, asked);
            // Lost or not sent: the next attempt is the same.
            let _sent = self.datagrams.send_raw(datagram::register(self.id, to, idle));
            match timeout(RPC_TIMEOUT / UDP_REGISTER_ATTEMPTS, answer).await {
                Ok(Ok(Outcome::Open)) => return Ok(()),
                Ok(Ok(Outcome::Unreachable)) => return refused("the destination cannot be reached"),
                Ok(Ok(Outcome::NoSocket)) => return refused("the connector has no socket for it"),
                Ok(Ok(Outcome::TooMany)) => return refused("the connector has too many sessions"),
                Ok(Ok(Outcome::Failed(text))) => return refused(&text),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        refused("no answer in time")
    }
}

impl Drop for UdpFlow {
    fn drop(&mut self) {
        let open = self.connection.0.flows.open().contains_key(&self.id);
        self.connection.0.flows.close(self.id);
        if open {
            self.datagrams.end_session(self.id, "the visitor is gone");
        }
    }
}
