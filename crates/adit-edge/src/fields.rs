//! The fields of a request, as they are before anything of the edge looks at them: one reading for limits, cache and origin.

use adit_policy::field;
use bytes::{BufMut as _, BytesMut};
use http::Version;
use http::header::{COOKIE, HOST, HeaderMap, HeaderValue};
use http::request::Parts;

use crate::Edge;
use crate::rescue::Problem;

/// Drops look-alikes, joins cookies, and refuses lengths and hosts that can be read in two ways.
///
/// # Errors
/// [`Problem::BadRequest`] for such a length, for a host with user information, and for a target without a path over HTTP/2.
pub(crate) fn receive(edge: &Edge, head: &mut Parts) -> Result<(), Problem> {
    if names_user(head) || lacks_path(head) {
        return Err(Problem::BadRequest);
    }
    let headers = &mut head.headers;
    let dropped = field::strip_lookalikes(headers);
    if dropped > 0 {
        edge.metrics.lookalikes.inc_by(dropped as u64);
    }
    join_cookies(headers);
    field::content_length(headers).map(drop).map_err(|_| Problem::BadRequest)
}

/// Whether a request over HTTP/2 has a query and no path, which is malformed (RFC 9113, section 8.3.1). An absolute URL over
/// HTTP/1 may have one.
fn lacks_path(head: &Parts) -> bool {
    let target = head.uri.path_and_query();
    head.version == Version::HTTP_2 && target.is_some_and(|target| target.as_str().starts_with('?'))
}

/// Whether the host is written with user information, `user@host`: what is before `@` is a host to some (RFC 9110, section 4.2.4).
fn names_user(head: &Parts) -> bool {
    let target = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let fields = head.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    target.into_iter().chain(fields).any(|host| host.contains(&b'@'))
}

/// Joins several Cookie fields into one: HTTP/2 and HTTP/3 let a client split them, and origins read one (RFC 9113, section
/// 8.2.3; RFC 9114, section 4.2.1). Of HTTP/1 clients too, which must not send several (RFC 6265, section 5.4).
fn join_cookies(headers: &mut HeaderMap) {
    let mut values = headers.get_all(COOKIE).iter();
    let (Some(first), Some(_)) = (values.next(), values.next()) else { return };
    let mut joined = BytesMut::from(first.as_bytes());
    for value in headers.get_all(COOKIE).iter().skip(1) {
        joined.put_slice(b"; ");
        joined.put_slice(value.as_bytes());
    }
    // What was put together from values is one.
    if let Ok(joined) = HeaderValue::from_maybe_shared(joined.freeze()) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_absolute_url_of_http1_may_lack_its_path() {
        for (version, target, expected) in [
            (Version::HTTP_2, "https://a.example?q", true),
            (Version::HTTP_2, "https://a.example/?q", false),
            (Version::HTTP_11, "http://a.example?q", false),
            (Version::HTTP_11, "/x?q", false),
        ] {
            let request = http::Request::builder().version(version).uri(target).body(()).unwrap();
            assert_eq!(lacks_path(&request.into_parts().0), expected, "{version:?} {target}");
        }
    }

    #[test]
    fn cookies_come_in_one_field() {
        for (crumbs, expected) in [
            (&[][..], &[][..]),
            (&["a=1"], &["a=1"]),
            (&["a=1", "sessionid=xyz"], &["a=1; sessionid=xyz"]),
            (&["a=1; b=2", "c", "d=4"], &["a=1; b=2; c; d=4"]),
            (&["a=\u{e4}", "b"], &["a=\u{e4}; b"]),
        ] {
            let mut headers = HeaderMap::new();
            for crumb in crumbs {
                headers.append(COOKIE, HeaderValue::from_bytes(crumb.as_bytes()).unwrap());
            }
            join_cookies(&mut headers);
            let values: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
            assert_eq!(values, expected.iter().map(|value| value.as_bytes()).collect::<Vec<_>>());
        }
    }
}
