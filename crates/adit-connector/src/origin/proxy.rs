//! Proxies of the environment between us and an origin: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, with Go's rules
//! (`net/http.ProxyFromEnvironment`): never for this machine itself.

use std::net::IpAddr;
use std::sync::OnceLock;

use adit_policy::ingress::Service;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Origin;

/// Bytes of a proxy's answer to CONNECT.
const ANSWER_MAX: usize = 8 * 1024;

/// The environment does not change.
static PROXIES: OnceLock<Matcher> = OnceLock::new();

/// How requests look that a proxy passes on.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    /// `http://host[:port]`, before each target.
    pub(super) prefix: String,
    /// Who we are to the proxy.
    pub(super) authorization: Option<HeaderValue>,
}

/// The proxy for an origin, if there is one. For rules of the edge there is none: a proxy would dial addresses that nobody
/// here has judged.
pub(super) fn of(origin: &Origin) -> Option<Intercept> {
    let Service::Http { tls, host, authority, .. } = &origin.service else { return None };
    if origin.settings.ceiling.is_some() || is_this_machine(host) {
        return None;
    }
    let scheme = if *tls { "https" } else { "http" };
    let uri: Uri = format!("{scheme}://{authority}/").parse().ok()?;
    PROXIES.get_or_init(from_environment).intercept(&uri)
}

/// Host and port of a proxy.
///
/// # Errors
/// When it is of a kind that we do not speak with.
pub(super) fn address(proxy: &Intercept) -> std::io::Result<(&str, u16)> {
    let uri = proxy.uri();
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(host)) => {
            Ok((host.trim_start_matches('[').trim_end_matches(']'), uri.port_u16().unwrap_or(80)))
        }
        _ => {
            Err(unsupported(format!("the proxy {} of the environment is none that speaks HTTP", shown(uri))))
        }
    }
}

/// How plain requests go through it.
pub(super) fn forward(proxy: &Intercept, authority: &str) -> Forward {
    Forward { prefix: format!("http://{authority}"), authorization: proxy.basic_auth().cloned() }
}

/// Has the proxy open a way to the service (CONNECT; RFC 9110, section 9.3.6).
///
/// # Errors
/// When it does not.
pub(super) async fn tunnel(
    stream: &mut TcpStream,
    proxy: &Intercept,
    host: &str,
    port: u16,
) -> std::io::Result<()> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(authorization) = proxy.basic_auth() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the head is the service's.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER_MAX {
            return Err(unsupported("the proxy's answer is too long".to_owned()));
        }
        answer.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&answer);
    let status = line.split_whitespace().nth(1).unwrap_or_default();
    match status.starts_with('2') {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("the proxy refuses: {status}"))),
    }
}

fn from_environment() -> Matcher {
    let value = |name: &str| {
        let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        given(name).or_else(|| given(&name.to_ascii_lowercase())).unwrap_or_default()
    };
    Matcher::builder().http(value("HTTP_PROXY")).https(value("HTTPS_PROXY")).no(value("NO_PROXY")).build()
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Without what may be a password.
fn shown(uri: &Uri) -> String {
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
}

fn unsupported(message: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::Unsupported, message)
}
