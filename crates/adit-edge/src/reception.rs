//! What becomes of a connection that was accepted: whose it is, what it speaks, and who serves it.

use std::cell::OnceCell;
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_http::proxy_protocol::{self, Malformed};
use adit_lifecycle::drain::DrainWatcher;
use adit_policy::limits;
use adit_policy::port::Port;
use adit_tunnel::edge::{accept_h2, accept_quic};
use quinn::crypto::rustls::HandshakeData;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use crate::gone::{Leaves as _, Watched};
use crate::listener::{Dealt, Held};
use crate::rewind::Rewind;
use crate::tls::{ALPN_H3, Identity, Purpose};
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
            Dealt::Https(stream, remote) => self.https(stream, remote, held).await,
            Dealt::Http(stream, remote) => self.http(stream, remote, held).await,
            Dealt::Tunnel(stream, remote) => self.tunnel(stream, remote).await,
            Dealt::Quic(incoming) => self.quic(*incoming, held).await,
            Dealt::Port(stream, remote, port) => self.port(stream, remote, &port).await,
        }
    }

    async fn https(&self, stream: StdStream, remote: SocketAddr, held: Held) {
        let Some((mut stream, remote)) = self.whose(stream, remote).await else { return };
        stream.keep();
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let Ok(Ok(mut start)) = timeout(limits::TLS_HANDSHAKE_TIMEOUT, &mut start).await else {
            self.edge.metrics.handshake_failures.inc();
            self.complain_of_header(start.take_io().as_ref(), remote);
            return;
        };
        match self.edge.tls.purpose(&start.client_hello()) {
            Purpose::Tunnel => self.tunnel_by_sni(start, remote).await,
            Purpose::Visitor(config) => {
                start.io.forget();
                let handshake = timeout(limits::TLS_HANDSHAKE_TIMEOUT, start.into_stream(config)).await;
                self.visitor(handshake, remote, held);
            }
            // Who asked has seen it.
            Purpose::Proof(config) => {
                drop(timeout(limits::TLS_HANDSHAKE_TIMEOUT, start.into_stream(config)).await);
            }
            Purpose::Passthrough(name) if self.edge.is_closed_to(remote.ip(), Some(name.as_str())) => {}
            Purpose::Passthrough(name) => {
                start.io.rewind();
                let _blocker = self.drain.block();
                let gone = start.io.gone();
                tokio::select! {
                    () = passthrough::serve(&self.worker, start.io, remote, name) => {}
                    () = gone.wait() => {}
                }
            }
            Purpose::Refused => drop(self.edge.metrics.handshake_failures.inc()),
        }
    }

    /// A handshake with a visitor has ended.
    fn visitor(
        &self,
        handshake: Result<io::Result<TlsStream<Stream>>, tokio::time::error::Elapsed>,
        remote: SocketAddr,
        held: Held,
    ) {
        let Ok(Ok(stream)) = handshake else {
            self.edge.metrics.handshake_failures.inc();
            return;
        };
        let session = stream.get_ref().1;
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        let secured = Secured {
            name: session.server_name().map(|name| name.to_ascii_lowercase().into()),
            identity: certificate.and_then(Identity::of),
        };
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        let visitor = self.visitor_of(remote, Some(secured), held);
        let drain = self.drain.clone();
        if is_http2 {
            drop(spawn_local(visitor.http2(stream, drain)));
        } else {
            drop(spawn_local(visitor.http1(stream, drain)));
        }
    }

    /// Nobody waits here for a PROXY header: in mail and SSH it is the service that speaks first.
    async fn port(&self, stream: StdStream, remote: SocketAddr, port: &Port) {
        let Some(stream) = nodelay(stream).ok().filter(|_| !self.edge.is_closed_to(remote.ip(), None)) else {
            return;
        };
        let _blocker = self.drain.block();
        let stream = self.worker.sockets.watch(stream);
        let gone = stream.gone();
        tokio::select! {
            () = ports::serve_tcp(&self.worker, stream, remote, port) => {}
            () = gone.wait() => {}
        }
    }

    async fn http(&self, stream: StdStream, remote: SocketAddr, held: Held) {
        if let Some((stream, remote)) = self.whose(stream, remote).await {
            drop(spawn_local(self.visitor_of(remote, None, held).http1(stream, self.drain.clone())));
        }
    }

    /// The stream, and whose it is: the other end's, or whose a trusted proxy says in a PROXY header. The header may be
    /// there or not: no other protocol here begins like one.
    async fn whose(&self, stream: StdStream, remote: SocketAddr) -> Option<(Stream, SocketAddr)> {
        let mut stream = Rewind::new(self.worker.sockets.watch(nodelay(stream).ok()?));
        let trusted =
            self.edge.registry.view().snapshot.trust().is_some_and(|trust| trust.includes(remote.ip()));
        if !trusted {
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
    async fn quic(&self, incoming: quinn::Incoming, held: Held) {
        let remote = incoming.remote_address();
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
                let name = data.server_name.map(|name| name.to_ascii_lowercase().into());
                let visitor = self.visitor_of(remote, Some(Secured { name, identity: None }), held);
                drop(spawn_local(visitor.http3(connection, self.drain.clone())));
            }
            _ => self.join_quic(connection, remote).await,
        }
    }

    async fn join_quic(&self, connection: quinn::Connection, remote: SocketAddr) {
        match accept_quic(connection).await {
            Ok(accepted) => join::serve(self.edge.clone(), self.worker.index, remote, accepted).await,
            Err(error) => tracing::debug!(%remote, %error, "no tunnel on this connection"),
        }
    }

    fn visitor_of(&self, remote: SocketAddr, tls: Option<Secured>, held: Held) -> Rc<Visitor> {
        Rc::new(Visitor {
            edge: self.edge.clone(),
            worker: self.worker.clone(),
            remote,
            tls: tls.map(Rc::new),
            gone: OnceCell::new(),
            _held: held,
        })
    }
}

fn nodelay(stream: StdStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
