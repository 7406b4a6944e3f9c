//! Sockets: everything is bound before anything is served; connections are dealt to the worker that has fewest.
//!
//! One task accepts for all workers. The kernel's own dealing (SO_REUSEPORT) is lopsided with few connections, and for
//! QUIC it would lose connections whose address changes.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adit_lifecycle::drain::DrainWatcher;
use adit_policy::limits;
use adit_policy::port::{Port, PortProtocol};
use adit_telemetry::metrics::GaugeGuard;
use adit_tunnel::edge::{accept_h2, accept_quic};
use adit_tunnel::tls::EdgeTls;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use crate::serve::{Visitor, serve};
use crate::worker::Worker;
use crate::{Edge, join, ports, tls};

/// How often a port that is free on TCP and on UDP is looked for, where any will do.
const PORT_ATTEMPTS: usize = 20;
/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 4096;
/// Connections that wait for their worker.
const DEALT_MAX: usize = 1024;
/// Pause after an accept that failed, as when file descriptors ran out.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Pause between two looks for quick tunnels that nobody runs.
const FORGET_PAUSE: Duration = Duration::from_secs(60);

/// Which addresses to listen on.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// HTTPS, and tunnels by SNI and ALPN.
    pub https: Vec<SocketAddr>,
    /// Plain HTTP.
    pub http: Vec<SocketAddr>,
    /// Tunnels: UDP and TCP.
    pub tunnel: Vec<SocketAddr>,
}

/// Sockets that are bound and not served yet.
#[derive(Debug)]
pub struct Bound {
    https: Vec<StdListener>,
    http: Vec<StdListener>,
    tunnel: Vec<StdListener>,
    quic: Vec<UdpSocket>,
}

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({what}): {hint}")]
pub struct BindError {
    what: &'static str,
    address: SocketAddr,
    hint: String,
    source: io::Error,
}

impl Addresses {
    /// Binds everything.
    ///
    /// # Errors
    /// [`BindError`] names the first address that is not to be had.
    pub fn bind(&self) -> Result<Bound, BindError> {
        let all = self.https.iter().chain(&self.http).chain(&self.tunnel);
        let attempts = if all.into_iter().any(|address| address.port() == 0) { PORT_ATTEMPTS } else { 1 };
        // The free port that TCP got may be taken on UDP: then another one is.
        let taken = |bound: &Result<Bound, BindError>| {
            bound.as_ref().is_err_and(|error| error.source.kind() == io::ErrorKind::AddrInUse)
        };
        let mut bound = self.bind_once();
        for _ in 1..attempts {
            if !taken(&bound) {
                break;
            }
            bound = self.bind_once();
        }
        bound
    }

    fn bind_once(&self) -> Result<Bound, BindError> {
        let tcp = |what, addresses: &[SocketAddr]| -> Result<Vec<_>, BindError> {
            addresses
                .iter()
                .map(|address| {
                    let only_v6 = shares_port(*address, addresses);
                    bind_tcp(*address, only_v6).map_err(|error| failed(what, *address, error))
                })
                .collect()
        };
        let tunnel = tcp("tunnel", &self.tunnel)?;
        let https = tcp("https", &self.https)?;
        // Port 0 of UDP follows the TCP listener beside it: a tunnel has one port number.
        let beside = tunnel.iter().chain(&https).filter_map(|listener| listener.local_addr().ok());
        let beside: Vec<SocketAddr> = beside.collect();
        let udp = |address: &SocketAddr| {
            let socket = adit_tunnel::quic::bind_udp(*address, shares_port(*address, &beside));
            socket.map_err(|error| failed("tunnel, udp", *address, error))
        };
        let quic = beside.iter().map(udp).collect::<Result<_, _>>()?;
        Ok(Bound { https, http: tcp("http", &self.http)?, tunnel, quic })
    }
}

/// The socket of a port without HTTP.
pub(crate) struct BoundPort {
    /// The address in fact.
    pub(crate) address: SocketAddr,
    pub(crate) socket: PortSocket,
}

