//! An origin that does what a test asks of it, by path.

mod say;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

type Body = BoxBody<Bytes, std::io::Error>;

/// A running origin. It speaks HTTP/1.1, and HTTP/2 without TLS.
///
/// | path | answer |
/// |---|---|
/// | `/echo` | the request's body, as it comes, with its trailers |
/// | `/request` | method, target and headers of the request, as JSON |
/// | `/bytes/N` | N bytes |
/// | `/stream/N` | N bytes, of which only a few are in memory |
/// | `/port` | its own port |
/// | `/page` | a page that says how it came, and echoes over a WebSocket |
/// | `/status/N` | that status |
/// | `/events` | one event for each [`Origin::tick`], for ever |
/// | `/events/N` | a line each N milliseconds, for ever |
/// | `/held` | nothing until [`Origin::release`] |
/// | `/broken` | half of its body |
/// | `/websocket` | echoes messages |
/// | `/say?…`, `?say&…` | what the query says: `status`, `body`, `size`, and any field; the body has the number of the request |
/// | `/grpc` | echoes the body with `grpc-status` in trailers |
/// | `/grpc/refused` | `grpc-status` in the head, and no body |
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    port: u16,
    ticks: Semaphore,
    released: Semaphore,
    uploads_broken: AtomicUsize,
    answers_dropped: AtomicUsize,
    held: AtomicUsize,
    /// Requests by path and query.
    asked: Mutex<HashMap<String, usize>>,
    changed: Notify,
}

impl Origin {
    /// Starts one on a thread of its own.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start() -> Self {
        Self::launch(None)
    }

    /// The same over TLS, with a certificate and its key in PEM.
    ///
    /// # Panics
    /// When they are none.
    #[must_use]
    pub fn start_tls(certificate: &Path, key: &Path) -> Self {
        let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::launch(Some(TlsAcceptor::from(Arc::new(config))))
    }

    fn launch(tls: Option<TlsAcceptor>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            port: address.port(),
            ticks: Semaphore::new(0),
            released: Semaphore::new(0),
            uploads_broken: AtomicUsize::new(0),
            answers_dropped: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            asked: Mutex::default(),
            changed: Notify::new(),
        });
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let state = shared.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, tls, state) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, _stop: stop }
    }

    /// How many requests have come for a path, with its query.
    ///
    /// # Panics
    /// When a request broke it.
    #[must_use]
    pub fn asked(&self, target: &str) -> usize {
        self.shared.asked.lock().unwrap().get(target).copied().unwrap_or_default()
    }

    /// Lets `/events` send one more event.
    pub fn tick(&self) {
        self.shared.ticks.add_permits(1);
    }

    /// Lets one request to `/held` go on.
    pub fn release(&self) {
        self.shared.released.add_permits(1);
    }

    /// Waits until this many requests to `/held` have come.
    pub async fn has_held(&self, count: usize) {
        self.until(|shared| shared.held.load(Ordering::SeqCst) >= count).await;
    }

    /// Waits until this many uploads broke off before their end.
    pub async fn has_seen_broken_uploads(&self, count: usize) {
        self.until(|shared| shared.uploads_broken.load(Ordering::SeqCst) >= count).await;
    }

    /// Waits until this many answers were no longer wanted.
    pub async fn has_been_left(&self, times: usize) {
        self.until(|shared| shared.answers_dropped.load(Ordering::SeqCst) >= times).await;
    }

    async fn until(&self, is: impl Fn(&Shared) -> bool) {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                if is(&self.shared) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(crate::program::PATIENCE, waiting).await.expect("the origin sees it");
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        drop(stream.set_nodelay(true));
        let (tls, shared) = (tls.clone(), shared.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, shared).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, shared).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request| answer(request, shared.clone()));
    let server = auto::Builder::new(TokioExecutor::new());
    // A peer that leaves is what many tests are about.
    drop(server.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let count = {
        let mut asked = shared.asked.lock().unwrap();
        let count = asked.entry(target).or_insert(0);
        *count += 1;
        *count
    };
    let number =
        || path.rsplit('/').next().and_then(|number| number.parse::<usize>().ok()).unwrap_or_default();
    Ok(match path.as_str() {
        "/request" => described(&request),
        "/echo" => Response::new(echo(request.into_body(), shared, HeaderMap::new())),
        "/grpc" => grpc(request, shared),
        "/grpc/refused" => grpc_refused(),
        "/events" => events(shared),
        "/page" => page(),
        "/port" => Response::new(full(shared.port.to_string())),
        "/held" => held(shared).await,
        "/broken" => broken(),
        "/websocket" => websocket(request),
        path if path.starts_with("/say") || is_to_say(&request) => say::answer(&request, count),
        path if path.starts_with("/events/") => beats(number() as u64, shared),
        path if path.starts_with("/stream/") => stream(number(), shared),
        path if path.starts_with("/bytes/") => Response::new(full(vec![b'x'; number()])),
        path if path.starts_with("/status/") => {
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::from_u16(number() as u16).unwrap_or(StatusCode::BAD_REQUEST);
            response
        }
        _ => Response::new(full(format!("{} {path}\n", request.method()))),
    })
}

/// Any path says what the query wants that begins with `say`.
fn is_to_say(request: &Request<Incoming>) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').next() == Some("say"))
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

