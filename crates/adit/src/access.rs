//! `adit access tcp|ssh|rdp|smb`: the visitor's side of a TCP service. Bytes go inside a WebSocket to the service's public
//! name, as with `cloudflared access` (`carrier/carrier.go`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_http::websocket::{ByteStream, config, relay};
use adit_wire::names::JUMP_DESTINATION;
use http::header::{HeaderName, HeaderValue, USER_AGENT};
use http::uri::Authority;
use http::{Request, StatusCode};
use rustls::pki_types::ServerName;
use tokio::io::{stdin, stdout};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::Error as WebSocketError;

use crate::VERSION;
use crate::cli::access::AccessArgs;
use crate::connect::trusted;
use crate::failure::Failure;

/// Time for name, connection, TLS and handshake together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// After the local end, the service gets this long to send the rest.
const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 443;

/// A service behind an edge, as a client sees it.
#[derive(Clone, Debug)]
struct Door {
    authority: Authority,
    connect_to: Option<SocketAddr>,
    headers: Vec<(HeaderName, HeaderValue)>,
    tls: Arc<rustls::ClientConfig>,
}

/// Runs until standard input or the listener ends, or a signal comes.
///
/// # Errors
/// [`Failure`] for arguments that make no sense, or a service that cannot be reached.
pub fn run(args: &AccessArgs) -> Result<(), Failure> {
    let door = door(args)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::broke)?;
    let done = match &args.url {
        Some(url) => runtime.block_on(listen(&door, url)),
        None => runtime.block_on(pipe(&door)),
    };
    // A read of standard input that nobody answers must not hold the process.
    runtime.shutdown_background();
    done
}

fn door(args: &AccessArgs) -> Result<Door, Failure> {
    let bare = args.hostname.split_once("://").map_or(&*args.hostname, |(_, rest)| rest);
    let bare = bare.split('/').next().unwrap_or_default();
    let authority: Authority =
        bare.parse().map_err(|_| Failure::input(format!("--hostname {}: not a host name", args.hostname)))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = trusted(args.cacert.as_deref())?.server_verifier(provider.clone());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Failure::broke)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Door { authority, connect_to: args.connect_to, headers: headers(args)?, tls: Arc::new(tls) })
}

fn headers(args: &AccessArgs) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
    let mut headers = Vec::new();
    let mut add = |what: &str, name: &str, value: &str| {
        let bad = || Failure::input(format!("{what}: not a header"));
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| bad())?;
        value.set_sensitive(what.ends_with("secret"));
        headers.push((name, value));
        Ok(())
    };
    for header in &args.header {
        let split = header.split_once(':');
        let (name, value) =
            split.ok_or_else(|| Failure::input(format!("--header {header}: write it as NAME: VALUE")))?;
        add("--header", name, value)?;
    }
    let named = [
        ("--destination", JUMP_DESTINATION, &args.destination),
        ("--service-token-id", "cf-access-client-id", &args.service_token_id),
        ("--service-token-secret", "cf-access-client-secret", &args.service_token_secret),
    ];
    for (flag, name, value) in named {
        value.as_ref().map_or(Ok(()), |value| add(flag, name, value))?;
    }
    Ok(headers)
}

/// One way, on standard input and output.
async fn pipe(door: &Door) -> Result<(), Failure> {
    let far = door.open().await?;
    relay(stdin(), stdout(), far, PATIENCE).await.map_err(Failure::broke)
}

/// One way for each connection to a local address.
async fn listen(door: &Door, url: &str) -> Result<(), Failure> {
    let address = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Failure::input(format!("cannot listen on {address} (--url): {error}")))?;
    let bound = listener.local_addr().map_err(Failure::broke)?;
    tracing::info!(address = %bound, host = %door.authority, "listening");
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.map_err(Failure::broke)?.0,
            // No handler can be had: the signal ends the process by itself.
            Ok(()) = tokio::signal::ctrl_c() => return Ok(()),
        };
        tokio::spawn(serve(door.clone(), stream));
    }
}

async fn serve(door: Door, stream: TcpStream) {
    drop(stream.set_nodelay(true));
    let (read, write) = stream.into_split();
    match door.open().await {
        Ok(far) => match relay(read, write, far, PATIENCE).await {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "connection ended"),
        },
        Err(failure) => tracing::error!("{failure}"),
    }
}

impl Door {
    async fn open(&self) -> Result<ByteStream<TlsStream<TcpStream>>, Failure> {
        timeout(OPEN_TIMEOUT, self.opening()).await.map_err(|_| {
            Failure::broke(format!("{} did not answer within {OPEN_TIMEOUT:?}", self.authority))
        })?
    }

    async fn opening(&self) -> Result<ByteStream<TlsStream<TcpStream>>, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::broke(format!("{}: {error}", self.authority));
        let host = self.authority.host();
        let stream = match self.connect_to {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((host, self.authority.port_u16().unwrap_or(PORT))).await,
        };
        let stream = stream.map_err(|error| failed(&format!("cannot connect: {error}")))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
        let tls = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
        let tls = tls.map_err(|error| failed(&format!("TLS failed: {error}")))?;
        let request = self.request().map_err(|error| failed(&error))?;
        match client_async_with_config(request, tls, Some(config())).await {
            Ok((socket, _)) => Ok(ByteStream::new(socket)),
            Err(WebSocketError::Http(answer)) => Err(failed(&refusal(answer.status()))),
            Err(error) => Err(failed(&error)),
        }
    }

    fn request(&self) -> Result<Request<()>, WebSocketError> {
        let mut request = format!("wss://{}/", self.authority).into_client_request()?;
        let agent = HeaderValue::from_str(&format!("adit/{VERSION}"));
        let own = agent.into_iter().map(|agent| (USER_AGENT, agent));
        request.headers_mut().extend(own.chain(self.headers.iter().cloned()));
        Ok(request)
    }
}

fn refusal(status: StatusCode) -> String {
    let cause = match status.as_u16() {
        300..=399 => "it wants a login, and a service token is not there or not good",
        401 | 403 => "it refuses access",
        404 => "no service has this name",
        503 => "nobody is at home",
        502 | 504 => "the service does not answer",
        _ => "it is no TCP service",
    };
    format!("answered {status}: {cause}")
}
