//! A relay between a connector and an edge that ends TLS on both sides and keeps every byte: how golden recordings of
//! the real program are made, and how they are read again.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use adit_control::authority::Authority;
use adit_http::trust::TrustPool;
use adit_policy::host::Hostname;
use adit_tunnel::tls::{ConnectorTls, EdgeTls};
use adit_wire::names;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The connector.
    Connector,
    /// The edge.
    Edge,
}

/// Bytes that one side said at once, on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Who.
    pub side: Side,
    /// 0 is the control stream; on HTTP/2 there is only 0, the connection itself.
    pub stream: usize,
    /// What.
    pub bytes: Vec<u8>,
}

/// What was said, in order.
#[derive(Clone, Debug, Default)]
pub struct Recording(Arc<Mutex<Vec<Said>>>);

impl Recording {
    fn add(&self, side: Side, stream: usize, bytes: &[u8]) {
        self.0.lock().unwrap().push(Said { side, stream, bytes: bytes.to_vec() });
    }

    /// Everything so far.
    ///
    /// # Panics
    /// Never, unless a relay did.
    #[must_use]
    pub fn said(&self) -> Vec<Said> {
        self.0.lock().unwrap().clone()
    }

    /// As text: one line for each time that somebody spoke.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for said in self.said() {
            let side = if said.side == Side::Connector { 'c' } else { 'e' };
            write!(text, "{side} {} ", said.stream).unwrap();
            said.bytes.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
            text.push('\n');
        }
        text
    }

    /// Reads the text back.
    ///
    /// # Panics
    /// When it is no recording.
    #[must_use]
    pub fn from_text(text: &str) -> Vec<Said> {
        text.lines().filter(|line| !line.starts_with('#')).map(said).collect()
    }
}

fn said(line: &str) -> Said {
    let mut words = line.split(' ');
    let side = if words.next() == Some("c") { Side::Connector } else { Side::Edge };
    let stream = words.next().and_then(|word| word.parse().ok()).expect("a stream");
    let digits = words.next().expect("bytes").as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| pair.iter().fold(0, |byte, &next| byte << 4 | digit(next).expect("hexadecimal"));
    Said { side, stream, bytes: digits.chunks(2).map(byte).collect() }
}

/// Both ends of TLS for an edge whose data is in a folder.
///
/// # Panics
/// When there is no authority in it.
#[must_use]
pub fn tls(data: &Path) -> (EdgeTls, ConnectorTls) {
    let leaf = Authority::open(data).unwrap().tunnel_leaf(&Hostname::parse("example.test").unwrap()).unwrap();
    let mut trusted = TrustPool::default();
    trusted.add_file(&data.join("tunnel-ca.pem")).unwrap();
    (
        adit_tunnel::tls::edge(leaf.chain, leaf.key).unwrap(),
        adit_tunnel::tls::connector(|provider| trusted.server_verifier(provider), false).unwrap(),
    )
}

/// Relays QUIC connections to an edge; returns where it listens.
///
/// # Panics
/// When there is no port.
#[must_use]
pub fn quic(edge: SocketAddr, data: &Path, recording: Recording) -> SocketAddr {
    let (server_tls, client_tls) = tls(data);
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = adit_tunnel::quic::bind_udp(loopback, false).unwrap();
    let server = adit_tunnel::quic::server(socket, server_tls.quic).unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move {
        let client = adit_tunnel::quic::client(loopback, client_tls.quic).unwrap();
        while let Some(incoming) = server.accept().await {
            let near = incoming.await.unwrap();
            let far = client.connect(edge, names::HOST_QUIC).unwrap().await.unwrap();
            tokio::spawn(relay_connection(near, far, recording.clone()));
        }
    });
    address
}

async fn relay_connection(near: quinn::Connection, far: quinn::Connection, recording: Recording) {
    for stream in 0.. {
        // The connector opens the control stream, the edge all others.
        let streams = tokio::select! {
            Ok(opened) = near.accept_bi() => far.open_bi().await.map(|answering| (opened, answering)),
            Ok(opened) = far.accept_bi() => near.open_bi().await.map(|answering| (answering, opened)),
            else => return,
        };
        let Ok((near_side, far_side)) = streams else { return };
        tokio::spawn(relay(near_side.1, near_side.0, far_side.1, far_side.0, stream, recording.clone()));
    }
}

async fn relay<NR, NW, FR, FW>(
    near_r: NR,
    near_w: NW,
    far_r: FR,
    far_w: FW,
    stream: usize,
    recording: Recording,
) where
    NR: AsyncRead + Unpin,
    NW: AsyncWrite + Unpin,
    FR: AsyncRead + Unpin,
    FW: AsyncWrite + Unpin,
{
    tokio::join!(
        copy(near_r, far_w, Side::Connector, stream, &recording),
        copy(far_r, near_w, Side::Edge, stream, &recording),
    );
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    side: Side,
    stream: usize,
    recording: &Recording,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        recording.add(side, stream, &buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    // An end on one side is an end on the other; it may have gone already.
    drop(to.shutdown().await);
}

/// Relays TLS connections on TCP to an edge; returns where it listens.
///
/// # Panics
/// When there is no port.
pub async fn http2(edge: SocketAddr, data: &Path, recording: Recording) -> SocketAddr {
    let (server_tls, client_tls) = tls(data);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(near) = TlsAcceptor::from(server_tls.tcp.clone()).accept(stream).await else { continue };
            // The pre-check's connections are not what is recorded.
            if near.get_ref().1.server_name() == Some(names::HOST_PROBE) {
                continue;
            }
            let far = connect_tcp(edge, &client_tls).await;
            let ((near_r, near_w), (far_r, far_w)) = (tokio::io::split(near), tokio::io::split(far));
            tokio::spawn(relay(near_r, near_w, far_r, far_w, 0, recording.clone()));
        }
    });
    address
}

/// Connects to an edge as a connector does on TCP.
///
/// # Panics
/// When the edge does not take it.
pub async fn connect_tcp(edge: SocketAddr, tls: &ConnectorTls) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(edge).await.unwrap();
    let name = ServerName::try_from(names::HOST_H2).unwrap();
    TlsConnector::from(tls.tcp.clone()).connect(name, stream).await.unwrap()
}
