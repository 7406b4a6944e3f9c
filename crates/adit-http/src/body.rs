//! What a head says about its body.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

/// Bytes of the body by `Content-Length` (RFC 9110, section 8.6); `None` if it is not told, or no number. Whether the
/// body keeps to it is checked where it is sent.
#[must_use]
pub fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