/// Of which kind it is.
pub(crate) enum PortSocket {
    Tcp(TcpListener),
    Udp(tokio::net::UdpSocket),
}

/// Binds the socket of a port.
///
/// # Errors
/// [`BindError`] when the address is not to be had.
pub(crate) fn bind_port(port: &Port) -> Result<BoundPort, BindError> {
    let failed = |error| failed("port", port.listen, error);
    Ok(match port.protocol {
        PortProtocol::Tcp => {
            let listener = bind_tcp(port.listen, false).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            BoundPort { address, socket: PortSocket::Tcp(TcpListener::from_std(listener).map_err(failed)?) }
        }
        PortProtocol::Udp => {
            let socket = adit_tunnel::quic::bind_udp(port.listen, false).map_err(failed)?;
            let address = socket.local_addr().map_err(failed)?;
            let socket = tokio::net::UdpSocket::from_std(socket).map_err(failed)?;
            BoundPort { address, socket: PortSocket::Udp(socket) }
        }
    })
}

fn failed(what: &'static str, address: SocketAddr, source: io::Error) -> BindError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it, or choose another address".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => source.to_string(),
    };
    BindError { what, address, hint, source }
}

/// Whether an IPv4 listener has the same port: then an IPv6 wildcard must leave IPv4 to it.
fn shares_port(address: SocketAddr, beside: &[SocketAddr]) -> bool {
    address.port() != 0 && beside.iter().any(|other| other.is_ipv4() && other.port() == address.port())
}

fn bind_tcp(address: SocketAddr, only_v6: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl Bound {
    /// The addresses in fact: port 0 has become a number.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let local = |listeners: &[StdListener]| {
            listeners.iter().filter_map(|socket| socket.local_addr().ok()).collect()
        };
        Addresses { https: local(&self.https), http: local(&self.http), tunnel: local(&self.tunnel) }
    }
}

/// Something that a worker is to serve.
enum Dealt {
    Https(StdStream, SocketAddr),
    Http(StdStream, SocketAddr),
    Tunnel(StdStream, SocketAddr),
    Quic(Box<quinn::Incoming>),
    Port(StdStream, SocketAddr, Arc<Port>),
}

/// Counts one connection as held for as long as it lives, also when its task panics.
struct Held(Arc<AtomicUsize>);

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
    visitor_tls: Arc<ServerConfig>,
    tunnel_tls: EdgeTls,
    workers: usize,
}

/// Lays a table for each worker.
///
/// # Errors
/// When TLS cannot be set up.
pub fn tables(
    edge: &Arc<Edge>,
    bound: Bound,
    tunnel_tls: &EdgeTls,
    workers: usize,
) -> Result<Vec<Table>, rustls::Error> {
    let visitor_tls = Arc::new(tls::visitor_config(edge)?);
    let (hands, receivers): (Vec<_>, Vec<_>) = (0..workers)
        .map(|_| {
            let (sender, receiver) = mpsc::channel(DEALT_MAX);
            (Hand { sender, holds: Arc::default() }, receiver)
        })
        .unzip();
    let dealer = Dealer(Arc::new(hands.clone()));
    let mut accepts = Some((bound, dealer));
    let table = |(hand, receiver): (Hand, _)| Table {
        edge: edge.clone(),
        hand: receiver,
        holds: hand.holds,
        accepts: accepts.take(),
        visitor_tls: visitor_tls.clone(),
        tunnel_tls: tunnel_tls.clone(),
        workers,
    };
    Ok(hands.into_iter().zip(receivers).map(table).collect())
}

