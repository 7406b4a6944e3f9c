//! Visitors: HTTP/1.1 and HTTP/2 over TLS, plain HTTP, and WebSockets over both.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
pub use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::pki::Pair;

/// A body of any kind.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: HeaderMap,
}

impl Answer {
    /// Its body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text; empty when it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Someone who asks. Every request gets a connection of its own, unless a [`Sender`] is kept.
#[derive(Clone, Debug)]
pub struct Visitor {
    address: SocketAddr,
    /// The loopback address to connect from; the system's choice without one.
    from: Option<IpAddr>,
    tls: Option<Arc<ClientConfig>>,
    http2: bool,
    /// Bytes that may be sent before a response is read, on each stream of HTTP/2; `None` for the library's choice.
    window: Option<u32>,
}

fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn roots(authority: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    roots
}

/// A kept connection.
#[derive(Debug)]
pub enum Sender {
    /// HTTP/1.1.
    Http1(http1::SendRequest<Body>),
    /// HTTP/2.
    Http2(http2::SendRequest<Body>),
}

impl Visitor {
    /// A visitor on HTTP/1.1 who trusts an authority.
    ///
    /// # Panics
    /// When the authority's file is not one.
    #[must_use]
    pub fn new(address: SocketAddr, authority: &Path) -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
        let mut tls = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(authority))
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { address, from: None, tls: Some(Arc::new(tls)), http2: false, window: None }
    }

    /// One whose TLS is old: version 1.2, and RSA keys alone.
    ///
    /// # Panics
    /// When the authority's file is not one.
    #[must_use]
    pub fn with_old_tls(address: SocketAddr, authority: &Path) -> Self {
        let mut provider = provider();
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("RSA_WITH"));
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
        let tls = builder.with_root_certificates(roots(authority)).with_no_client_auth();
        Self { address, from: None, tls: Some(Arc::new(tls)), http2: false, window: None }
    }

    /// One who begins each time anew, and offers X25519 alone.
    ///
    /// # Panics
    /// When the authority's file is not one.
    #[must_use]
    pub fn without_tickets(address: SocketAddr, authority: &Path) -> Self {
        let mut provider = provider();
        provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut tls = builder.with_root_certificates(roots(authority)).with_no_client_auth();
        tls.resumption = rustls::client::Resumption::disabled();
        Self { address, from: None, tls: Some(Arc::new(tls)), http2: false, window: None }
    }

    /// A visitor without TLS.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, from: None, tls: None, http2: false, window: None }
    }

    /// The same with a certificate of his own.
    ///
    /// # Panics
    /// When the files are none.
    #[must_use]
    pub fn with_certificate(mut self, authority: &Path, pair: &Pair) -> Self {
        let chain = vec![CertificateDer::from_pem_file(&pair.certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots(authority));
        let mut tls = builder.with_client_auth_cert(chain, key).unwrap();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        self.tls = Some(Arc::new(tls));
        self
    }

    /// The same, connecting from this loopback address.
    #[must_use]
    pub fn from_address(mut self, ip: IpAddr) -> Self {
        self.from = Some(ip);
        self
    }

    /// A TCP connection to the edge.
    ///
    /// # Errors
    /// When the edge does not take it.
    pub async fn dial(&self) -> std::io::Result<TcpStream> {
        let Some(ip) = self.from else { return TcpStream::connect(self.address).await };
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(ip, 0))?;
        socket.connect(self.address).await
    }

    /// The same on HTTP/2.
    #[must_use]
    pub fn http2(mut self) -> Self {
        if let Some(tls) = &mut self.tls {
            Arc::make_mut(tls).alpn_protocols = vec![b"h2".to_vec()];
        }
        self.http2 = true;
        self
    }

    /// The same, who lets only so many bytes of a response come before they are read, on HTTP/2.
    #[must_use]
    pub fn with_window(mut self, bytes: u32) -> Self {
        self.window = Some(bytes);
        self
    }

    /// A raw stream to the edge, with TLS for a name.
    ///
    /// # Errors
    /// When the edge does not take the connection.
    ///
    /// # Panics
    /// When the name is none, or this visitor has no TLS.
    pub async fn raw(&self, host: &str) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = self.dial().await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(self.tls.clone().expect("a visitor with TLS")).connect(name, stream).await
    }

    /// The kind of key that the edge shows: `RSA` or `ECDSA`.
    ///
    /// # Errors
    /// When there is no handshake.
    pub async fn key_of(&self, host: &str) -> std::io::Result<&'static str> {
        let stream = self.raw(host).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let leaf = chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default();
        // The object identifier of an RSA key (RFC 8017, appendix A.1).
        let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
        Ok(if leaf.windows(rsa.len()).any(|window| window == rsa) { "RSA" } else { "ECDSA" })
    }

    /// Opens a connection to keep.
    ///
    /// # Errors
    /// When the edge does not take it.
    pub async fn connect(&self, host: &str) -> std::io::Result<Sender> {
        if self.tls.is_some() {
            return self.over(self.raw(host).await?).await;
        }
        self.over(self.dial().await?).await
    }

    async fn over<S>(&self, stream: S) -> std::io::Result<Sender>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        if self.http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            if self.window.is_some() {
                builder.initial_stream_window_size(self.window);
            }
            let handshake = builder.handshake(io);
            let (sender, connection) = handshake.await.map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            return Ok(Sender::Http2(sender));
        }
        let (sender, connection) = http1::handshake(io).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection.with_upgrades());
        Ok(Sender::Http1(sender))
    }

    /// A request for this visitor's protocol.
    ///
    /// # Panics
    /// When host or path are none.
    #[must_use]
    pub fn request(&self, method: Method, host: &str, path: &str, body: Body) -> Request<Body> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let builder = Request::builder().method(method);
        if self.http2 {
            let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(path).build().unwrap();
            return builder.uri(uri).body(body).unwrap();
        }
        builder.uri(path).header("host", host).body(body).unwrap()
    }

    /// Sends a request; the body of the answer is still to come.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, host: &str, request: Request<Body>) -> std::io::Result<Response<Incoming>> {
        self.connect(host).await?.send(request).await
    }

    /// Asks, and reads the whole answer.
    ///
    /// # Panics
    /// When there is none.
    pub async fn ask(&self, host: &str, request: Request<Body>) -> Answer {
        let response = self.send(host, request).await.expect("an answer");
        whole(response).await.expect("a whole answer")
    }

    /// GET.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, host: &str, path: &str) -> Answer {
        self.ask(host, self.request(Method::GET, host, path, empty())).await
    }

    /// POST of a body whose length is known.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn post(&self, host: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        self.ask(host, self.request(Method::POST, host, path, full(body))).await
    }

    /// Opens a WebSocket: by upgrade on HTTP/1.1, by extended CONNECT on HTTP/2 (RFC 8441).
    ///
    /// # Panics
    /// When it is refused.
    pub async fn websocket(
        &self,
        host: &str,
        path: &str,
    ) -> WebSocketStream<TokioIo<hyper::upgrade::Upgraded>> {
        let mut request = self.request(Method::GET, host, path, empty());
        let expected = if self.http2 {
            *request.method_mut() = Method::CONNECT;
            request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
            request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
            StatusCode::OK
        } else {
            for (name, value) in [
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ] {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            StatusCode::SWITCHING_PROTOCOLS
        };
        let response = self.send(host, request).await.expect("an answer");
        assert_eq!(response.status(), expected);
        if !self.http2 {
            // RFC 6455, section 1.3: the answer to the sample nonce.
            assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        }
        let upgraded = hyper::upgrade::on(response).await.expect("an upgrade");
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
    }
}

impl Sender {
    /// Sends a request.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&mut self, request: Request<Body>) -> std::io::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await.map_err(std::io::Error::other)?;
                sender.send_request(request).await.map_err(std::io::Error::other)
            }
            Self::Http2(sender) => {
                sender.ready().await.map_err(std::io::Error::other)?;
                sender.send_request(request).await.map_err(std::io::Error::other)
            }
        }
    }
}

/// Reads an answer to its end.
///
/// # Errors
/// When it breaks off.
pub async fn whole(response: Response<Incoming>) -> std::io::Result<Answer> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await.map_err(std::io::Error::other)?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Answer { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers })
}

/// No body.
#[must_use]
pub fn empty() -> Body {
    full(Bytes::new())
}

/// A body whose length is known.
#[must_use]
pub fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

/// A body of chunks whose length is not known, with the way to feed it.
#[must_use]
pub fn streamed() -> (http_body_util::channel::Sender<Bytes, std::io::Error>, Body) {
    let (sender, body) = http_body_util::channel::Channel::<Bytes, std::io::Error>::new(8);
    (sender, body.boxed())
}
