//! What of a request reaches the origin where its answer may be kept: nothing that steers the answer without being in the key.

use std::borrow::Cow;

use http::header::{ACCEPT_ENCODING, COOKIE, HeaderMap, HeaderName, HeaderValue};

use super::conditional::CONDITIONS;
use super::rule::CacheRule;

/// Fields with which some origins and frameworks can be told to answer something else than what was asked for, with `-` in place
/// of `_`, which some of them fold.
const STEERING: [&str; 22] = [
    "base-url",
    "destination",
    "front-end-https",
    "proxy-url",
    "request-uri",
    "script-name",
    "surrogate-capability",
    "translate",
    "x-base-url",
    "x-domain",
    "x-host",
    "x-https",
    "x-invoke-path",
    "x-matched-path",
    "x-method",
    "x-path",
    "x-prefix",
    "x-scheme",
    "x-script-name",
    "x-uri",
    "x-url",
    "x-url-scheme",
];

/// The same, by how their names begin.
const STEERING_PREFIXES: [&str; 9] = [
    "x-accel-",
    "x-forwarded-",
    "x-http-",
    "x-middleware-",
    "x-original-",
    "x-proxy-",
    "x-rewrite-",
    "x-sendfile",
    "x-envoy-",
];

/// The same, by how their names end.
const STEERING_SUFFIX: &str = "-override";

/// Fields of requests that are in standards, so that origins say with `Vary` what they read of them. Where the origin's word on
/// caching does not count, no others are sent.
const STANDARD: [&str; 20] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "cookie",
    "date",
    "dnt",
    "from",
    "host",
    "origin",
    "pragma",
    "priority",
    "referer",
    "save-data",
    "traceparent",
    "tracestate",
    "upgrade-insecure-requests",
    "user-agent",
];

/// Whether origins can be steered with a field.
#[must_use]
pub fn steers(name: &HeaderName) -> bool {
    let name = match name.as_str() {
        name if name.contains('_') => Cow::Owned(name.replace('_', "-")),
        name => Cow::Borrowed(name),
    };
    STEERING.contains(&&*name)
        || name.ends_with(STEERING_SUFFIX)
        || STEERING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_standard(name: &HeaderName) -> bool {
    STANDARD.contains(&name.as_str()) || name.as_str().starts_with("sec-")
}

/// The fields that the origin gets. `cookies` are those that are in the key; `for_all` says that the request is nobody's in
/// particular, so that its answer may be for everybody.
#[must_use]
pub fn fields(headers: &HeaderMap, rule: &CacheRule, cookies: &str, for_all: bool) -> HeaderMap {
    let mut sent = headers.clone();
    let is_left_out = |name: &HeaderName| {
        let may_steer = steers(name) || (rule.ignore.cache_control && !is_standard(name));
        CONDITIONS.contains(name) || (may_steer && !rule.key.headers.contains(name))
    };
    let left_out: Vec<HeaderName> = headers.keys().filter(|name| is_left_out(name)).cloned().collect();
    for name in left_out {
        sent.remove(name);
    }
    if (rule.ignore.cache_control || rule.ignore.set_cookie) && for_all {
        // The origin's word on whom it is for does not count, so it must not know who asks.
        sent.remove(COOKIE);
        if let Some(cookies) = HeaderValue::try_from(cookies).ok().filter(|cookies| !cookies.is_empty()) {
            sent.insert(COOKIE, cookies);
        }
    }
    if !rule.key.headers.contains(&ACCEPT_ENCODING)
        && let Some(accepted) = sent.remove(ACCEPT_ENCODING)
        && let Some(codings) = codings(&accepted)
    {
        sent.insert(ACCEPT_ENCODING, HeaderValue::from_static(codings));
    }
    sent
}

/// Few forms of what a visitor can read, so that there are few variants.
fn codings(accepted: &HeaderValue) -> Option<&'static str> {
    let text = accepted.to_str().unwrap_or_default().to_ascii_lowercase();
    let accepts = |name: &str| {
        text.split(',').any(|item| {
            let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
            let refused = weight
                .trim()
                .strip_prefix("q=")
                .is_some_and(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0));
            coding.trim() == name && !refused
        })
    };
    match (accepts("br"), accepts("gzip")) {
        (true, true) => Some("br, gzip"),
        (true, false) => Some("br"),
        (false, true) => Some("gzip"),
        (false, false) => None,
    }
}

