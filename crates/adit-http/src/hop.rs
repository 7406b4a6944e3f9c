//! Fields that belong to one connection and are not passed on (RFC 9110, section 7.6.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Fields that are hop-by-hop whether Connection names them or not.
const ALWAYS: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Removes every hop-by-hop field. `TE: trailers` stays: it is the one that a proxy may pass on for gRPC.
pub fn strip(headers: &mut HeaderMap) {
    let trailers = asks_for_trailers(headers);
    strip_named(headers);
    for name in &ALWAYS {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether TE has `trailers`.
#[must_use]
pub fn asks_for_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(header::TE).iter().any(|value| has_token(value, "trailers"))
}

/// Whether a comma-separated value has a token.
#[must_use]
pub fn has_token(value: &HeaderValue, token: &str) -> bool {
    let Ok(text) = value.to_str() else { return false };
    text.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Removes what Connection names. Framing and the host are not the visitor's to remove.
fn strip_named(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let mut named = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        let text = value.to_str().unwrap_or_default();
        let names = text.split(',').filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok());
        named.extend(names.filter(|name| *name != header::CONTENT_LENGTH && *name != header::HOST));
    }
    for name in named {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_fields_go_and_the_rest_stays() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Secret, Content-Length, keep-alive"),
            ("x-secret", "1"),
            ("content-length", "5"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAA"),
            ("proxy-authorization", "Basic eDp5"),
            ("accept", "*/*"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        strip(&mut headers);
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(left, [("accept", "*/*"), ("content-length", "5"), ("te", "trailers")]);
    }
}
