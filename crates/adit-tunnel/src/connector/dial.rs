//! Dialling an edge over one transport, up to the open control stream.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use adit_wire::names;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Link, Transport, h2, quic};
use crate::control::client;
use crate::limits::STREAMS_MAX;
use crate::tls::ConnectorTls;
use crate::{LinkClosed, Protocol};

/// How to reach one edge.
#[derive(Clone, Debug)]
pub struct Dial {
    /// The edge's address.
    pub edge: SocketAddr,
    /// The transport to use.
    pub protocol: Protocol,
    /// The local address, if the host has several (cloudflared's `edge-bind-address`).
    pub bind: Option<IpAddr>,
    /// TLS for either transport.
    pub tls: ConnectorTls,
    /// Budget for transport and TLS handshake.
    pub timeout: Duration,
}

/// Why an edge could not be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// No answer in the budget. On QUIC: is UDP blocked?
    #[error("no answer from {0} within {1:?}")]
    Timeout(SocketAddr, Duration),
    /// A socket call failed.
    #[error("cannot reach {0}")]
    Io(SocketAddr, #[source] std::io::Error),
    /// The transport or its handshake failed; wrong certificates show here.
    #[error("handshake with {0} failed")]
    Handshake(SocketAddr, #[source] LinkClosed),
}

/// Connects and opens the control stream.
///
/// # Errors
/// [`DialError`] names the edge and the step that failed.
pub async fn dial(dial: &Dial) -> Result<Link, DialError> {
    let dialling = async {
        match dial.protocol {
            Protocol::Quic => dial_quic(dial).await,
            Protocol::Http2 => dial_h2(dial).await,
        }
    };
    timeout(dial.timeout, dialling).await.unwrap_or(Err(DialError::Timeout(dial.edge, dial.timeout)))
}

async fn dial_quic(dial: &Dial) -> Result<Link, DialError> {
    let io = |error| DialError::Io(dial.edge, error);
    let failed = |error: quinn::ConnectionError| DialError::Handshake(dial.edge, error.into());
    let endpoint = crate::quic::client(local(dial), dial.tls.quic.clone()).map_err(io)?;
    let connecting = endpoint
        .connect(dial.edge, names::HOST_QUIC)
        .map_err(|error| DialError::Handshake(dial.edge, LinkClosed::Transport(error.to_string())))?;
    let connection = connecting.await.map_err(failed)?;
    let (send, recv) = connection.open_bi().await.map_err(failed)?;
    let control = client::connect(recv, send);
    Ok(Link::new(Transport::Quic(quic::Transport { connection, endpoint, room: STREAMS_MAX }), control))
}

async fn dial_h2(dial: &Dial) -> Result<Link, DialError> {
    let io = |error| DialError::Io(dial.edge, error);
    let failed = |error| DialError::Handshake(dial.edge, error);
    let tcp = connect_tcp(dial).await.map_err(io)?;
    let name = ServerName::try_from(names::HOST_H2)
        .map_err(|error| failed(LinkClosed::Transport(error.to_string())))?;
    let tls = TlsConnector::from(dial.tls.tcp.clone())
        .connect(name, tcp)
        .await
        .map_err(|error| failed(LinkClosed::Transport(error.to_string())))?;
    let mut transport = h2::handshake(tls).await.map_err(failed)?;
    let (reader, writer) = transport.accept_control().await.map_err(failed)?;
    Ok(Link::new(Transport::H2(Box::new(transport)), client::connect(reader, writer)))
}

async fn connect_tcp(dial: &Dial) -> std::io::Result<TcpStream> {
    let socket = if dial.edge.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if dial.bind.is_some() {
        socket.bind(local(dial))?;
    }
    let stream = socket.connect(dial.edge).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn local(dial: &Dial) -> SocketAddr {
    let any = if dial.edge.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(dial.bind.unwrap_or(any), 0)
}