/// Path and query that the origin is asked for. `asked` is what the visitor asked for, `target` the same after a rule may have
/// rewritten it; `query` is the part of the visitor's query that is in the key.
#[must_use]
pub fn target(asked: &str, target: &str, query: Option<&str>) -> String {
    let whole = asked.split_once('?').map(|(_, query)| query);
    let base = match whole {
        None => target,
        // A rewritten target ends with the visitor's query, behind `?` or `&`.
        Some(whole) => {
            target.strip_suffix(whole).and_then(|base| base.strip_suffix(['?', '&'])).unwrap_or(target)
        }
    };
    match query {
        None => base.to_owned(),
        Some(query) => format!("{base}{}{query}", if base.contains('?') { '&' } else { '?' }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::{KeyShape, Preset};
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn names(sent: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_steers_does_not_reach_the_origin() {
        for name in [
            "x-forwarded-host",
            "x-forwarded-prefix",
            "x-original-url",
            "x_original_url",
            "x-rewrite-url",
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "x-http-destinationurl",
            "x-host",
            "x-middleware-subrequest",
            "x-forwarded-scheme",
            "x-envoy-original-path",
            "script_name",
            "destination",
        ] {
            let headers = map(&[(name, "evil"), ("x-mine", "1"), ("accept", "*/*")]);
            assert_eq!(
                names(&fields(&headers, &CacheRule::default(), "", true)),
                ["accept", "x-mine"],
                "{name}"
            );
            let key = KeyShape { headers: vec![HeaderName::from_static(name)], ..KeyShape::default() };
            let rule = CacheRule { key, ..CacheRule::default() };
            assert!(fields(&headers, &rule, "", true).contains_key(name), "in the key");
        }
        let headers = map(&[("range", "bytes=0-1"), ("if-none-match", "*"), ("if-range", "x"), ("te", "x")]);
        assert_eq!(names(&fields(&headers, &CacheRule::default(), "", true)), ["te"]);
    }

    #[test]
    fn where_the_origin_is_not_heard_it_gets_what_standards_know() {
        let headers = map(&[
            ("cookie", "session=mine"),
            ("x-mine", "1"),
            ("user-agent", "a"),
            ("accept-encoding", "x, gzip;q=0.1"),
        ]);
        let fixed = CacheRule::preset(Preset::Static);
        let sent = fields(&headers, &fixed, "", true);
        assert_eq!(names(&sent), ["accept-encoding", "user-agent"]);
        assert_eq!(sent["accept-encoding"], "gzip");
        assert_eq!(fields(&headers, &fixed, "lang=de", true)["cookie"], "lang=de");
        let kept = fields(&headers, &CacheRule::default(), "", true);
        assert_eq!(names(&kept), ["accept-encoding", "cookie", "user-agent", "x-mine"]);
    }

    #[test]
    fn the_query_of_the_visitor_is_cut_and_the_one_of_a_rule_stays() {
        for (asked, rewritten, query, expected) in [
            ("/x", "/x", None, "/x"),
            ("/x?a=1", "/x?a=1", None, "/x"),
            ("/x?a=1", "/x?a=1", Some("a=1"), "/x?a=1"),
            ("/x?", "/x?", None, "/x"),
            ("/x?b&a=1", "/x?b&a=1", Some("a=1"), "/x?a=1"),
            ("/x?a=1", "/index.php?p=x&a=1", None, "/index.php?p=x"),
            ("/x?b&a=1", "/index.php?p=x&b&a=1", Some("a=1"), "/index.php?p=x&a=1"),
            ("/x", "/index.php?p=x", None, "/index.php?p=x"),
        ] {
            assert_eq!(target(asked, rewritten, query), expected, "{asked} {rewritten}");
        }
    }
}