impl Table {
    /// Serves until the drain begins, then until running requests are done.
    pub async fn serve(mut self, worker: usize, drain: DrainWatcher) {
        if let Some((bound, dealer)) = self.accepts.take() {
            open_ports(self.edge.clone(), dealer.clone(), drain.clone());
            spawn_local(forget_guests(self.edge.clone()));
            if let Err(error) = accept_all(bound, &dealer, &self.tunnel_tls, &drain) {
                tracing::error!(%error, "cannot serve the listeners");
                return;
            }
        }
        let place = Rc::new(Place {
            worker: Rc::new(Worker::new(worker, self.workers, self.edge.access_log.lane())),
            edge: self.edge,
            holds: self.holds,
            visitor_tls: self.visitor_tls,
            tunnel_tls: TlsAcceptor::from(self.tunnel_tls.tcp),
            drain: drain.clone(),
        });
        loop {
            tokio::select! {
                biased;
                dealt = self.hand.recv() => match dealt {
                    Some(dealt) => drop(spawn_local(place.clone().take(dealt))),
                    None => break,
                },
                () = drain.draining() => break,
            }
        }
    }
}

/// Starts a task for each socket. They live on the first worker and end with the drain.
fn accept_all(bound: Bound, dealer: &Dealer, tls: &EdgeTls, drain: &DrainWatcher) -> io::Result<()> {
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
    for socket in bound.quic {
        let endpoint = adit_tunnel::quic::server(socket, tls.quic.clone())?;
        spawn_local(accept_udp(endpoint, dealer.clone()));
    }
    Ok(())
}

/// Quick tunnels that nobody runs are forgotten, for ever.
async fn forget_guests(edge: Arc<Edge>) {
    loop {
        tokio::time::sleep(FORGET_PAUSE).await;
        edge.registry.forget_guests(std::time::Instant::now());
    }
}

/// Ports open and close with the configuration, and end with the drain.
fn open_ports(edge: Arc<Edge>, dealer: Dealer, drain: DrainWatcher) {
    let deal: ports::Deal =
        Arc::new(move |stream, remote, port| dealer.deal(Dealt::Port(stream, remote, port)));
    spawn_local(async move {
        tokio::select! {
            () = ports::run(edge, deal) => {}
            () = drain.draining() => {}
        }
    });
}

