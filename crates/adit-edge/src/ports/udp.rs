//! Datagrams of a port: a session through the tunnel for each visitor address.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use adit_policy::limits::{UDP_VISITOR_QUEUE, UDP_VISITORS_MAX};
use adit_policy::port::Port;
use adit_telemetry::metrics::GaugeGuard;
use adit_tunnel::edge::{UdpFlow, UdpRefused};
use adit_wire::datagram::PAYLOAD_MAX;
use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::{failed, refused};
use crate::Edge;
use crate::limit::Admitted;
use crate::listener::ACCEPT_PAUSE;
use crate::stream::{self, Stream};
use crate::upstream::{Failed, Unreached};
use crate::worker::Worker;

/// The visitors of one port.
struct Visitors {
    worker: Rc<Worker>,
    socket: UdpSocket,
    port: Arc<Port>,
    known: RefCell<HashMap<SocketAddr, mpsc::Sender<Bytes>>>,
}

/// Serves a port for ever.
pub(super) async fn serve(worker: Rc<Worker>, socket: UdpSocket, port: Arc<Port>) {
    let visitors = Rc::new(Visitors { worker, socket, port, known: RefCell::default() });
    // A session ends with the port.
    let mut sessions = tokio::task::JoinSet::new();
    let mut buffer = vec![0; PAYLOAD_MAX + 1];
    loop {
        tokio::select! {
            received = visitors.socket.recv_from(&mut buffer) => match received {
                // What is larger has no place in a datagram of the tunnel.
                Ok((length, _)) if length > PAYLOAD_MAX => drop(visitors.edge().metrics.port_dropped.inc()),
                Ok((length, remote)) => {
                    let data = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                    if let Some(session) = visitors.clone().take(remote, data) {
                        sessions.spawn_local(session);
                    }
                }
                // An answer that nobody wanted comes back as an error of the socket.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot receive");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

impl Visitors {
    fn edge(&self) -> &Edge {
        &self.worker.edge
    }

    /// Gives bytes to the visitor's session. A new visitor gets one, which is to be run.
    fn take(self: Rc<Self>, remote: SocketAddr, data: Bytes) -> Option<impl Future<Output = ()>> {
        if let Some(session) = self.known.borrow().get(&remote) {
            if session.try_send(data).is_err() {
                self.edge().metrics.port_dropped.inc();
            }
            return None;
        }
        let mut admitted = self.admit(remote)?;
        let (sender, receiver) = mpsc::channel(UDP_VISITOR_QUEUE);
        // A fresh queue has room.
        drop(sender.try_send(data));
        self.known.borrow_mut().insert(remote, sender);
        Some(async move {
            let _ticket = admitted.take_ticket();
            let _counted = GaugeGuard::new(self.edge().metrics.port_sessions.clone());
            self.session(&admitted, remote, receiver).await;
            self.known.borrow_mut().remove(&remote);
        })
    }

    /// Whether a new address gets a session. Nothing that is dropped is answered.
    fn admit(&self, remote: SocketAddr) -> Option<Admitted<Stream>> {
        let is_full = self.known.borrow().len() >= UDP_VISITORS_MAX;
        let admitted = (!is_full).then(|| stream::admit_port(&self.worker, remote.ip(), &self.port));
        match admitted {
            Some(Ok(admitted)) => return Some(admitted),
            Some(Err(problem)) => refused(remote, &self.port, &problem),
            None => {}
        }
        self.edge().metrics.port_dropped.inc();
        None
    }

    /// Carries one visitor's bytes until both sides have been silent for too long.
    async fn session(
        &self,
        admitted: &Admitted<Stream>,
        remote: SocketAddr,
        mut from_visitor: mpsc::Receiver<Bytes>,
    ) {
        let (port, idle) = (&self.port, self.port.idle_timeout);
        let opened = stream::open(admitted, async |session| {
            let opened = session.connection.open_udp(port.to, idle).await;
            opened.map_err(|error| Failed { may_repeat: matches!(error, UdpRefused::Transport), error })
        });
        let mut flow = match opened.await {
            Ok(flow) => flow,
            Err(Unreached::NoConnection) => {
                let cause = "no connection of the tunnel is there that carries UDP";
                return failed(self.edge(), remote, port, cause);
            }
            Err(error) => return failed(self.edge(), remote, port, &error.to_string()),
        };
        loop {
            let moved = tokio::select! {
                data = from_visitor.recv() => data.map(|data| self.up(&flow, &data)),
                data = flow.next() => data.map(|data| self.down(remote, &data)),
                () = tokio::time::sleep(idle) => None,
            };
            if moved.is_none() {
                return;
            }
        }
    }

    fn up(&self, flow: &UdpFlow, data: &[u8]) {
        if !flow.send(data) {
            self.edge().metrics.port_dropped.inc();
        }
    }

    /// What the socket does not take is lost, as UDP may lose it.
    fn down(&self, remote: SocketAddr, data: &[u8]) {
        if self.socket.try_send_to(data, remote).is_err() {
            self.edge().metrics.port_dropped.inc();
        }
    }
}
