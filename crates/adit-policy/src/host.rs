//! Host names and patterns of them: lower-case ASCII, punycode, no port, no trailing dot.

mod authority;
mod map;
mod pattern;

use std::borrow::Borrow;
use std::fmt;

use crate::limits::{HOSTNAME_BYTES_MAX, LABEL_BYTES_MAX};

pub use authority::Authority;
pub use map::HostMap;
pub use pattern::{HostPattern, Specificity};

/// The host of cloudflared's management service. A request for it would reach the connector's inside, so no route leads
/// there and no grant names it.
pub const MANAGEMENT_HOST: &str = "management.argotunnel.com";

/// A validated host name in its one canonical form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Box<str>);

/// Why a text is no host name or no host pattern. The text itself is for the caller to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Nothing is there.
    #[error("a host name cannot be empty")]
    Empty,
    /// More than 253 bytes.
    #[error("a host name has at most {HOSTNAME_BYTES_MAX} bytes")]
    TooLong,
    /// Two dots in a row, or a leading one.
    #[error("a host name has no empty label (two dots in a row, or one at the start)")]
    EmptyLabel,
    /// A label of more than 63 bytes.
    #[error("the part between two dots has at most {LABEL_BYTES_MAX} bytes")]
    LabelTooLong,
    /// A label begins or ends with a hyphen.
    #[error("the part between two dots cannot begin or end with a hyphen")]
    Hyphen,
    /// A character that no host name has.
    #[error("a host name cannot contain {0:?}")]
    Character(char),
    /// A port follows the name.
    #[error("a host name cannot contain a port")]
    Port,
    /// The port is not a number, or there are several.
    #[error("the port is malformed")]
    BadPort,
    /// `user@host`.
    #[error("a host name cannot contain user information")]
    UserInfo,
    /// A scheme or a path: this is a URL.
    #[error("a host name is not a URL: leave out the scheme and the path")]
    Url,
    /// The brackets hold no IPv6 address.
    #[error("the brackets hold no IPv6 address")]
    BadAddress,
    /// The international name does not convert.
    #[error("the international name cannot be written in ASCII")]
    Idn,
    /// A `*` elsewhere than as the whole first label.
    #[error("a wildcard can only stand alone or as the whole first label, as in \"*.example.com\"")]
    Wildcard,
}

impl Hostname {
    /// Reads a name from configuration. International names become punycode, one trailing dot is dropped.
    ///
    /// # Errors
    /// [`HostError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        refuse_url_parts(text)?;
        let ascii = match text.is_ascii() {
            true => text.to_ascii_lowercase(),
            false => idna::domain_to_ascii(text).map_err(|_| HostError::Idn)?,
        };
        let name = without_trailing_dot(&ascii);
        check_labels(name)?;
        match name.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
            true => Err(HostError::Hyphen),
            false => Ok(Self(name.into())),
        }
    }

    /// Reads a name from a Host header or `:authority`, and drops the port ([`Authority`]). An IP address passes; an IPv6
    /// address keeps its brackets.
    ///
    /// # Errors
    /// [`HostError`] for everything that a request must not carry there.
    pub fn from_authority(authority: &[u8]) -> Result<Self, HostError> {
        Authority::parse(authority).map(Authority::into_hostname)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its first label.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, parent)| Self(parent.into()))
    }
}

impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Hostname {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names the mistakes that people make in configuration better than "a host name cannot contain ':'".
fn refuse_url_parts(text: &str) -> Result<(), HostError> {
    if text.contains('/') {
        return Err(HostError::Url);
    }
    if text.contains('@') {
        return Err(HostError::UserInfo);
    }
    match text.split_once(':') {
        Some(_) => Err(HostError::Port),
        None => Ok(()),
    }
}

fn without_trailing_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn check_labels(name: &str) -> Result<(), HostError> {
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > HOSTNAME_BYTES_MAX {
        return Err(HostError::TooLong);
    }
    name.split('.').try_for_each(check_label)
}

fn check_label(label: &str) -> Result<(), HostError> {
    if label.is_empty() {
        return Err(HostError::EmptyLabel);
    }
    if label.len() > LABEL_BYTES_MAX {
        return Err(HostError::LabelTooLong);
    }
    match label.chars().find(|&c| !is_label_character(c)) {
        Some('*') => Err(HostError::Wildcard),
        Some(other) => Err(HostError::Character(other)),
        None => Ok(()),
    }
}

/// The underscore is not in the standard, but in use.
fn is_label_character(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_'
}

#[cfg(test)]
mod tests;
