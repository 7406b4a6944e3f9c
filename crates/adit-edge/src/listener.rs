//! Sockets: everything is bound before anything is served; connections are dealt to the worker that has fewest.
//!
//! One task accepts for all workers. The kernel's own dealing (SO_REUSEPORT) is lopsided with few connections, and for
//! QUIC it would lose connections whose address changes.

mod bind;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adit_lifecycle::drain::DrainWatcher;
use adit_policy::limits;
use adit_policy::port::Port;
use adit_tunnel::quic;
use adit_tunnel::tls::EdgeTls;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use crate::complaints::Complaints;
use crate::reception::Reception;
use crate::worker::Worker;
use crate::{Edge, ports};

pub use bind::{Addresses, BindError, Bound};
pub(crate) use bind::{PortSocket, bind_port};

/// Connections that wait for their worker.
const DEALT_MAX: usize = 1024;
/// Pause after an accept that failed, as when file descriptors ran out.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Pause between two looks for quick tunnels that nobody runs.
const FORGET_PAUSE: Duration = Duration::from_secs(60);

/// Something that a worker is to serve.
pub(crate) enum Dealt {
    Https(StdStream, SocketAddr),
    Http(StdStream, SocketAddr),
    Tunnel(StdStream, SocketAddr),
    /// A tunnel, or HTTP/3 where visitors come; whether it is such a place.
    Quic(Box<quinn::Incoming>, bool),
    Port(StdStream, SocketAddr, Arc<Port>),
}

