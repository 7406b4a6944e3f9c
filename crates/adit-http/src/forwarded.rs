//! What an origin is told about the visitor. Whatever a visitor says about himself under these names is removed first.

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

/// Prefixes of fields that speak of identity or address: only the edge may set them.
const IDENTITY_PREFIXES: [&str; 8] =
    ["x-forwarded-", "cf-", "remote-", "fly-", "client-cert", "ssl-client-", "x-ssl-", "x-client-"];
/// The same, whole names.
const IDENTITY_NAMES: [&str; 8] = [
    "forwarded",
    "x-real-ip",
    "x-request-id",
    "true-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-envoy-external-address",
    "uber-trace-id",
];

/// Whether a visitor's field speaks of identity or address. `_` counts as `-`: some origins fold them.
#[must_use]
pub fn is_identity(name: &HeaderName) -> bool {
    let name = name.as_str();
    // Few fields start with one of these letters, so this is decided by the first byte mostly.
    if !name.starts_with(['x', 'c', 'r', 'f', 's', 't', 'u']) {
        return false;
    }
    IDENTITY_NAMES.iter().any(|known| folded_eq(name, known))
        || IDENTITY_PREFIXES
            .iter()
            .any(|prefix| name.get(..prefix.len()).is_some_and(|start| folded_eq(start, prefix)))
}

fn folded_eq(name: &str, known: &str) -> bool {
    name.len() == known.len()
        && name.bytes().zip(known.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
}

/// Removes every field that speaks of identity or address.
pub fn strip_identity(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers.keys().filter(|name| is_identity(name)).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

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
    fn a_visitor_s_own_words_about_himself_are_removed() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded-proto",
            "forwarded",
            "x-real-ip",
            "x_real-ip",
            "cf-connecting-ip",
            "cf_connecting_ip",
            "cf-access-jwt-assertion",
            "remote-user",
            "remote_user",
            "fly-client-ip",
            "true-client-ip",
            "x-request-id",
        ] {
            headers.append(name, HeaderValue::from_static("forged"));
        }
        for name in
            ["x-requested-with", "cookie", "referer", "range", "content-type", "cache-control", "from"]
        {
            headers.append(name, HeaderValue::from_static("kept"));
        }
        strip_identity(&mut headers);
        assert!(headers.values().all(|value| value == "kept"), "{headers:?}");
        assert_eq!(headers.len(), 7);
    }

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