/// Accepts for ever.
pub(crate) async fn accept_tcp(listener: TcpListener, deal: impl Fn(StdStream, SocketAddr)) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                if let Ok(stream) = stream.into_std() {
                    deal(stream, remote);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept_udp(endpoint: quinn::Endpoint, dealer: Dealer) {
    while let Some(incoming) = endpoint.accept().await {
        dealer.deal(Dealt::Quic(Box::new(incoming)));
    }
}

/// Where connections of one worker are served.
struct Place {
    edge: Arc<Edge>,
    worker: Rc<Worker>,
    holds: Arc<AtomicUsize>,
    visitor_tls: Arc<ServerConfig>,
    tunnel_tls: TlsAcceptor,
    drain: DrainWatcher,
}

impl Place {
    async fn take(self: Rc<Self>, dealt: Dealt) {
        let _held = Held(self.holds.clone());
        match dealt {
            Dealt::Https(stream, remote) => self.https(stream, remote).await,
            Dealt::Http(stream, remote) => self.http(stream, remote).await,
            Dealt::Tunnel(stream, remote) => self.tunnel(stream, remote).await,
            Dealt::Quic(incoming) => self.quic(*incoming).await,
            Dealt::Port(stream, remote, port) => self.port(stream, remote, &port).await,
        }
    }

    async fn https(&self, stream: StdStream, remote: SocketAddr) {
        let Ok(stream) = nodelay(stream) else { return };
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let Ok(Ok(start)) = timeout(limits::TLS_HANDSHAKE_TIMEOUT, start).await else {
            self.edge.metrics.handshake_failures.inc();
            return;
        };
        if tls::is_tunnel(&start.client_hello()) {
            let accepting = start.into_stream(self.tunnel_tls.config().clone());
            if let Ok(Ok(stream)) = timeout(limits::TLS_HANDSHAKE_TIMEOUT, accepting).await {
                self.join_h2(stream, remote).await;
            }
            return;
        }
        let accepting = start.into_stream(self.visitor_tls.clone());
        match timeout(limits::TLS_HANDSHAKE_TIMEOUT, accepting).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.visitor_h2(stream, self.visitor(remote, true)).await;
            }
            Ok(Ok(stream)) => self.visitor_h1(stream, self.visitor(remote, true)).await,
            Ok(Err(_)) | Err(_) => drop(self.edge.metrics.handshake_failures.inc()),
        }
    }

    async fn port(&self, stream: StdStream, remote: SocketAddr, port: &Port) {
        let Ok(stream) = nodelay(stream) else { return };
        let _blocker = self.drain.block();
        ports::serve_tcp(&self.edge, &self.worker, stream, remote, port).await;
    }

    async fn http(&self, stream: StdStream, remote: SocketAddr) {
        if let Ok(stream) = nodelay(stream) {
            self.visitor_h1(stream, self.visitor(remote, false)).await;
        }
    }

    async fn tunnel(&self, stream: StdStream, remote: SocketAddr) {
        let Ok(stream) = nodelay(stream) else { return };
        let accepting = self.tunnel_tls.accept(stream);
        match timeout(adit_tunnel::limits::HANDSHAKE_TIMEOUT, accepting).await {
            Ok(Ok(stream)) => self.join_h2(stream, remote).await,
            Ok(Err(error)) => tracing::debug!(%remote, %error, "tunnel handshake failed"),
            Err(_) => tracing::debug!(%remote, "tunnel handshake timed out"),
        }
    }

    async fn join_h2(&self, stream: tokio_rustls::server::TlsStream<TcpStream>, remote: SocketAddr) {
        // cloudflared's pre-check closes after the handshake; there is nothing to join then.
        if stream.get_ref().1.server_name() == Some(adit_wire::names::HOST_PROBE) {
            return;
        }
        match accept_h2(stream).await {
            Ok(accepted) => join::serve(self.edge.clone(), self.worker.index, remote, accepted).await,
            Err(error) => tracing::debug!(%remote, %error, "no tunnel on this connection"),
        }
    }

    async fn quic(&self, incoming: quinn::Incoming) {
        let remote = incoming.remote_address();
        let accepted = async {
            let connection = incoming.await.map_err(|error| error.to_string())?;
            accept_quic(connection).await.map_err(|error| error.to_string())
        };
        match accepted.await {
            Ok(accepted) => join::serve(self.edge.clone(), self.worker.index, remote, accepted).await,
            Err(error) => tracing::debug!(%remote, %error, "no tunnel on this connection"),
        }
    }

    fn visitor(&self, remote: SocketAddr, tls: bool) -> Rc<Visitor> {
        Rc::new(Visitor { edge: self.edge.clone(), worker: self.worker.clone(), remote, tls })
    }

    async fn visitor_h1<IO>(&self, stream: IO, visitor: Rc<Visitor>)
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let _counted = GaugeGuard::new(self.edge.metrics.visitors.clone());
        let _blocker = self.drain.block();
        let mut server = http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEADER_READ_TIMEOUT)
            .max_buf_size(limits::HEAD_BYTES_MAX)
            .max_headers(limits::HEADERS_MAX);
        let service = service_fn(move |request: Request<Incoming>| serve(visitor.clone(), request));
        let mut connection =
            std::pin::pin!(server.serve_connection(TokioIo::new(stream), service).with_upgrades());
        // How a visitor's connection ends is in the records of its requests.
        tokio::select! {
            ended = connection.as_mut() => drop(ended),
            () = self.drain.draining() => {
                connection.as_mut().graceful_shutdown();
                drop(connection.await);
            }
        }
    }

    async fn visitor_h2<IO>(&self, stream: IO, visitor: Rc<Visitor>)
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let _counted = GaugeGuard::new(self.edge.metrics.visitors.clone());
        let _blocker = self.drain.block();
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
        let service = service_fn(move |request: Request<Incoming>| serve(visitor.clone(), request));
        let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = connection.as_mut() => drop(ended),
            () = self.drain.draining() => {
                connection.as_mut().graceful_shutdown();
                drop(connection.await);
            }
        }
    }
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

fn nodelay(stream: StdStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
