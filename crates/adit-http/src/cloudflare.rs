//! The fields that services behind Cloudflare read (`headers: { preset: cloudflare }`): the client's address, its scheme,
//! the request's id and, where a trusted proxy knows it, the country.
//!
//! They say the same as the forwarding fields beside them. What a client sends under these names never passes.

use bytes::{BufMut as _, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::forwarded::{Visit, X_REAL_IP};

/// The client's address.
const CF_CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");
/// The request's id: 16 hexadecimal digits, without the data centre that Cloudflare appends.
const CF_RAY: HeaderName = HeaderName::from_static("cf-ray");
/// The client's scheme, as JSON.
const CF_VISITOR: HeaderName = HeaderName::from_static("cf-visitor");
/// The client's country, ISO 3166-1 alpha-2, or `XX` and `T1` as Cloudflare has them.
const CF_IPCOUNTRY: HeaderName = HeaderName::from_static("cf-ipcountry");

/// Takes the country out of a request that came through a trusted proxy. `None` for what is not a country code, and when
/// the proxy named several.
pub fn take_country(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(CF_IPCOUNTRY).iter();
    let is_one = values.next().is_some() && values.next().is_none();
    let country = headers.remove(CF_IPCOUNTRY).filter(|_| is_one)?;
    let is_code = matches!(country.as_bytes(), [first, second]
        if first.is_ascii_uppercase() && (second.is_ascii_uppercase() || second.is_ascii_digit()));
    is_code.then_some(country)
}

/// Sets the fields, after the forwarding fields are set.
pub fn set(headers: &mut HeaderMap, visit: &Visit<'_>, country: Option<HeaderValue>) {
    if let Some(address) = headers.get(X_REAL_IP).cloned() {
        headers.insert(CF_CONNECTING_IP, address);
    }
    if let Some(ray) = visit.id.get(..16).and_then(|id| HeaderValue::from_bytes(id).ok()) {
        headers.insert(CF_RAY, ray);
    }
    let mut visitor = BytesMut::with_capacity(20);
    visitor.put_slice(b"{\"scheme\":\"");
    visitor.put_slice(visit.scheme.as_bytes());
    visitor.put_slice(b"\"}");
    if let Ok(visitor) = HeaderValue::from_maybe_shared(visitor.freeze()) {
        headers.insert(CF_VISITOR, visitor);
    }
    if let Some(country) = country {
        headers.insert(CF_IPCOUNTRY, country);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarded;

    #[test]
    fn the_fields_say_what_the_forwarding_fields_say() {
        let visit = Visit {
            client: "2001:db8::7".parse().unwrap(),
            scheme: "https",
            host: "app.example.test",
            id: b"0123456789abcdef0123456789abcdef",
            version: http::Version::HTTP_2,
        };
        let mut headers = HeaderMap::new();
        forwarded::set(&mut headers, &visit);
        set(&mut headers, &visit, None);
        for (name, value) in [
            ("cf-connecting-ip", "2001:db8::7"),
            ("cf-ray", "0123456789abcdef"),
            ("cf-visitor", r#"{"scheme":"https"}"#),
        ] {
            assert_eq!(headers[name], value);
        }
        assert!(!headers.contains_key("cf-ipcountry"), "nobody has said it");
    }

    #[test]
    fn a_country_is_two_capital_letters_said_once() {
        let cases: [(&[&str], Option<&str>); 7] = [
            (&["DE"], Some("DE")),
            (&["T1"], Some("T1")),
            (&["de"], None),
            (&["DEU"], None),
            (&["1T"], None),
            (&["DE", "FR"], None),
            (&[], None),
        ];
        for (said, country) in cases {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append("cf-ipcountry", HeaderValue::from_str(value).unwrap());
            }
            let taken = take_country(&mut headers);
            assert_eq!(taken.as_ref().map(HeaderValue::as_bytes), country.map(str::as_bytes), "{said:?}");
            assert!(headers.is_empty(), "{said:?}");
        }
    }
}
