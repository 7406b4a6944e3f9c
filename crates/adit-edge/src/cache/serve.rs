//! An answer from what is kept: the whole, a part, or that the visitor has it already.

use std::sync::Arc;
use std::time::SystemTime;

use adit_cache::purge::TAG_FIELDS;
use adit_cache::{Head, Object, Reader};
use adit_http::body::declared_length;
use adit_http::forwarded;
use adit_policy::cache::conditional::{not_modified, range_counts};
use adit_policy::cache::range::Part;
use adit_policy::cache::status::CacheStatus;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    HeaderMap, HeaderName, HeaderValue, VIA,
};
use http::request::Parts;
use http::{Response, StatusCode, Version};

use super::ask::{Ask, passed};
use super::slices;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const X_CACHE_STATUS: HeaderName = HeaderName::from_static("x-cache-status");

/// An answer, with what is to be told about it.
pub(crate) struct Kept {
    pub(crate) response: Response<KeptBody>,
    pub(crate) status: CacheStatus,
}

/// Its body.
pub(crate) enum KeptBody {
    Empty,
    /// It is in memory.
    Bytes(Bytes),
    /// It is read; of a body that is coming the length may not be known.
    Reader(Reader, Option<u64>),
    /// It is put together, and so long.
    Slices(slices::Joined, u64),
}

/// What of a body is sent: from the first byte to before the last; `None` for all that comes.
pub(super) type Wanted = (u64, Option<u64>);

/// Makes the answer to a request.
pub(super) fn answer(
    request: &Parts,
    ask: &Ask,
    object: &Arc<Object>,
    status: CacheStatus,
    now: SystemTime,
) -> Kept {
    let Some(kept) = object.meta.head() else {
        return Kept { response: Response::new(KeptBody::Empty), status };
    };
    let length = object.length().or_else(|| declared_length(&kept.headers));
    let (response, wanted) = head(request, ask, (object, kept), length, (status, now));
    let left = declared_length(response.headers());
    let body = wanted.map_or(KeptBody::Empty, |(first, end)| body(object, first, end, left));
    Kept { response: response.map(|()| body), status }
}

/// The head of an answer, and what of the body is sent with it. `length` is that of the body, where it is known.
pub(super) fn head(
    request: &Parts,
    ask: &Ask,
    (object, kept): (&Object, &Head),
    length: Option<u64>,
    (status, now): (CacheStatus, SystemTime),
) -> (Response<()>, Option<Wanted>) {
    let mut response = Response::new(());
    *response.status_mut() = kept.status;
    *response.headers_mut() = kept.headers.clone();
    let headers = response.headers_mut();
    for name in TAG_FIELDS {
        headers.remove(name);
    }
    headers.insert(AGE, HeaderValue::from(kept.life.age(passed(object, now)).as_secs()));
    headers.append(VIA, forwarded::via(Version::HTTP_11));
    say(headers, &status, ask.rule.status_header);
    let wanted = match (kept.status, kept.part) {
        (StatusCode::OK, _) if not_modified(&request.headers, &kept.headers) => confirm(&mut response),
        (_, Some(part)) => part_of_part(&mut response, ask, part),
        (StatusCode::OK, None) => whole_or_part(&mut response, request, ask, length),
        _ => whole(&mut response, length),
    };
    (response, wanted.filter(|_| !ask.is_head))
}

/// Says what the cache has done.
pub(crate) fn say(headers: &mut HeaderMap, status: &CacheStatus, with_short: bool) {
    // What a cache behind us says comes first (RFC 9211, section 2).
    if let Ok(value) = HeaderValue::try_from(status.to_string()) {
        headers.append(CACHE_STATUS, value);
    }
    if with_short {
        headers.insert(X_CACHE_STATUS, HeaderValue::from_static(status.outcome.word()));
    }
}

/// The visitor has it (RFC 9110, section 15.4.5).
fn confirm(response: &mut Response<()>) -> Option<Wanted> {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE] {
        response.headers_mut().remove(name);
    }
    None
}

fn whole(response: &mut Response<()>, length: Option<u64>) -> Option<Wanted> {
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Some((0, None))
}

fn whole_or_part(
    response: &mut Response<()>,
    request: &Parts,
    ask: &Ask,
    length: Option<u64>,
) -> Option<Wanted> {
    if length.is_some() {
        response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    let range = ask.range.filter(|_| range_counts(&request.headers, response.headers()));
    match range.zip(length).map(|(range, length)| (range.part_of(length), length)) {
        None => whole(response, length),
        Some((Part::Bytes(first, end), length)) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set_range(response.headers_mut(), &format!("bytes {first}-{}/{length}", end - 1), end - first);
            Some((first, Some(end)))
        }
        Some((Part::Nothing, length)) => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            set_range(response.headers_mut(), &format!("bytes */{length}"), 0);
            None
        }
    }
}

/// What is stored is a part, and what is wanted is in it.
fn part_of_part(response: &mut Response<()>, ask: &Ask, part: (u64, u64, u64)) -> Option<Wanted> {
    let (first, end, whole) = part;
    let (from, to) = match ask.range.map(|range| range.part_of(whole)) {
        Some(Part::Bytes(from, to)) => (from.max(first), to.min(end)),
        _ => (first, end),
    };
    set_range(response.headers_mut(), &format!("bytes {from}-{}/{whole}", to.saturating_sub(1)), to - from);
    Some((from - first, Some(to - first)))
}

fn set_range(headers: &mut HeaderMap, text: &str, length: u64) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(CONTENT_RANGE, value);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
}

fn body(object: &Object, first: u64, end: Option<u64>, left: Option<u64>) -> KeptBody {
    match object.bytes() {
        // The range was cut to what is there.
        Some(bytes) => {
            let length = bytes.len() as u64;
            let (first, end) = (first.min(length) as usize, end.unwrap_or(length).min(length) as usize);
            KeptBody::Bytes(bytes.slice(first..end.max(first)))
        }
        None => KeptBody::Reader(object.read(first, end), left),
    }
}