/// What a browser makes of the way: the protocol of the page, a fetch, and a WebSocket's echo. It is loaded once its image
/// is, which is held; at the end it asks for `/bytes/7`.
fn page() -> Response<Body> {
    let page = "<!doctype html><title>a page</title><h1>A service at home</h1><p id=way>waiting</p><img src=/held><script type=module>\
        const way = document.querySelector('#way');\
        const protocol = performance.getEntriesByType('navigation')[0].nextHopProtocol;\
        const body = await (await fetch('/bytes/100000')).text();\
        const socket = new WebSocket(location.href.replace('https', 'wss').replace('/page', '/websocket'));\
        socket.onopen = () => socket.send('echo');\
        const message = await new Promise(heard => { socket.onmessage = heard; });\
        way.textContent = `page by ${protocol}, ${body.length} bytes, socket ${message.data}`;\
        await fetch('/bytes/7');\
        </script>";
    let mut response = Response::new(full(page));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/html"));
    response
}

fn described(request: &Request<Incoming>) -> Response<Body> {
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let text = json!({
        "method": request.method().as_str(),
        "target": request.uri().path_and_query().map(ToString::to_string),
        "headers": headers,
        "version": format!("{:?}", request.version()),
        "has_body": !request.body().is_end_stream(),
    });
    Response::new(full(text.to_string()))
}

fn grpc(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("grpc-message", "fine".parse().unwrap());
    let mut response = Response::new(echo(request.into_body(), shared, trailers));
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response
}

fn grpc_refused() -> Response<Body> {
    let mut response = Response::new(http_body_util::Empty::new().map_err(|never| match never {}).boxed());
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response.headers_mut().insert("grpc-status", "5".parse().unwrap());
    response
}

/// Sends back what comes, as it comes.
fn echo(mut body: Incoming, shared: Arc<Shared>, trailers: HeaderMap) -> Body {
    let (mut sender, channel) = Channel::<Bytes, std::io::Error>::new(4);
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                shared.uploads_broken.fetch_add(1, Ordering::SeqCst);
                shared.changed.notify_waiters();
                return sender.abort(std::io::Error::other("the upload broke off"));
            };
            if sender.send(frame).await.is_err() {
                return left(&shared);
            }
        }
        if !trailers.is_empty() {
            drop(sender.send_trailers(trailers).await);
        }
    });
    channel.boxed()
}

fn left(shared: &Shared) {
    shared.answers_dropped.fetch_add(1, Ordering::SeqCst);
    shared.changed.notify_waiters();
}

/// One event per tick. A reader that leaves is noticed.
fn events(shared: Arc<Shared>) -> Response<Body> {
    let (mut sender, channel) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        let mut number = 0;
        loop {
            // A comment line now and then finds out whether anybody listens.
            let tick =
                tokio::time::timeout(std::time::Duration::from_millis(100), shared.ticks.acquire()).await;
            let line = match tick {
                Ok(permit) => {
                    permit.unwrap().forget();
                    number += 1;
                    format!("data: {number}\n\n")
                }
                Err(_) => ":\n\n".to_owned(),
            };
            if sender.send_data(line.into()).await.is_err() {
                return left(&shared);
            }
        }
    });
    let mut response = Response::new(channel.boxed());
    response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    response
}

/// So many bytes, in pieces. A reader that leaves is noticed.
fn stream(length: usize, shared: Arc<Shared>) -> Response<Body> {
    static PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
    let (mut sender, channel) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        let mut left = length;
        while left > 0 {
            let piece = left.min(PIECE.len());
            if sender.send_data(Bytes::from_static(&PIECE[..piece])).await.is_err() {
                return self::left(&shared);
            }
            left -= piece;
        }
    });
    let mut response = Response::new(channel.boxed());
    response.headers_mut().insert("content-length", length.into());
    response
}

/// A line each so many milliseconds.
fn beats(milliseconds: u64, shared: Arc<Shared>) -> Response<Body> {
    let (mut sender, channel) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
            if sender.send_data(Bytes::from_static(b"data: beat\n\n")).await.is_err() {
                return left(&shared);
            }
        }
    });
    let mut response = Response::new(channel.boxed());
    response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    response
}

async fn held(shared: Arc<Shared>) -> Response<Body> {
    shared.held.fetch_add(1, Ordering::SeqCst);
    shared.changed.notify_waiters();
    shared.released.acquire().await.unwrap().forget();
    Response::new(full("released"))
}

/// Promises 100 bytes and sends 50.
fn broken() -> Response<Body> {
    let (mut sender, channel) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        drop(sender.send_data(Bytes::from_static(&[b'x'; 50])).await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        sender.abort(std::io::Error::other("broken on purpose"));
    });
    let mut response = Response::new(channel.boxed());
    response.headers_mut().insert("content-length", "100".parse().unwrap());
    response
}

fn websocket(mut request: Request<Incoming>) -> Response<Body> {
    let mut response = Response::new(full(""));
    let key = request.headers().get("sec-websocket-key").cloned();
    let (Some(key), &Method::GET) = (key, request.method()) else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            let echoed = message.is_text() || message.is_binary();
            if echoed && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("connection", "Upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    headers.insert("sec-websocket-accept", derive_accept_key(key.as_bytes()).parse().unwrap());
    response
}
