//! Sockets are bound before anything is served, and named when they are not to be had.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket};

use adit_policy::port::{Port, PortProtocol};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// How often a port that is free on TCP and on UDP is looked for, where any will do.
const PORT_ATTEMPTS: usize = 20;
/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 4096;

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
    pub(super) https: Vec<StdListener>,
    pub(super) http: Vec<StdListener>,
    pub(super) tunnel: Vec<StdListener>,
    /// Beside the HTTPS listeners: HTTP/3, and tunnels by ALPN.
    pub(super) https_udp: Vec<UdpSocket>,
    /// Beside the tunnel listeners.
    pub(super) tunnel_udp: Vec<UdpSocket>,
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
        // Port 0 of UDP follows the TCP listener beside it: one port number for both.
        let all: Vec<SocketAddr> =
            tunnel.iter().chain(&https).filter_map(|listener| listener.local_addr().ok()).collect();
        let udp = |what, beside: &[StdListener]| -> Result<Vec<_>, BindError> {
            let beside = beside.iter().filter_map(|listener| listener.local_addr().ok());
            let bind = |address: SocketAddr| {
                let socket = adit_tunnel::quic::bind_udp(address, shares_port(address, &all));
                socket.map_err(|error| failed(what, address, error))
            };
            beside.map(bind).collect()
        };
        let tunnel_udp = udp("tunnel, udp", &tunnel)?;
        let https_udp = udp("https, udp", &https)?;
        Ok(Bound { https, http: tcp("http", &self.http)?, tunnel, https_udp, tunnel_udp })
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
