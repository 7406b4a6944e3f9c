//! What becomes of a connection that was accepted: whose it is, what it speaks, and who serves it.

use std::cell::OnceCell;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_http::proxy_protocol::{self, Malformed};
use adit_http3::Code;
use adit_lifecycle::drain::DrainWatcher;
use adit_policy::limits;
use adit_policy::port::Port;
use adit_tunnel::edge::{accept_h2, accept_quic};
use quinn::crypto::rustls::HandshakeData;
use rustls::pki_types::UnixTime;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use crate::capacity::{Refused, Slot, Traffic};
use crate::gone::{Leaves as _, Watched};
use crate::listener::{Dealt, Held};
use crate::rewind::Rewind;
use crate::tls::{ALPN_H3, ChainVerifier, HandshakeFailure, Purpose, Shown, normal_name};
use crate::visitor::{Secured, Visitor};
use crate::worker::Worker;
use crate::{Edge, join, passthrough, ports};

/// Where connections of one worker are received.
pub(crate) struct Reception {
    pub(crate) edge: Arc<Edge>,
    pub(crate) worker: Rc<Worker>,
    pub(crate) holds: Arc<AtomicUsize>,
    pub(crate) handshakes: Arc<AtomicUsize>,
    pub(crate) tunnel_tls: TlsAcceptor,
    pub(crate) drain: DrainWatcher,
}

/// What a visitor reads in plain HTTP when there is no room for its connection.
const REFUSED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\
    Cache-Control: no-store\r\nConnection: close\r\n\r\n";

/// What counts a visitor's connection until it ends.
struct Counted {
    held: Held,
    slot: Slot,
}

/// A stream from the public side.
type Stream = Rewind<Watched>;

