//! Requests that want to become a WebSocket (RFC 6455 on HTTP/1.1, RFC 8441 on HTTP/2).

use http::header::{self, HeaderMap};
use http::{Method, Version};

use crate::hop::has_token;

/// Whether an HTTP/1.1 request asks for a WebSocket.
#[must_use]
pub fn is_websocket(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    let upgrades = headers.get_all(header::UPGRADE).iter().any(|value| has_token(value, "websocket"));
    let connection = headers.get_all(header::CONNECTION).iter().any(|value| has_token(value, "upgrade"));
    upgrades && connection && method == Method::GET && version == Version::HTTP_11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fields_are_needed() {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, "WebSocket".parse().unwrap());
        assert!(!is_websocket(&Method::GET, Version::HTTP_11, &headers));
        headers.insert(header::CONNECTION, "keep-alive, Upgrade".parse().unwrap());
        assert!(is_websocket(&Method::GET, Version::HTTP_11, &headers));
        assert!(!is_websocket(&Method::POST, Version::HTTP_11, &headers));
        assert!(!is_websocket(&Method::GET, Version::HTTP_10, &headers));
    }
}
