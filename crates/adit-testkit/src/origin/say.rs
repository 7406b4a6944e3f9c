//! Answers that say what the query wants: for tests of caches.

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderName, IF_NONE_MATCH, RANGE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{Body, full};

/// Bytes of an answer of this size: each says where it stands.
fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index % 251) as u8).collect()
}

/// `number` is how often the same was asked. `If-None-Match` and `Range` are heard where there is an `etag`,
/// `Range` also where there is `accept-ranges`.
pub(super) fn answer(request: &Request<Incoming>, number: usize) -> Response<Body> {
    let mut response = Response::new(());
    let mut body = Bytes::from(format!("#{number} of {}\n", request.uri().path()));
    // Where the query does not get through, the path says it: `/say/NAME=VALUE&…`.
    let path = || request.uri().path().strip_prefix("/say/");
    let query = request.uri().query().or_else(path).unwrap_or_default();
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    for (name, value) in query {
        let value = decoded(value);
        match name {
            "status" => *response.status_mut() = StatusCode::from_bytes(value.as_bytes()).unwrap(),
            "body" => body = value.into(),
            "size" => body = bytes(value.parse().unwrap()).into(),
            name => {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                response.headers_mut().append(name, HeaderValue::try_from(value).unwrap());
            }
        }
    }
    let tag = response.headers().get(ETAG);
    let knows_parts = tag.is_some() || response.headers().contains_key(ACCEPT_RANGES);
    if tag.is_some() && request.headers().get(IF_NONE_MATCH) == tag {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        body = Bytes::new();
    } else if knows_parts && let Some((first, end)) = range(request, body.len()) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let said = format!("bytes {first}-{}/{}", end - 1, body.len());
        response.headers_mut().insert(CONTENT_RANGE, said.try_into().unwrap());
        body = body.slice(first..end);
    }
    response.map(|()| full(body))
}

fn range(request: &Request<Incoming>, length: usize) -> Option<(usize, usize)> {
    let text = request.headers().get(RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
    let (first, last) = text.split_once('-')?;
    let end = last.parse::<usize>().map_or(length, |last| last + 1).min(length);
    let first = first.parse().ok()?;
    (first < end).then_some((first, end))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}
