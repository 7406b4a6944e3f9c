//! Visitors on HTTP/3: with another implementation for requests, and by hand for what it does not know.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use adit_http3::frame::{DATA, FrameReader, HEADERS, Piece, SETTINGS, put_header};
use adit_http3::qpack;
use bytes::{Buf as _, Bytes, BytesMut};
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use http::{Method, Request, StatusCode};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::visitor::Answer;

/// Someone who asks on HTTP/3.
#[derive(Debug)]
pub struct Visitor3 {
    /// His socket.
    pub endpoint: quinn::Endpoint,
    address: SocketAddr,
}

/// A kept connection.
#[derive(Clone)]
pub struct Sender3 {
    /// The connection.
    pub quic: quinn::Connection,
    requests: SendRequest<OpenStreams, Bytes>,
}

impl Visitor3 {
    /// A visitor who trusts an authority.
    ///
    /// # Panics
    /// When the authority's file is not one, or there is no socket.
    #[must_use]
    pub fn new(address: SocketAddr, authority: &Path) -> Self {
        Self::from_address([127, 0, 0, 1].into(), address, authority)
    }

    /// The same, connecting from this loopback address.
    ///
    /// # Panics
    /// When the authority's file is not one, or there is no socket.
    #[must_use]
    pub fn from_address(from: IpAddr, address: SocketAddr, authority: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let crypto = QuicClientConfig::try_from(Arc::new(tls)).unwrap();
        let mut endpoint = quinn::Endpoint::client(SocketAddr::new(from, 0)).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        Self { endpoint, address }
    }

    /// Opens a QUIC connection and says nothing on it.
    ///
    /// # Errors
    /// When the edge does not take it.
    ///
    /// # Panics
    /// When the name is none.
    pub async fn quic(&self, host: &str) -> Result<quinn::Connection, quinn::ConnectionError> {
        self.endpoint.connect(self.address, host).unwrap().await
    }

    /// Opens a connection to keep.
    ///
    /// # Panics
    /// When the edge does not take it.
    pub async fn connect(&self, host: &str) -> Sender3 {
        let quic = self.quic(host).await.expect("a connection");
        let (mut driver, requests) =
            h3::client::new(h3_quinn::Connection::new(quic.clone())).await.expect("HTTP/3");
        tokio::spawn(async move { drop(driver.wait_idle().await) });
        Sender3 { quic, requests }
    }

    /// GET.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, host: &str, path: &str) -> Answer {
        self.connect(host).await.ask(Method::GET, host, path, Bytes::new()).await
    }

    /// Opens a WebSocket (RFC 9220).
    ///
    /// # Panics
    /// When it is refused.
    pub async fn websocket(&self, host: &str, path: &str) -> WebSocketStream<DuplexStream> {
        let quic = self.quic(host).await.expect("a connection");
        let mut control = quic.open_uni().await.unwrap();
        control.write_all(&[0, SETTINGS as u8, 0]).await.unwrap();
        let (mut send, mut recv) = quic.open_bi().await.unwrap();
        let head = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", host),
            (":path", path),
            ("sec-websocket-version", "13"),
        ];
        send.write_all(&head_frame(&head)).await.unwrap();
        let (mut reader, mut buffer) = (FrameReader::new(65_536), BytesMut::new());
        let Some(Piece::Headers(section)) = next(&mut recv, &mut reader, &mut buffer).await else {
            panic!("no answer");
        };
        let fields = qpack::decode(section, 65_536, 100).unwrap();
        assert_eq!(&fields[0].value[..], b"200", "{fields:?}");
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (mut from_user, mut to_user) = tokio::io::split(far);
        tokio::spawn(async move {
            let mut data = vec![0; 16 * 1024];
            while let Ok(count @ 1..) = from_user.read(&mut data).await {
                let mut frame = BytesMut::new();
                put_header(DATA, count, &mut frame);
                frame.extend_from_slice(&data[..count]);
                if send.write_all(&frame).await.is_err() {
                    return;
                }
            }
            drop(send.finish());
        });
        tokio::spawn(async move {
            // The connection lives as long as its stream.
            let (_quic, _control) = (quic, control);
            while let Some(Piece::Data(data)) = next(&mut recv, &mut reader, &mut buffer).await {
                if to_user.write_all(&data).await.is_err() {
                    return;
                }
            }
        });
        WebSocketStream::from_raw_socket(near, Role::Client, None).await
    }
}

impl Sender3 {
    /// Asks, and reads the whole answer.
    ///
    /// # Panics
    /// When there is none.
    pub async fn ask(&mut self, method: Method, host: &str, path: &str, body: Bytes) -> Answer {
        let uri = format!("https://{host}{path}");
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        self.send(request, body).await.expect("an answer")
    }

    /// Sends a request with its body and reads the whole answer.
    ///
    /// # Errors
    /// When there is none, or it breaks off.
    pub async fn send(
        &mut self,
        request: Request<()>,
        body: Bytes,
    ) -> Result<Answer, h3::error::StreamError> {
        let (mut send, mut recv) = self.requests.send_request(request).await?.split();
        let uploading = async {
            if !body.is_empty() {
                send.send_data(body).await?;
            }
            send.finish().await
        };
        let answering = async {
            let head = recv.recv_response().await?;
            let mut body = BytesMut::new();
            while let Some(mut data) = recv.recv_data().await? {
                let length = data.remaining();
                body.extend_from_slice(&data.copy_to_bytes(length));
            }
            let trailers = recv.recv_trailers().await?.unwrap_or_default();
            let (status, headers): (StatusCode, _) = (head.status(), head.headers().clone());
            Ok(Answer { status, headers, body: body.freeze(), trailers })
        };
        // An early answer ends an upload that nobody reads.
        let (uploaded, answer) = tokio::join!(uploading, answering);
        answer.or_else(|error| uploaded.and(Err(error)))
    }
}

/// A frame with a field section of these fields.
#[must_use]
pub fn head_frame(fields: &[(&str, &str)]) -> BytesMut {
    let (mut section, mut frame) = (BytesMut::new(), BytesMut::new());
    qpack::start(&mut section);
    fields.iter().for_each(|(name, value)| qpack::put(name, value.as_bytes(), &mut section));
    put_header(HEADERS, section.len(), &mut frame);
    frame.extend_from_slice(&section);
    frame
}

async fn next(
    recv: &mut quinn::RecvStream,
    reader: &mut FrameReader,
    buffer: &mut BytesMut,
) -> Option<Piece> {
    loop {
        match reader.take(buffer).ok()? {
            Piece::NeedMore => buffer.extend_from_slice(&recv.read_chunk(65_536, true).await.ok()??.bytes),
            piece => return Some(piece),
        }
    }
}
