//! What an origin is told about the client. What a client says about itself under these names is removed first
//! ([`adit_policy::field`]).

use std::net::IpAddr;

use bytes::{BufMut as _, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Visitor's address, in a list.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Scheme that the visitor used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Host that the visitor asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Visitor's address, alone.
pub const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// Id of the request, also in the access log.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The certificate that the visitor proved himself with (RFC 9440).
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// Its subject.
pub const X_FORWARDED_CLIENT_CERT_SUBJECT: HeaderName =
    HeaderName::from_static("x-forwarded-client-cert-subject");
/// SHA-256 of it, in hexadecimal.
pub const X_FORWARDED_CLIENT_CERT_FINGERPRINT: HeaderName =
    HeaderName::from_static("x-forwarded-client-cert-fingerprint");

/// What the edge says about a request.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// The visitor.
    pub client: IpAddr,
    /// `https` or `http`.
    pub scheme: &'static str,
    /// The host, as asked for.
    pub host: &'a str,
    /// The request's id, 32 digits.
    pub id: &'a [u8; 32],
    /// The protocol's version, for Via.
    pub version: http::Version,
}

/// Sets the forwarding fields.
pub fn set(headers: &mut HeaderMap, visit: &Visit<'_>) {
    let address = address_value(visit.client);
    headers.insert(X_FORWARDED_FOR, address.clone());
    headers.insert(X_REAL_IP, address);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(visit.scheme));
    // A host that passed the router is a valid field value.
    if let Ok(host) = HeaderValue::from_str(visit.host) {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if let Ok(id) = HeaderValue::from_bytes(visit.id) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers.append(header::VIA, via(visit.version));
}

/// Our entry in Via (RFC 9110, section 7.6.3).
#[must_use]
pub fn via(version: http::Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        http::Version::HTTP_10 => "1.0 adit",
        http::Version::HTTP_2 => "2.0 adit",
        http::Version::HTTP_3 => "3.0 adit",
        _ => "1.1 adit",
    })
}

fn address_value(ip: IpAddr) -> HeaderValue {
    let mut text = BytesMut::with_capacity(40);
    match ip.to_canonical() {
        IpAddr::V4(v4) => text.put_slice(v4.to_string().as_bytes()),
        IpAddr::V6(v6) => text.put_slice(v6.to_string().as_bytes()),
    }
    // An address is always a valid field value.
    HeaderValue::from_maybe_shared(text.freeze()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_s_words_are_set() {
        let mut headers = HeaderMap::new();
        let visit = Visit {
            client: "::ffff:192.0.2.7".parse().unwrap(),
            scheme: "https",
            host: "a.example:8443",
            id: &[b'0'; 32],
            version: http::Version::HTTP_2,
        };
        set(&mut headers, &visit);
        assert_eq!(headers[X_FORWARDED_FOR], "192.0.2.7");
        assert_eq!(headers[X_REAL_IP], "192.0.2.7");
        assert_eq!(headers[X_FORWARDED_HOST], "a.example:8443");
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert_eq!(headers[header::VIA], "2.0 adit");
        assert_eq!(headers[X_REQUEST_ID].len(), 32);
    }
}
