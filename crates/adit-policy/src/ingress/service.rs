//! The services that a rule can lead to, in cloudflared's spelling.

use std::fmt;
use std::path::PathBuf;

use crate::host::{HostError, Hostname};

/// Who answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// `http://h[:p]`, `https://h[:p]`, and their WebSocket spellings `ws://`, `wss://`.
    Http {
        /// Whether the origin speaks TLS.
        tls: bool,
        /// Host to dial: a name, or an IP address without brackets.
        host: String,
        /// Port to dial.
        port: u16,
        /// `host[:port]` as written.
        authority: String,
    },
    /// `unix:/path`, `unix+tls:/path`: HTTP over a socket in the file system.
    Unix {
        /// The socket.
        path: PathBuf,
        /// Whether the origin speaks TLS.
        tls: bool,
    },
    /// `hello_world`: the built-in page.
    HelloWorld,
    /// `http_status:N`: that status, with an empty body.
    Status(u16),
    /// `tcp://h:p`, `ssh://`, `rdp://`, `smb://` and any other scheme: bytes inside a WebSocket.
    Tcp {
        /// The scheme as written, in lower case.
        scheme: String,
        /// Host to dial: a name, or an IP address without brackets.
        host: String,
        /// Port to dial. `None` if there is none and the scheme has no usual one.
        port: Option<u16>,
    },
    /// `bastion`: bytes inside a WebSocket, to where the request says.
    Bastion,
    /// `socks-proxy`: a SOCKS5 server inside a WebSocket.
    SocksProxy,
}

/// Why a text is no service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Nothing is there.
    #[error("the service is empty")]
    Empty,
    /// A URL without a scheme or a host.
    #[error("`{0}` is an invalid address: it needs a scheme and a hostname")]
    NotAnAddress(String),
    /// A URL with a path.
    #[error(
        "`{0}` is an invalid address: a rule cannot lead to another path of the origin; \
         the path is the one of the visitor's request"
    )]
    Path(String),
    /// A URL with user information, a query or a fragment.
    #[error("`{0}` is an invalid address: only scheme, host and port can stand there")]
    Extra(String),
    /// The port is not a number from 1 to 65535.
    #[error("`{0}` has an invalid port (1 to 65535)")]
    Port(String),
    /// The host is not a host name.
    #[error("`{0}` is an invalid address: {1}")]
    Host(String, HostError),
    /// Not a number from 100 to 999.
    #[error("invalid HTTP status code `{0}` (100 to 999)")]
    Status(String),
    /// `unix:` without a path.
    #[error("the path of the socket is missing")]
    SocketPath,
}

impl Service {
    /// Reads the `service` of a rule.
    ///
    /// # Errors
    /// [`ServiceError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, ServiceError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path, false);
        }
        if let Some(path) = text.strip_prefix("unix+tls:") {
            return unix(path, true);
        }
        if let Some(code) = text.strip_prefix("http_status:") {
            return status(code);
        }
        match text {
            "" => Err(ServiceError::Empty),
            "hello_world" | "hello-world" => Ok(Self::HelloWorld),
            "bastion" => Ok(Self::Bastion),
            "socks-proxy" => Ok(Self::SocksProxy),
            url => address(url),
        }
    }

    /// Whether it is an address to connect to.
    #[must_use]
    pub fn has_address(&self) -> bool {
        matches!(self, Self::Http { .. } | Self::Unix { .. } | Self::Tcp { .. })
    }

    /// The address that might be meant by a text that is no service.
    #[must_use]
    pub fn suggest(text: &str) -> Option<String> {
        let candidate = match text.split_once("://") {
            Some((scheme, rest)) => {
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let host = authority.rsplit('@').next().unwrap_or_default();
                format!("{scheme}://{host}")
            }
            None if text.starts_with('/') => format!("unix:{text}"),
            None if text.contains(":/") => return None,
            None if ["unix", "http_status"].iter().any(|word| text.starts_with(word)) => return None,
            None => format!("http://{}", text.split('/').next().unwrap_or_default()),
        };
        Self::parse(&candidate).is_ok().then_some(candidate)
    }

    /// Whether requests go to it as HTTP.
    #[must_use]
    pub fn is_http(&self) -> bool {
        matches!(self, Self::Http { .. } | Self::Unix { .. } | Self::HelloWorld | Self::Status(_))
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { tls: false, authority, .. } => write!(f, "http://{authority}"),
            Self::Http { tls: true, authority, .. } => write!(f, "https://{authority}"),
            Self::Unix { path, tls: false } => write!(f, "unix:{}", path.display()),
            Self::Unix { path, tls: true } => write!(f, "unix+tls:{}", path.display()),
            Self::HelloWorld => f.write_str("hello_world"),
            Self::Status(code) => write!(f, "http_status:{code}"),
            Self::Tcp { scheme, host, port } => {
                write!(f, "{scheme}://{}", Bracketed(host))?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Self::Bastion => f.write_str("bastion"),
            Self::SocksProxy => f.write_str("socks-proxy"),
        }
    }
}