/// A connection never says whose it is.
#[derive(Debug, thiserror::Error)]
enum NoAddress {
    #[error("it broke off: {0}")]
    Broken(#[from] io::Error),
    #[error("the PROXY header is malformed: {0}")]
    Malformed(#[from] Malformed),
}

impl Reception {
    /// Finds out whose a connection is. A visitor goes on in a task of his own, which is smaller: he may stay for long.
    pub(crate) async fn take(self: Rc<Self>, dealt: Dealt) {
        let held = Held(self.holds.clone());
        match dealt {
            Dealt::Https(stream, remote) => {
                if let Some((stream, remote, slot)) = self.admit(stream, remote, false).await {
                    self.https(stream, remote, Counted { held, slot }).await;
                }
            }
            Dealt::Http(stream, remote) => {
                if let Some((stream, remote, slot)) = self.admit(stream, remote, true).await {
                    self.http(stream, remote, Counted { held, slot });
                }
            }
            Dealt::Tunnel(stream, remote) => self.tunnel(stream, remote).await,
            Dealt::Quic(incoming, is_public) => self.quic(*incoming, held, is_public).await,
            Dealt::Port(stream, remote, port) => self.port(stream, remote, &port).await,
        }
    }

    /// Counts a connection, of all and of its visitor. One that is refused is closed, after a word where that costs nothing.
    async fn admit(
        &self,
        stream: StdStream,
        remote: SocketAddr,
        is_plain: bool,
    ) -> Option<(Stream, SocketAddr, Slot)> {
        let slot = match self.edge.capacity.connect() {
            Ok(slot) if !slot.is_on_trial() || !is_plain => slot,
            Ok(_) => return self.refuse(Refused::Connections, Some(&stream).filter(|_| is_plain)),
            Err(refused) => return self.refuse(refused, Some(&stream).filter(|_| is_plain)),
        };
        let socket = stream.try_clone().ok().filter(|_| is_plain);
        let (stream, visitor) = self.whose(stream, remote).await?;
        // Many visitors come through a proxy; each is counted by its requests.
        let is_proxy = visitor == remote && self.is_trusted(remote);
        match if is_proxy { Ok(()) } else { slot.assign(visitor.ip()) } {
            Ok(()) => Some((stream, visitor, slot)),
            Err(refused) => self.refuse(refused, socket.as_ref()),
        }
    }

    /// Closes a connection for want of room; in plain HTTP with an answer.
    fn refuse<T>(&self, refused: Refused, plain: Option<&StdStream>) -> Option<T> {
        self.edge.metrics.overload(refused.word());
        if self.edge.complaints.may() {
            tracing::warn!(reason = %refused, "refusing connections; see `limits` in edge.yml");
        }
        if let Some(mut stream) = plain {
            // Whoever does not take it gets nothing; nothing waits for that here. What came is read, because to close a
            // socket with unread bytes takes the answer back.
            drop(stream.write_all(REFUSED));
            drop(stream.read(&mut [0; 4096]));
        }
        None
    }

    fn is_trusted(&self, remote: SocketAddr) -> bool {
        self.edge.registry.view().snapshot.trust().is_some_and(|trust| trust.includes(remote.ip()))
    }

    async fn https(&self, mut stream: Stream, remote: SocketAddr, counted: Counted) {
        stream.keep();
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let deadline = Instant::now() + limits::TLS_HANDSHAKE_TIMEOUT;
        let hello = timeout_at(deadline, &mut start).await;
        let mut start = match hello.map_err(|_| HandshakeFailure::Timeout) {
            Ok(Ok(start)) => start,
            Ok(Err(error)) => {
                // The more useful line first: there are only so many.
                self.complain_of_header(start.take_io().as_ref(), remote);
                return self.handshake_failed(remote, None, HandshakeFailure::of(&error));
            }
            Err(cause) => return self.handshake_failed(remote, None, cause),
        };
        let name = start.client_hello().server_name().map(normal_name);
        let purpose = self.edge.tls.purpose(&start.client_hello());
        if counted.slot.is_on_trial() && !matches!(purpose, Purpose::Tunnel) {
            return self.refuse(Refused::Connections, None).unwrap_or_default();
        }
        match purpose {
            Purpose::Tunnel => {
                drop(counted.slot);
                self.tunnel_by_sni(start, remote).await;
            }
            Purpose::Visitor(config, verifier) => {
                start.io.forget();
                let handshake = timeout_at(deadline, start.into_stream(config)).await;
                match handshake.unwrap_or_else(|elapsed| Err(elapsed.into())) {
                    Ok(stream) => self.visitor(stream, verifier.as_ref(), remote, counted),
                    Err(error) => self.handshake_failed(remote, name, HandshakeFailure::of(&error)),
                }
            }
            // Who asked has seen it.
            Purpose::Proof(config) => {
                drop(timeout_at(deadline, start.into_stream(config)).await);
            }
            Purpose::Passthrough(name) => {
                start.io.rewind();
                let _blocker = self.drain.block();
                let gone = start.io.gone();
                tokio::select! {
                    () = passthrough::serve(&self.worker, start.io, remote, name) => {}
                    () = gone.wait() => {}
                }
            }
            Purpose::Refused => self.handshake_failed(remote, name, HandshakeFailure::Misconfigured),
        }
    }

    /// Counts a handshake that failed, and says why.
    fn handshake_failed(&self, remote: SocketAddr, name: Option<String>, cause: HandshakeFailure) {
        self.edge.metrics.handshake_failed(cause.code());
        if self.edge.complaints.may() {
            let (cause, hint) = (cause.code(), cause.hint());
            tracing::info!(%remote, server_name = name, cause, hint, "TLS handshake failed");
        }
    }

    /// A handshake with a visitor is complete.
    fn visitor(
        &self,
        mut stream: TlsStream<Stream>,
        verifier: Option<&ChainVerifier>,
        remote: SocketAddr,
        counted: Counted,
    ) {
        let session = stream.get_mut().1;
        session.set_buffer_limit(Some(limits::TLS_UNSENT_MAX));
        let chain = session.peer_certificates().unwrap_or_default();
        let shown = verifier.map_or(Shown::Nothing, |verifier| verifier.verify(chain, UnixTime::now()));
        let name: Option<Box<str>> = session.server_name().map(|name| normal_name(name).into());
        if let Shown::Invalid(cause) = shown {
            self.edge.metrics.handshake_failed("client_certificate");
            if self.edge.complaints.may() {
                tracing::info!(%remote, server_name = name.as_deref(), cause, "the client certificate is not valid");
            }
        }
        let secured = Secured { name, shown };
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        let visitor = self.visitor_of(remote, Some(secured), counted);
        let drain = self.drain.clone();
        if is_http2 {
            drop(spawn_local(visitor.http2(stream, drain)));
        } else {
            drop(spawn_local(visitor.http1(stream, drain)));
        }
    }

    /// Nobody waits here for a PROXY header: in mail and SSH it is the service that speaks first.
    async fn port(&self, stream: StdStream, remote: SocketAddr, port: &Arc<Port>) {
        let Ok(stream) = nodelay(stream) else { return };
        let _blocker = self.drain.block();
        let stream = self.worker.sockets.watch(stream);
        let gone = stream.gone();
        tokio::select! {
            () = ports::serve_tcp(&self.worker, stream, remote, port) => {}
            () = gone.wait() => {}
        }
    }

    fn http(&self, stream: Stream, remote: SocketAddr, counted: Counted) {
        drop(spawn_local(self.visitor_of(remote, None, counted).http1(stream, self.drain.clone())));
    }

    /// The stream, and whose it is: the other end's, or whose a trusted proxy says in a PROXY header. The header may be
    /// there or not: no other protocol here begins like one.
    async fn whose(&self, stream: StdStream, remote: SocketAddr) -> Option<(Stream, SocketAddr)> {
        let mut stream = Rewind::new(self.worker.sockets.watch(nodelay(stream).ok()?));
        if !self.is_trusted(remote) {
            return Some((stream, remote));
        }
        let header = stream.parse(|bytes| Ok::<_, NoAddress>(proxy_protocol::parse(bytes)?));
        match timeout(limits::TLS_HANDSHAKE_TIMEOUT, header).await {
            Ok(Ok(visitor)) => Some((stream, visitor.unwrap_or(remote))),
            Ok(Err(NoAddress::Malformed(error))) => {
                if self.edge.complaints.may() {
                    tracing::warn!(%remote, %error, "a trusted proxy sent a malformed PROXY header");
                }
                None
            }
            Ok(Err(NoAddress::Broken(_))) | Err(_) => None,
        }
    }

    /// A PROXY header of somebody who is not trusted is garbage where TLS should be; the operator may have meant it.
    fn complain_of_header(&self, stream: Option<&Stream>, remote: SocketAddr) {
        if stream.is_some_and(|stream| proxy_protocol::is_header(stream.kept())) && self.edge.complaints.may()
        {
            let hint = "if it is your proxy, add its address to `trusted`";
            tracing::warn!(%remote, hint, "PROXY header from an address that is not trusted");
        }
    }

    async fn tunnel_by_sni(&self, mut start: tokio_rustls::StartHandshake<Stream>, remote: SocketAddr) {
        start.io.forget();
        let accepting = start.into_stream(self.tunnel_tls.config().clone());
        if let Ok(Ok(stream)) = timeout(limits::TLS_HANDSHAKE_TIMEOUT, accepting).await {
            self.join_h2(stream, remote).await;
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

    async fn join_h2<IO>(&self, stream: TlsStream<IO>, remote: SocketAddr)
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        // cloudflared's pre-check closes after the handshake; there is nothing to join then.
        if stream.get_ref().1.server_name() == Some(adit_wire::names::HOST_PROBE) {
            return;
        }
        match accept_h2(stream).await {
            Ok(accepted) => join::serve(self.edge.clone(), self.worker.index, remote, accepted).await,
            Err(error) => tracing::debug!(%remote, %error, "no tunnel on this connection"),
        }
    }

    /// A QUIC connection is a visitor's or a tunnel's, by ALPN.
    async fn quic(&self, incoming: quinn::Incoming, held: Held, is_public: bool) {
        let remote = incoming.remote_address();
        let Some(slot) = self.admit_quic(remote, is_public) else { return incoming.refuse() };
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        let handshake = Held(self.handshakes.clone());
        let connected = timeout(limits::TLS_HANDSHAKE_TIMEOUT, async { incoming.accept()?.await }).await;
        drop(handshake);
        let connection = match connected {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return tracing::debug!(%remote, %error, "QUIC handshake failed"),
            Err(_) => return tracing::debug!(%remote, "QUIC handshake timed out"),
        };
        let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        match data {
            Some(data) if data.protocol.as_deref() == Some(ALPN_H3) => {
                let Some(slot) = slot.filter(|slot| !slot.is_on_trial()) else {
                    return connection.close(Code::EXCESSIVE_LOAD.value(), b"too many connections");
                };
                let name = data.server_name.map(|name| normal_name(&name).into());
                let visitor = self.visitor_of(
                    remote,
                    Some(Secured { name, shown: Shown::Nothing }),
                    Counted { held, slot },
                );
                drop(spawn_local(visitor.http3(connection, self.drain.clone())));
            }
            _ => {
                drop(slot);
                self.join_quic(connection, remote).await;
            }
        }
    }

    /// Counts a connection that comes where visitors come. `None` if it is refused.
    fn admit_quic(&self, remote: SocketAddr, is_public: bool) -> Option<Option<Slot>> {
        if !is_public {
            return Some(None);
        }
        let slot = match self.edge.capacity.connect() {
            Ok(slot) => slot,
            Err(refused) => return self.refuse(refused, None),
        };
        if slot.is_on_trial() || self.is_trusted(remote) {
            return Some(Some(slot));
        }
        match slot.assign(remote.ip()) {
            Ok(()) => Some(Some(slot)),
            Err(refused) => self.refuse(refused, None),
        }
    }

    async fn join_quic(&self, connection: quinn::Connection, remote: SocketAddr) {
        match accept_quic(connection).await {
            Ok(accepted) => join::serve(self.edge.clone(), self.worker.index, remote, accepted).await,
            Err(error) => tracing::debug!(%remote, %error, "no tunnel on this connection"),
        }
    }

    fn visitor_of(&self, remote: SocketAddr, tls: Option<Secured>, counted: Counted) -> Rc<Visitor> {
        let Counted { held, slot } = counted;
        Rc::new(Visitor {
            edge: self.edge.clone(),
            worker: self.worker.clone(),
            remote,
            tls: tls.map(Rc::new),
            gone: OnceCell::new(),
            traffic: Traffic::new(slot),
            _held: held,
        })
    }
}

fn nodelay(stream: StdStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
