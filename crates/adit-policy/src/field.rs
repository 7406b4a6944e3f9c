//! Field names that steer a message: which of them frame it, route it, or vouch for a person or an address.
//!
//! One table for both planes. Names are judged in the form in which CGI and WSGI servers read them: without case, and with every
//! character that is not a letter or a digit taken for `-`. A name that an origin may read as one of the table, but that
//! no HTTP library does (`Transfer_Encoding`), is a look-alike. `docs/design/reading.md` has the reasons.

mod table;
mod trailer;

use http::HeaderMap;
use http::header::{self, HeaderName};

pub use trailer::{is_head_only, strip_trailers};

/// What a field of a request does to the message beyond being data for the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It says where the message ends or how its connection is used (RFC 9112, sections 6 and 9).
    Framing,
    /// It says which resource is meant in place of the request target.
    Routing,
    /// It says who the client is, or where the client comes from.
    Vouching,
}

/// Fields by which an application lets a client choose another method than that of the request line. They are a feature of the
/// application, and pass where no rule depends on the method.
const METHOD_OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Fields that browsers send with nearly every request, and that are data for the origin.
const DATA: [&str; 20] = [
    "accept",
    "cookie",
    "referer",
    "user-agent",
    "accept-encoding",
    "accept-language",
    "priority",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "origin",
    "content-type",
    "cache-control",
    "authorization",
    "if-none-match",
    "if-modified-since",
    "upgrade-insecure-requests",
    "range",
    "pragma",
    "dnt",
];

/// Returns what a request field does to the message; `None` for data. The spelling does not matter.
#[must_use]
pub fn role(name: &[u8]) -> Option<Role> {
    let mut room = [0; table::LONGEST];
    table::role(fold(name, &mut room))
}

/// Whether a name is read as a steering field only by origins that fold names, like `X_Forwarded_For`.
#[must_use]
pub fn is_lookalike(name: &[u8]) -> bool {
    is_folded(name) && role(name).is_some()
}

/// Whether two names are one for an origin that folds names.
#[must_use]
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| folded(*one) == folded(*other))
}

/// Removes look-alikes from a request; returns how many fields they were.
pub fn strip_lookalikes(headers: &mut HeaderMap) -> usize {
    strip(headers, |name| is_lookalike(name.as_str().as_bytes()))
}

/// Removes what only the edge may say to an origin: every field that routes or vouches, in every spelling.
pub fn strip_claims(headers: &mut HeaderMap) {
    strip(headers, |name| {
        let name = name.as_str().as_bytes();
        !is_data(name) && role(name).is_some_and(|role| role != Role::Framing || is_folded(name))
    });
}

/// Whether it is one of the fields of [`DATA`], which are not looked up.
fn is_data(name: &[u8]) -> bool {
    DATA.iter().any(|data| data.as_bytes() == name)
}

/// Removes the fields by which a client may choose another method, in every spelling: for requests whose method was judged.
pub fn strip_method_overrides(headers: &mut HeaderMap) {
    strip_like(headers, METHOD_OVERRIDES.iter());
}

/// Removes every field that an origin may read as one of the names.
pub fn strip_like<'n>(headers: &mut HeaderMap, names: impl Iterator<Item = &'n HeaderName> + Clone) {
    strip(headers, |field| {
        let field = field.as_str().as_bytes();
        names.clone().any(|name| is_same(field, name.as_str().as_bytes()))
    });
}

/// The lengths of a message could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Content-Length is not one decimal number")]
pub struct AmbiguousLength;

/// Returns the length by `Content-Length` (RFC 9110, section 8.6); `None` without the field.
///
/// # Errors
/// [`AmbiguousLength`] for more than one field, and for what [`parse_length`] does not read.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, AmbiguousLength> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(AmbiguousLength);
    }
    parse_length(value.as_bytes()).map(Some).ok_or(AmbiguousLength)
}

/// Reads a length as every recipient reads it: decimal digits without sign, space, list or leading zero, at most the largest
/// signed 64-bit number.
#[must_use]
pub fn parse_length(value: &[u8]) -> Option<u64> {
    let plain = value.iter().all(u8::is_ascii_digit) && (value.len() == 1 || !value.starts_with(b"0"));
    let text = std::str::from_utf8(value).ok().filter(|_| plain)?;
    text.parse().ok().filter(|length| i64::try_from(*length).is_ok())
}

fn strip(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) -> usize {
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| is_unwanted(name)).cloned().collect();
    let before = headers.len();
    for name in unwanted {
        headers.remove(name);
    }
    before - headers.len()
}

/// Each byte as origins that fold names read it.
const FOLDED: [u8; 256] = {
    let mut folded = [b'-'; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            folded[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    folded
};

/// Whether folding changes more than the case.
fn is_folded(name: &[u8]) -> bool {
    name.iter().any(|byte| folded(*byte) == b'-' && *byte != b'-')
}

fn folded(byte: u8) -> u8 {
    FOLDED.get(usize::from(byte)).copied().unwrap_or(b'-')
}

/// The folded name, cut to the room: what is longer than the longest entry can still begin like one.
fn fold<'r>(name: &[u8], room: &'r mut [u8; table::LONGEST]) -> &'r [u8] {
    let length = name.len().min(room.len());
    for (slot, byte) in room.iter_mut().zip(name) {
        *slot = folded(*byte);
    }
    room.get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests;
