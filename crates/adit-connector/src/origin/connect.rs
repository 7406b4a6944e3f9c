//! From a service to an open connection: resolve, connect, TLS. Names are resolved anew each time.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use adit_policy::ingress::{OriginRequest, Service, destination_of};
use hyper_util::client::proxy::matcher::Intercept;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::io::Io;
use super::proxy::{self, Forward};
use super::{Origin, OriginError, tls};

/// Head start of the first address family (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// An open connection.
pub(crate) struct Route {
    pub(crate) io: Io,
    /// It ends at a proxy that passes plain requests on.
    pub(crate) forward: Option<Forward>,
}

/// Opens a connection.
///
/// # Errors
/// [`OriginError`] names the address and the step.
pub(crate) async fn connect(origin: &Origin, server_name: Option<&str>) -> Result<Route, OriginError> {
    let (shown, limit) = (origin.service.to_string(), origin.settings.connect_timeout);
    let proxy = proxy::of(origin);
    let connecting = async {
        match &origin.service {
            Service::Unix { path, .. } => UnixStream::connect(path).await.map(Raw::Unix),
            Service::Http { host, port, .. } => match &proxy {
                Some(proxy) => through(origin, proxy, host, *port).await.map(Raw::Tcp),
                None => connect_tcp(origin, host, *port).await.map(Raw::Tcp),
            },
            _ => Err(std::io::Error::from(std::io::ErrorKind::Unsupported)),
        }
    };
    let raw =
        timeout(limit, connecting).await.map_err(|_| OriginError::ConnectTimeout(shown.clone(), limit))?;
    let raw = raw.map_err(|error| OriginError::Connect(shown, error))?;
    if origin.is_tls() {
        return Ok(Route { io: secure(origin, raw, server_name).await?, forward: None });
    }
    let forward = match &origin.service {
        Service::Http { authority, .. } if !origin.settings.http2_origin => {
            proxy.map(|proxy| proxy::forward(&proxy, authority))
        }
        _ => None,
    };
    Ok(Route { io: raw.plain(), forward })
}

/// Connects to a proxy. Plain requests go through it one by one, everything else through a way of its own.
async fn through(origin: &Origin, proxy: &Intercept, host: &str, port: u16) -> std::io::Result<TcpStream> {
    let (proxy_host, proxy_port) = proxy::address(proxy)?;
    let mut stream = connect_tcp(origin, proxy_host, proxy_port).await?;
    if origin.is_tls() || origin.settings.http2_origin {
        proxy::tunnel(&mut stream, proxy, host, port).await?;
    }
    Ok(stream)
}

enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Raw {
    fn plain(self) -> Io {
        match self {
            Self::Tcp(stream) => Io::Tcp(stream),
            Self::Unix(stream) => Io::Unix(stream),
        }
    }
}

/// The addresses of a host.
///
/// # Errors
/// [`OriginError::Connect`] when it has none, or not in time.
pub(super) async fn resolve(origin: &Origin, host: &str, port: u16) -> Result<Vec<SocketAddr>, OriginError> {
    let (shown, limit) = (format!("{host}:{port}"), origin.settings.connect_timeout);
    match timeout(limit, lookup_host((host, port))).await {
        Ok(addresses) => addresses.map(Iterator::collect).map_err(|error| OriginError::Connect(shown, error)),
        Err(_) => Err(OriginError::ConnectTimeout(shown, limit)),
    }
}

/// Those of the addresses that the rule's `ipRules` allow, in the form in which they were judged.
pub(super) fn allowed(origin: &Origin, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let judged = addresses.into_iter().map(destination_of);
    judged.filter(|address| origin.settings.allows(*address)).collect()
}

/// Connects to one of these addresses of what is `shown`.
///
/// # Errors
/// [`OriginError`] when none of them answers in time.
pub(crate) async fn connect_any(
    settings: &OriginRequest,
    shown: &str,
    addresses: &[SocketAddr],
) -> Result<TcpStream, OriginError> {
    let limit = settings.connect_timeout;
    match timeout(limit, connect_addresses(settings, addresses)).await {
        Ok(stream) => stream.map_err(|error| OriginError::Connect(shown.to_owned(), error)),
        Err(_) => Err(OriginError::ConnectTimeout(shown.to_owned(), limit)),
    }
}

