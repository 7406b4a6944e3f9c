//! Where an ingress rule sends requests (cloudflared: `ingress/origin_service.go`).

use std::fmt;
use std::path::PathBuf;

/// A rule's service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// `http://`, `https://`, `ws://`, `wss://`.
    Http(HttpOrigin),
    /// `unix:` and `unix+tls:`: HTTP over a socket file.
    Unix {
        /// The socket.
        path: PathBuf,
        /// Whether TLS is spoken on it.
        tls: bool,
    },
    /// `hello_world`: the built-in page.
    HelloWorld,
    /// `http_status:N`: an empty answer.
    Status(u16),
    /// `tcp://`, `ssh://`, `rdp://`, `smb://` and any other scheme: raw bytes.
    Tcp {
        /// The scheme as written.
        scheme: String,
        /// Host of the destination.
        host: String,
        /// Port of the destination.
        port: u16,
    },
    /// `bastion`: the client names the destination.
    Bastion,
    /// `socks-proxy`: a SOCKS5 server.
    SocksProxy,
}

/// An HTTP origin on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOrigin {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Host and port as written: the default Host field has it.
    pub authority: String,
}

/// Why a text is no service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// No scheme or no host.
    #[error("`{0}` is no address: it needs a scheme and a host name, like `http://localhost:8080`")]
    Address(String),
    /// A path where none can be.
    #[error("`{0}` has a path; the visitor's path is used")]
    Path(String),
    /// A status that does not exist.
    #[error("`{0}` is no status code; it must be 100 to 999")]
    Status(String),
    /// A bad port.
    #[error("`{0}` has no valid port")]
    Port(String),
}

impl Service {
    /// Reads a service as cloudflared does.
    ///
    /// # Errors
    /// [`ServiceError`] quotes the text and says what is wrong.
    pub fn parse(text: &str) -> Result<Self, ServiceError> {
        if let Some(path) = text.strip_prefix("unix+tls:") {
            return Ok(Self::Unix { path: PathBuf::from(path), tls: true });
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix { path: PathBuf::from(path), tls: false });
        }
        if let Some(status) = text.strip_prefix("http_status:") {
            return parse_status(status);
        }
        match text {
            "hello_world" | "hello-world" => Ok(Self::HelloWorld),
            "bastion" => Ok(Self::Bastion),
            "socks-proxy" => Ok(Self::SocksProxy),
            _ => parse_url(text),
        }
    }

    /// Whether it answers by itself, with nothing behind it.
    #[must_use]
    pub fn is_status(&self) -> bool {
        matches!(self, Self::Status(_))
    }
}

fn parse_status(text: &str) -> Result<Service, ServiceError> {
    let status = text.parse::<u16>().ok().filter(|status| (100..1000).contains(status));
    status.map(Service::Status).ok_or_else(|| ServiceError::Status(text.to_owned()))
}

fn parse_url(text: &str) -> Result<Service, ServiceError> {
    let address = || ServiceError::Address(text.to_owned());
    let (scheme, rest) = text.split_once("://").ok_or_else(address)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if scheme.is_empty() || authority.is_empty() || authority.contains(['@', ' ']) {
        return Err(address());
    }
    if !path.is_empty() && path != "/" {
        return Err(ServiceError::Path(text.to_owned()));
    }
    let (host, port) = split_port(authority).ok_or_else(|| ServiceError::Port(text.to_owned()))?;
    if host.is_empty() {
        return Err(address());
    }
    let (host, authority) = (host.to_owned(), authority.to_owned());
    Ok(match scheme {
        "http" | "ws" => Service::Http(HttpOrigin { tls: false, host, port: port.unwrap_or(80), authority }),
        "https" | "wss" => Service::Http(HttpOrigin { tls: true, host, port: port.unwrap_or(443), authority }),
        _ => Service::Tcp { scheme: scheme.to_owned(), host, port: port.unwrap_or_else(|| default_port(scheme)) },
    })
}

/// Default ports of the schemes that cloudflared knows; 7864 is its own for `tcp`.
fn default_port(scheme: &str) -> u16 {
    match scheme {
        "ssh" => 22,
        "rdp" => 3389,
        "smb" => 445,
        _ => 7864,
    }
}

/// Host without brackets, and port if there is one. `None` for a port that is none.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return match port.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None if port.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((authority, None)),
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(origin) => {
                write!(f, "http{}://{}", if origin.tls { "s" } else { "" }, origin.authority)
            }
            Self::Unix { path, tls } => write!(f, "unix{}:{}", if *tls { "+tls" } else { "" }, path.display()),
            Self::HelloWorld => f.write_str("hello_world"),
            Self::Status(status) => write!(f, "http_status:{status}"),
            Self::Tcp { scheme, host, port } => write!(f, "{scheme}://{host}:{port}"),
            Self::Bastion => f.write_str("bastion"),
            Self::SocksProxy => f.write_str("socks-proxy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_as_cloudflared_does() {
        for (text, shown) in [
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://localhost:8080/", "http://localhost:8080"),
            ("https://a", "https://a"),
            ("wss://a:1", "https://a:1"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("unix+tls:/a", "unix+tls:/a"),
            ("hello-world", "hello_world"),
            ("http_status:404", "http_status:404"),
            ("ssh://host", "ssh://host:22"),
            ("tcp://host", "tcp://host:7864"),
            ("ftp://host:21", "ftp://host:21"),
            ("http://[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(Service::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_text() {
        for text in ["localhost:8080", "", "http://", "http://:80", "://a", "http://u@h"] {
            assert!(matches!(Service::parse(text), Err(ServiceError::Address(_))), "{text}");
        }
        for text in ["http://a/path", "http://a?q"] {
            assert!(matches!(Service::parse(text), Err(ServiceError::Path(_))), "{text}");
        }
        for text in ["http_status:99", "http_status:1000", "http_status:x"] {
            assert!(matches!(Service::parse(text), Err(ServiceError::Status(_))), "{text}");
        }
        for text in ["http://a:99999", "http://a:", "http://[::1", "http://[::1]x"] {
            assert!(matches!(Service::parse(text), Err(ServiceError::Port(_))), "{text}");
        }
    }
}
