//! QUIC sockets and transport settings. The only file that names the QUIC library's configuration.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, Runtime as _, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::address_validation::{LimitedSocket, RandomIds};
use crate::limits;

/// Bytes of kernel buffer that we ask for: a burst of 64 segments for each of a few connections.
const SOCKET_BUFFER: usize = 2 * 1024 * 1024;

/// Makes the edge's endpoint on a bound socket. A connection begins with what a stranger may have; `grow_for_tunnel`
/// makes room for a tunnel once it is registered.
///
/// # Errors
/// When the socket cannot be registered with the runtime, or the TLS configuration has no initial cipher suite.
pub fn server(socket: UdpSocket, tls: Arc<rustls::ServerConfig>) -> io::Result<Endpoint> {
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = transport(16);
    transport
        .receive_window(VarInt::from_u32(limits::UNREGISTERED_WINDOW))
        .datagram_receive_buffer_size(Some(limits::PUBLIC_DATAGRAM_BUFFER));
    config.transport_config(Arc::new(transport));
    server_endpoint(socket, config)
}

/// Makes the endpoint of a public port that visitors and tunnels share. It begins with what a visitor may have;
/// `grow_for_tunnel` makes room for a tunnel once it is registered.
///
/// # Errors
/// As for [`server`].
pub fn public_server(socket: UdpSocket, tls: Arc<rustls::ServerConfig>) -> io::Result<Endpoint> {
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    let idle = VarInt::from_u32(limits::PUBLIC_IDLE_TIMEOUT.as_millis() as u32);
    transport
        // A tunnel's end names a shorter time, and the shorter one counts.
        .max_idle_timeout(Some(idle.into()))
        .max_concurrent_bidi_streams(VarInt::from_u32(limits::PUBLIC_STREAMS_FIRST))
        .max_concurrent_uni_streams(VarInt::from_u32(limits::PUBLIC_UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(limits::PUBLIC_STREAM_WINDOW))
        .receive_window(VarInt::from_u32(limits::PUBLIC_CONNECTION_WINDOW))
        .send_window(limits::PUBLIC_SEND_WINDOW)
        .datagram_receive_buffer_size(Some(limits::PUBLIC_DATAGRAM_BUFFER))
        .initial_mtu(limits::INITIAL_MTU);
    config.transport_config(Arc::new(transport));
    server_endpoint(socket, config)
}

/// Gives a connection the room of a tunnel: so many bytes may be in flight on all of its streams.
pub(crate) fn grow_for_tunnel(connection: &quinn::Connection, window: u32) {
    connection.set_receive_window(VarInt::from_u32(window));
    connection.set_send_window(limits::SEND_WINDOW);
}

/// Makes the connector's endpoint: one socket for one connection, so that each lives on its own thread.
///
/// # Errors
/// When no socket can be bound.
pub fn client(bind: SocketAddr, tls: Arc<rustls::ClientConfig>) -> io::Result<Endpoint> {
    let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport(limits::STREAMS_MAX)));
    let socket = bind_udp(bind, false)?;
    let mut endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(quinn::TokioRuntime))?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

/// Binds a UDP socket with large buffers; a v6 wildcard takes v4 as well, unless `only_v6`.
///
/// # Errors
/// When the address is in use or not ours.
pub fn bind_udp(addr: SocketAddr, only_v6: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // A smaller buffer than asked for is no reason to fail: the kernel clamps it.
    drop(socket.set_recv_buffer_size(SOCKET_BUFFER));
    drop(socket.set_send_buffer_size(SOCKET_BUFFER));
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// An endpoint that sends at most three times as much to an unproven address as it sent (RFC 9000, section 8.1).
fn server_endpoint(socket: UdpSocket, config: quinn::ServerConfig) -> io::Result<Endpoint> {
    let runtime = Arc::new(quinn::TokioRuntime);
    let socket = Arc::new(LimitedSocket::new(runtime.wrap_udp_socket(socket)?));
    let mut endpoint = EndpointConfig::default();
    endpoint.cid_generator(|| Box::new(RandomIds));
    Endpoint::new_with_abstract_socket(endpoint, Some(config), socket, runtime)
}

fn transport(streams: u32) -> TransportConfig {
    let mut config = TransportConfig::default();
    let idle = VarInt::from_u32(limits::IDLE_TIMEOUT.as_millis() as u32);
    config
        .max_idle_timeout(Some(idle.into()))
        .keep_alive_interval(Some(limits::KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(limits::STREAM_WINDOW))
        .receive_window(VarInt::from_u32(limits::CONNECTION_WINDOW))
        .send_window(limits::SEND_WINDOW)
        .initial_mtu(limits::INITIAL_MTU);
    config
}