async fn connect_tcp(origin: &Origin, host: &str, port: u16) -> std::io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    connect_addresses(&origin.settings, &addresses).await
}

async fn connect_addresses(settings: &OriginRequest, addresses: &[SocketAddr]) -> std::io::Result<TcpStream> {
    let admitted = admitted(settings, addresses)?;
    let stream =
        if settings.no_happy_eyeballs { in_turn(&admitted).await? } else { side_by_side(&admitted).await? };
    stream.set_nodelay(true)?;
    let keep_alive = TcpKeepalive::new().with_time(settings.tcp_keep_alive);
    // Not every system takes it, and the connection is good without.
    drop(SockRef::from(&stream).set_tcp_keepalive(&keep_alive));
    Ok(stream)
}

/// Those of the addresses that a rule of the edge may reach. Whatever name led there, the address that is dialled is judged.
fn admitted<'a>(
    settings: &OriginRequest,
    addresses: &'a [SocketAddr],
) -> std::io::Result<Cow<'a, [SocketAddr]>> {
    if settings.ceiling.is_none() {
        return Ok(Cow::Borrowed(addresses));
    }
    let judged = addresses.iter().copied().map(destination_of);
    let admitted: Vec<SocketAddr> = judged.filter(|address| settings.admits(address.ip())).collect();
    match admitted.is_empty() && !addresses.is_empty() {
        true => Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, NOT_ADMITTED)),
        false => Ok(Cow::Owned(admitted)),
    }
}

/// Said of a rule of the edge that leads to a special address.
const NOT_ADMITTED: &str = "a rule of the edge may not reach this address (`accept-rules`)";

async fn in_turn(addresses: &[SocketAddr]) -> std::io::Result<TcpStream> {
    let mut failed = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The family that the resolver prefers gets a head start; then the other one runs beside it.
async fn side_by_side(addresses: &[SocketAddr]) -> std::io::Result<TcpStream> {
    let preferred_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|address| address.is_ipv6() == preferred_v6);
    if second.is_empty() {
        return in_turn(&first).await;
    }
    let mut leading = std::pin::pin!(in_turn(&first));
    tokio::select! {
        biased;
        connected = &mut leading => return match connected {
            Ok(stream) => Ok(stream),
            Err(_) => in_turn(&second).await,
        },
        () = sleep(STAGGER) => {}
    }
    let mut trailing = std::pin::pin!(in_turn(&second));
    tokio::select! {
        connected = &mut leading => match connected {
            Ok(stream) => Ok(stream),
            Err(_) => trailing.await,
        },
        connected = &mut trailing => match connected {
            Ok(stream) => Ok(stream),
            Err(_) => leading.await,
        },
    }
}

async fn secure(origin: &Origin, raw: Raw, server_name: Option<&str>) -> Result<Io, OriginError> {
    let shown = origin.service.to_string();
    let config = tls::config(origin)?;
    let name = server_name.unwrap_or("localhost").to_owned();
    let name = ServerName::try_from(name).map_err(|_| OriginError::Request("the host is no name for TLS"))?;
    let connector = TlsConnector::from(config);
    let handshake = async {
        match raw {
            Raw::Tcp(stream) => connector.connect(name, stream).await.map(|stream| Io::Tls(Box::new(stream))),
            Raw::Unix(stream) => {
                connector.connect(name, stream).await.map(|stream| Io::TlsUnix(Box::new(stream)))
            }
        }
    };
    match timeout(origin.settings.tls_timeout, handshake).await {
        Ok(io) => io.map_err(|error| OriginError::Tls(shown, error)),
        Err(_) => Err(OriginError::ConnectTimeout(shown, origin.settings.tls_timeout)),
    }
}