/// Counts one connection as held for as long as it lives, also when its task panics.
pub(crate) struct Held(pub(crate) Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a TCP listener's connections are for.
type Kind = fn(StdStream, SocketAddr) -> Dealt;

/// A worker's hand: what was dealt to it, and how much it holds.
#[derive(Clone)]
struct Hand {
    sender: mpsc::Sender<Dealt>,
    holds: Arc<AtomicUsize>,
}

/// Deals connections to the hands.
#[derive(Clone)]
struct Dealer(Arc<Vec<Hand>>);

impl Dealer {
    /// Gives a connection to the worker that holds fewest. At the limit it is dropped: to wait would not make room.
    fn deal(&self, dealt: Dealt) {
        let hand = self.0.iter().min_by_key(|hand| hand.holds.load(Ordering::Relaxed));
        let room = |hand: &&Hand| hand.holds.load(Ordering::Relaxed) < limits::CONNECTIONS_PER_WORKER_MAX;
        if let Some(hand) = hand.filter(room) {
            hand.holds.fetch_add(1, Ordering::Relaxed);
            if hand.sender.try_send(dealt).is_err() {
                hand.holds.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// One worker's part of the listeners.
pub struct Table {
    edge: Arc<Edge>,
    hand: mpsc::Receiver<Dealt>,
    holds: Arc<AtomicUsize>,
    /// Only the first worker accepts.
    accepts: Option<(Bound, Dealer)>,
    tunnel_tls: EdgeTls,
    /// QUIC handshakes that have not come to an end, on all workers.
    handshakes: Arc<AtomicUsize>,
    workers: usize,
}

/// Lays a table for each worker.
#[must_use]
pub fn tables(edge: &Arc<Edge>, bound: Bound, tunnel_tls: &EdgeTls, workers: usize) -> Vec<Table> {
    let (hands, receivers): (Vec<_>, Vec<_>) = (0..workers)
        .map(|_| {
            let (sender, receiver) = mpsc::channel(DEALT_MAX);
            (Hand { sender, holds: Arc::default() }, receiver)
        })
        .unzip();
    let dealer = Dealer(Arc::new(hands.clone()));
    let mut accepts = Some((bound, dealer));
    let handshakes: Arc<AtomicUsize> = Arc::default();
    let table = |(hand, receiver): (Hand, _)| Table {
        edge: edge.clone(),
        hand: receiver,
        holds: hand.holds,
        accepts: accepts.take(),
        tunnel_tls: tunnel_tls.clone(),
        handshakes: handshakes.clone(),
        workers,
    };
    hands.into_iter().zip(receivers).map(table).collect()
}

impl Table {
    /// Serves until the drain begins, then until running requests are done.
    pub async fn serve(mut self, worker: usize, drain: DrainWatcher) {
        let worker = Rc::new(Worker::new(self.edge.clone(), worker, self.workers));
        let swept = worker.clone();
        // Ends with the worker.
        drop(spawn_local(async move { swept.sweep().await }));
        if let Some((bound, dealer)) = self.accepts.take() {
            open_ports(worker.clone(), dealer.clone(), drain.clone());
            spawn_local(forget_guests(self.edge.clone()));
            if let Err(error) = self.accept_all(bound, &dealer, &drain) {
                tracing::error!(%error, "cannot serve the listeners");
                return;
            }
        }
        let reception = Rc::new(Reception {
            worker,
            edge: self.edge,
            holds: self.holds,
            handshakes: self.handshakes,
            tunnel_tls: TlsAcceptor::from(self.tunnel_tls.tcp),
            drain: drain.clone(),
        });
        loop {
            tokio::select! {
                biased;
                dealt = self.hand.recv() => match dealt {
                    Some(dealt) => drop(spawn_local(reception.clone().take(dealt))),
                    None => break,
                },
                () = drain.draining() => break,
            }
        }
    }

    /// Starts a task for each socket. They live on the first worker and end with the drain.
    fn accept_all(&self, bound: Bound, dealer: &Dealer, drain: &DrainWatcher) -> io::Result<()> {
        let kinds: [(Vec<StdListener>, Kind); 3] =
            [(bound.https, Dealt::Https), (bound.http, Dealt::Http), (bound.tunnel, Dealt::Tunnel)];
        for (listeners, kind) in kinds {
            for listener in listeners {
                let listener = TcpListener::from_std(listener)?;
                let (dealer, drain) = (dealer.clone(), drain.clone());
                spawn_local(async move {
                    let deal = |stream, remote| dealer.deal(kind(stream, remote));
                    tokio::select! {
                        () = accept_tcp(listener, deal) => {}
                        () = drain.draining() => {}
                    }
                });
            }
        }
        for socket in bound.tunnel_udp {
            let endpoint = quic::server(socket, self.tunnel_tls.quic.clone())?;
            spawn_local(accept_udp(endpoint, dealer.clone(), self.handshakes.clone(), false));
        }
        let shared = Arc::new(self.edge.tls.quic(&self.tunnel_tls.quic).map_err(io::Error::other)?);
        for socket in bound.https_udp {
            let endpoint = quic::public_server(socket, shared.clone())?;
            spawn_local(accept_udp(endpoint, dealer.clone(), self.handshakes.clone(), true));
        }
        Ok(())
    }
}

/// Quick tunnels that nobody runs are forgotten, for ever.
async fn forget_guests(edge: Arc<Edge>) {
    loop {
        tokio::time::sleep(FORGET_PAUSE).await;
        edge.registry.forget_guests(std::time::Instant::now());
        edge.capacity.sweep(std::time::Instant::now());
    }
}

/// Ports open and close with the configuration, and end with the drain.
fn open_ports(worker: Rc<Worker>, dealer: Dealer, drain: DrainWatcher) {
    let deal: ports::Deal =
        Arc::new(move |stream, remote, port| dealer.deal(Dealt::Port(stream, remote, port)));
    spawn_local(async move {
        tokio::select! {
            () = ports::run(worker, deal) => {}
            () = drain.draining() => {}
        }
    });
}

/// Accepts for ever. An error that lasts, as when descriptors are used up, is written once in a while.
pub(crate) async fn accept_tcp(listener: TcpListener, deal: impl Fn(StdStream, SocketAddr)) {
    let complaints = Complaints::default();
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                if let Ok(stream) = stream.into_std() {
                    deal(stream, remote);
                }
            }
            Err(error) => {
                if complaints.may() {
                    tracing::warn!(%error, "cannot accept");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Accepts for ever. Under load a stranger proves first that he gets packets at his address, which costs nothing here
/// (RFC 9000, section 8.1.2).
async fn accept_udp(
    endpoint: quinn::Endpoint,
    dealer: Dealer,
    handshakes: Arc<AtomicUsize>,
    is_public: bool,
) {
    while let Some(incoming) = endpoint.accept().await {
        let under_load = handshakes.load(Ordering::Relaxed) >= limits::QUIC_HANDSHAKES_BEFORE_RETRY;
        if under_load && incoming.may_retry() {
            // It can only fail for one that has proven it already.
            drop(incoming.retry());
            continue;
        }
        dealer.deal(Dealt::Quic(Box::new(incoming), is_public));
    }
}
