//! The host and the port of a request: what stands in `Host` or `:authority`, in its normal form.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use super::{HostError, Hostname, check_labels, without_trailing_dot};
use crate::limits::HOSTNAME_BYTES_MAX;

/// Host and port of a request in their normal form: lower-case, without a trailing dot, an IPv6 address in brackets and as short
/// as it can be written, the port without leading zeros, no colon without a port. Both ends of a tunnel compare the host in this form, and origins get it.
///
/// Reading what is in its normal form already allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    host: Cow<'a, str>,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads what a request names as its host.
    ///
    /// # Errors
    /// [`HostError`] for everything that a request must not carry there.
    pub fn parse(written: &'a [u8]) -> Result<Self, HostError> {
        if written.len() > HOSTNAME_BYTES_MAX + ".:65535".len() {
            return Err(HostError::TooLong);
        }
        let text = std::str::from_utf8(written).map_err(|_| HostError::Character('\u{fffd}'))?;
        match text.strip_prefix('[') {
            Some(rest) => from_ipv6(rest),
            None => from_name(text),
        }
    }

    /// The host without the port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether this text is the normal form.
    #[must_use]
    pub fn is_written(&self, text: &[u8]) -> bool {
        let Some(after) = text.strip_prefix(self.host.as_bytes()) else { return false };
        match (self.port, after.strip_prefix(b":")) {
            (Some(_), Some(digits)) => digits == b"0" || !digits.starts_with(b"0"),
            _ => after.is_empty(),
        }
    }

    /// The host as a name of its own.
    #[must_use]
    pub fn into_hostname(self) -> Hostname {
        Hostname(self.host.into())
    }
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn from_ipv6(rest: &str) -> Result<Authority<'_>, HostError> {
    let (address, port) = rest.split_once(']').ok_or(HostError::BadAddress)?;
    let port = match port.strip_prefix(':') {
        Some(port) => parse_port(port)?,
        None if port.is_empty() => None,
        None => return Err(HostError::BadPort),
    };
    let address: Ipv6Addr = address.parse().map_err(|_| HostError::BadAddress)?;
    Ok(Authority { host: format!("[{address}]").into(), port })
}

fn from_name(text: &str) -> Result<Authority<'_>, HostError> {
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, parse_port(port)?),
        None => (text, None),
    };
    let name = without_trailing_dot(name);
    if name.contains('@') {
        return Err(HostError::UserInfo);
    }
    let host: Cow<'_, str> = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => name.to_ascii_lowercase().into(),
        false => name.into(),
    };
    check_labels(&host)?;
    Ok(Authority { host, port })
}

/// A port may be empty (RFC 3986, section 3.2.3), which is the same as none, but not above 65535.
fn parse_port(port: &str) -> Result<Option<u16>, HostError> {
    if port.is_empty() {
        return Ok(None);
    }
    match port.bytes().all(|byte| byte.is_ascii_digit()) {
        true => port.parse().map(Some).map_err(|_| HostError::BadPort),
        false => Err(HostError::BadPort),
    }
}
