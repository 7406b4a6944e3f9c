//! What may stand in a trailer section (RFC 9110, section 6.5.1).
//!
//! A trailer section arrives after the head was judged. Whatever would have counted there is taken out here: framing, routing, modifiers,
//! credentials, cookies, and what describes the content.

use http::HeaderMap;

use super::{fold, strip, table};

/// Fields that act on the message as a whole, beside those of the table.
const HEAD_ONLY: [&str; 47] = [
    "accept-encoding",
    "accept-ranges",
    "age",
    "allow",
    "alt-svc",
    "authorization",
    "cache-control",
    "cdn-cache-control",
    "clear-site-data",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "cookie2",
    "date",
    "early-data",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-event-id",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "surrogate-control",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-http-method-override",
];

/// Prefixes of the same: handshakes, what browsers vouch for, and leave to share.
const HEAD_ONLY_PREFIXES: [&str; 3] = ["access-control-", "cross-origin-", "sec-"];

/// Removes from a trailer section what only a head may say. Returns how many fields that were.
pub fn strip_trailers(trailers: &mut HeaderMap) -> usize {
    strip(trailers, |name| is_head_only(name.as_str().as_bytes()))
}

/// Whether a field has no place in a trailer section, in any spelling.
#[must_use]
pub fn is_head_only(name: &[u8]) -> bool {
    let mut room = [0; table::LONGEST];
    let name = fold(name, &mut room);
    table::role(name).is_some()
        || HEAD_ONLY.binary_search_by(|known| known.as_bytes().cmp(name)).is_ok()
        || HEAD_ONLY_PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(HEAD_ONLY.is_sorted_by(|one, other| one < other));
    }

    #[test]
    fn a_trailer_section_cannot_change_the_head() {
        for name in [
            "content-length",
            "transfer-encoding",
            "host",
            "connection",
            "x-forwarded-for",
            "x_forwarded_for",
            "cf-access-jwt-assertion",
            "remote-user",
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "content-encoding",
            "content_type",
            "cache-control",
            "if-none-match",
            "range",
            "te",
            "trailer",
            "expect",
            "sec-websocket-key",
            "x-original-url",
            "x-http-method-override",
        ] {
            assert!(is_head_only(name.as_bytes()), "{name}");
        }
        for name in
            ["grpc-status", "grpc-message", "server-timing", "x-checksum", "digest", "content-digest", "etag"]
        {
            assert!(!is_head_only(name.as_bytes()), "{name}");
        }
    }
}
