//! Conditional requests, on both sides (RFC 9110, section 13).

use std::time::SystemTime;

use http::header::{
    DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};

use super::time::date;

/// Fields of a request that make it conditional, or ask for a part: a cache asks for itself.
pub const CONDITIONS: [HeaderName; 6] =
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];

/// What a cache asks with whether its stored response is still good.
#[must_use]
pub fn questions(stored: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let etag = stored.get(ETAG).map(|tag| (IF_NONE_MATCH, tag.clone()));
    let changed = stored.get(LAST_MODIFIED).map(|date| (IF_MODIFIED_SINCE, date.clone()));
    etag.into_iter().chain(changed).collect()
}

/// Whether the visitor has what is stored, so that he gets a 304.
#[must_use]
pub fn not_modified(request: &HeaderMap, stored: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return none_match(request, stored);
    }
    let Some(since) = date(request, &IF_MODIFIED_SINCE) else { return false };
    changed(stored).is_some_and(|changed| changed <= since)
}

fn none_match(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(tag) = stored.get(ETAG).map(|tag| weak(tag.as_bytes())) else {
        return request.get(IF_NONE_MATCH).is_some_and(|value| value == "*");
    };
    request.get_all(IF_NONE_MATCH).iter().any(|line| {
        let line = line.as_bytes();
        line == b"*" || tags(line).any(|known| weak(known) == tag)
    })
}

/// Entity tags of a line. Commas may stand inside of one.
fn tags(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let separates = move |byte: &u8| {
        if *byte == b'"' {
            quoted = !quoted;
        }
        *byte == b',' && !quoted
    };
    line.split(separates).map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty())
}

/// A tag for weak comparison (RFC 9110, section 8.8.3.2).
fn weak(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

fn changed(stored: &HeaderMap) -> Option<SystemTime> {
    date(stored, &LAST_MODIFIED).or_else(|| date(stored, &DATE))
}

/// Whether a Range counts: `If-Range`, if there is one, fits what is stored (RFC 9110, section 13.1.5).
#[must_use]
pub fn range_counts(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(condition) = request.get(IF_RANGE) else { return true };
    if condition.as_bytes().contains(&b'"') {
        // A weak tag never fits.
        return !condition.as_bytes().starts_with(b"W/") && stored.get(ETAG) == Some(condition);
    }
    stored.get(LAST_MODIFIED) == Some(condition)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn tags_are_compared_weakly_and_beat_dates() {
        let stored = map(&[(ETAG, "\"a,b\""), (LAST_MODIFIED, "Sun, 06 Nov 1994 08:49:37 GMT")]);
        for (tags, fits) in [
            ("\"a,b\"", true),
            ("W/\"a,b\"", true),
            ("\"x\", \"a,b\"", true),
            ("*", true),
            ("\"x\"", false),
            ("\"a\"", false),
        ] {
            assert_eq!(not_modified(&map(&[(IF_NONE_MATCH, tags)]), &stored), fits, "{tags}");
        }
        let late = (IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:38 GMT");
        assert!(not_modified(&map(std::slice::from_ref(&late)), &stored));
        assert!(!not_modified(&map(&[late, (IF_NONE_MATCH, "\"x\"")]), &stored));
        assert!(!not_modified(&map(&[(IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:36 GMT")]), &stored));
        assert!(!not_modified(&map(&[(IF_MODIFIED_SINCE, "yesterday")]), &stored));
    }

    #[test]
    fn a_range_counts_for_the_same_thing_only() {
        let stored = map(&[(ETAG, "\"a\""), (LAST_MODIFIED, "Sun, 06 Nov 1994 08:49:37 GMT")]);
        let counts = |condition| range_counts(&map(&[(IF_RANGE, condition)]), &stored);
        assert!(counts("\"a\"") && counts("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert!(!counts("W/\"a\"") && !counts("\"b\"") && !counts("Sun, 06 Nov 1994 08:49:38 GMT"));
        assert!(range_counts(&HeaderMap::new(), &stored));
    }
}