/// An IPv6 address gets its brackets back.
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.contains(':') {
            true => write!(f, "[{}]", self.0),
            false => f.write_str(self.0),
        }
    }
}

fn unix(path: &str, tls: bool) -> Result<Service, ServiceError> {
    match path.is_empty() {
        true => Err(ServiceError::SocketPath),
        false => Ok(Service::Unix { path: path.into(), tls }),
    }
}

fn status(code: &str) -> Result<Service, ServiceError> {
    match code.parse::<u16>() {
        Ok(number) if (100..=999).contains(&number) => Ok(Service::Status(number)),
        _ => Err(ServiceError::Status(code.to_owned())),
    }
}

fn address(text: &str) -> Result<Service, ServiceError> {
    let not_an_address = || ServiceError::NotAnAddress(text.to_owned());
    let (scheme, rest) = text.split_once("://").ok_or_else(not_an_address)?;
    let scheme = scheme.to_ascii_lowercase();
    if !is_scheme(&scheme) || rest.is_empty() {
        return Err(not_an_address());
    }
    refuse_extras(text, rest)?;
    let (host, port) = host_and_port(text, rest)?;
    Ok(match scheme.as_str() {
        "http" | "ws" => http(false, host, port, rest),
        "https" | "wss" => http(true, host, port, rest),
        _ => Service::Tcp { port: port.or_else(|| usual_port(&scheme)), scheme, host },
    })
}

fn http(tls: bool, host: String, port: Option<u16>, authority: &str) -> Service {
    let port = port.unwrap_or(if tls { 443 } else { 80 });
    Service::Http { tls, host, port, authority: authority.to_owned() }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "tcp" => Some(7864),
        "ssh" => Some(22),
        "rdp" => Some(3389),
        "smb" => Some(445),
        _ => None,
    }
}

fn is_scheme(scheme: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(rest)
}

fn refuse_extras(text: &str, rest: &str) -> Result<(), ServiceError> {
    if rest.contains(['?', '#', '@']) {
        return Err(ServiceError::Extra(text.to_owned()));
    }
    match rest.split_once('/') {
        Some(("", _)) => Err(ServiceError::NotAnAddress(text.to_owned())),
        Some(_) => Err(ServiceError::Path(text.to_owned())),
        None => Ok(()),
    }
}

fn host_and_port(text: &str, rest: &str) -> Result<(String, Option<u16>), ServiceError> {
    let authority = ascii(rest);
    Hostname::from_authority(authority.as_bytes()).map_err(|error| match error {
        HostError::BadPort => ServiceError::Port(text.to_owned()),
        HostError::Empty => ServiceError::NotAnAddress(text.to_owned()),
        other => ServiceError::Host(text.to_owned(), other),
    })?;
    let (host, port) = split_port(&authority);
    let port = match port.parse() {
        Ok(0) => return Err(ServiceError::Port(text.to_owned())),
        port => port.ok(),
    };
    // A trailing dot stays: it keeps the search domains of the resolver out.
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    }
}

/// The same with the international part in ASCII. What does not convert is refused by the caller.
fn ascii(authority: &str) -> String {
    match authority.is_ascii() {
        true => authority.to_owned(),
        false => idna::domain_to_ascii(authority).unwrap_or_else(|_| authority.to_owned()),
    }
}
