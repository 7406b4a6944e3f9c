//! Which answers are compressed, and how (RFC 9110, section 12.5.3).

use std::fmt;

use http::StatusCode;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderValue, IF_NONE_MATCH, VARY,
};

/// A way to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Brotli,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Its name in `Content-Encoding`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Bytes below which compressing gains nothing.
pub const MIN_SIZE: u64 = 1024;

/// Types that compress well. `text/*` stands for a family, `+json` for a structure.
const TYPES: [&str; 13] = [
    "text/*",
    "+json",
    "+xml",
    "+text",
    "application/json",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "application/wasm",
    "application/manifest+json",
    "application/x-ndjson",
    "font/ttf",
    "image/bmp",
];

/// What is compressed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    /// The ways, the best first.
    pub codings: Vec<Coding>,
    /// Types: whole ones, `text/*`, or `+json`.
    pub types: Vec<String>,
    /// Bytes of the smallest answer.
    pub min_size: u64,
}

impl Default for Compress {
    fn default() -> Self {
        let types = TYPES.iter().map(|kind| (*kind).to_owned()).collect();
        Self { codings: Coding::ALL.to_vec(), types, min_size: MIN_SIZE }
    }
}

impl Compress {
    /// How an answer is compressed for this request; `None` if it is not. `length` is `None` where it is not known.
    #[must_use]
    pub fn choose(&self, answer: &Candidate<'_>, wanted: &HeaderMap) -> Option<Coding> {
        let fits = self.is_worth_it(answer) && !is_taboo(answer.headers);
        fits.then(|| self.negotiate(wanted)).flatten()
    }

    /// Whether an answer would be compressed for somebody, so that it varies. One to HEAD counts as the one to GET, whose head
    /// it has (RFC 9110, section 9.3.2).
    #[must_use]
    pub fn is_worth_it(&self, answer: &Candidate<'_>) -> bool {
        let status = answer.status;
        let has_body = status != StatusCode::NO_CONTENT
            && status != StatusCode::NOT_MODIFIED
            && status != StatusCode::PARTIAL_CONTENT
            && status != StatusCode::SWITCHING_PROTOCOLS;
        has_body
            && answer.length.is_none_or(|length| length >= self.min_size)
            && self.has_type(answer.headers)
    }

    fn has_type(&self, headers: &HeaderMap) -> bool {
        let Some(kind) = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else { return false };
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        self.types.iter().any(|known| match (known.strip_suffix('*'), known.strip_prefix('+')) {
            (Some(family), _) => kind.starts_with(family),
            (_, Some(structure)) => kind.rsplit_once('+').is_some_and(|(_, end)| end == structure),
            _ => kind == *known,
        })
    }

    fn negotiate(&self, wanted: &HeaderMap) -> Option<Coding> {
        let lines = wanted.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
        let accepted: Vec<(&str, f32)> = lines.flat_map(|line| line.split(',')).map(weighed).collect();
        let weight_of = |name: &str| {
            let own = accepted.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            own.or_else(|| accepted.iter().find(|(known, _)| *known == "*"))
                .map_or(0.0, |(_, weight)| *weight)
        };
        let mut best = None;
        let mut most = 0.0;
        for coding in &self.codings {
            let weight = weight_of(coding.word());
            if weight > most {
                (best, most) = (Some(*coding), weight);
            }
        }
        best
    }
}

/// An answer that may be compressed.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// Bytes of its body, where they are known.
    pub length: Option<u64>,
}

/// What is compressed already, is a part, or may not be changed (RFC 9111, section 5.2.2.6).
fn is_taboo(headers: &HeaderMap) -> bool {
    let said = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let mut words = said.flat_map(|line| line.split(','));
    headers.contains_key(CONTENT_ENCODING)
        || headers.contains_key(CONTENT_RANGE)
        || words.any(|word| word.trim().eq_ignore_ascii_case("no-transform"))
}

fn weighed(item: &str) -> (&str, f32) {
    let (name, weight) = item.split_once(';').unwrap_or((item, ""));
    let weight = weight.trim().strip_prefix("q=").map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0));
    (name.trim(), weight)
}

/// Says in the head what has become of the body. The entity tag becomes weak: the bytes are others, the meaning is the same.
pub fn mark(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.word()));
    headers.remove(CONTENT_LENGTH);
    headers.remove(http::header::ACCEPT_RANGES);
    if let Some(weak) = headers.get(ETAG).and_then(weakened) {
        headers.insert(ETAG, weak);
    }
}

/// Makes the head of a 304 response that of the 200 response which the client has (RFC 9110, section 15.4.5). Its entity tag is the weak
/// one if the client has shown that; without a content type nobody knows whether it would be compressed, so it varies.
pub fn mark_not_modified(headers: &mut HeaderMap, wanted: &HeaderMap) {
    mark_varies(headers);
    let Some(weak) = headers.get(ETAG).and_then(weakened) else { return };
    let shown = wanted.get_all(IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = shown.flat_map(|line| line.split(',')).map(str::trim);
    if tags.any(|tag| tag.as_bytes() == weak.as_bytes()) {
        headers.insert(ETAG, weak);
    }
}

/// The weak form of a strong entity tag.
fn weakened(tag: &HeaderValue) -> Option<HeaderValue> {
    let strong = Some(tag.as_bytes()).filter(|tag| !tag.starts_with(b"W/"))?;
    HeaderValue::try_from([b"W/", strong].concat()).ok()
}

/// Says that another request might get other bytes.
pub fn mark_varies(headers: &mut HeaderMap) {
    let lines = headers.get_all(VARY).iter().filter_map(|line| line.to_str().ok());
    let mut names = lines.flat_map(|line| line.split(',')).map(str::trim);
    if !names.any(|name| name == "*" || name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str())) {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(kind: &'static str, length: Option<u64>, accepted: &'static str) -> Option<Coding> {
        let headers = [(CONTENT_TYPE, HeaderValue::from_static(kind))].into_iter().collect();
        let wanted = [(ACCEPT_ENCODING, HeaderValue::from_static(accepted))].into_iter().collect();
        let answer = Candidate { status: StatusCode::OK, headers: &headers, length };
        Compress::default().choose(&answer, &wanted)
    }

    #[test]
    fn the_visitor_s_preference_counts_then_ours() {
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, br", Some(Coding::Brotli)),
            ("gzip;q=1.0, br;q=0.5", Some(Coding::Gzip)),
            ("*", Some(Coding::Zstd)),
            ("zstd;q=0, *;q=0.1", Some(Coding::Brotli)),
            ("identity", None),
            ("gzip;q=0", None),
            ("gzip;q=nonsense", None),
            ("", None),
        ] {
            assert_eq!(choose("text/html; charset=utf-8", None, accepted), expected, "{accepted}");
        }
    }

    #[test]
    fn small_and_foreign_things_stay_as_they_are() {
        assert_eq!(choose("text/html", Some(100), "gzip"), None);
        assert_eq!(choose("image/png", None, "gzip"), None);
        assert_eq!(choose("application/ld+json", Some(5000), "gzip"), Some(Coding::Gzip));
    }

    #[test]
    fn nothing_is_compressed_twice_or_against_its_will() {
        for (name, value) in [
            (CONTENT_ENCODING, "gzip"),
            (CACHE_CONTROL, "public, no-transform"),
            (CONTENT_RANGE, "bytes 0-1/2"),
        ] {
            let mut headers: HeaderMap =
                [(CONTENT_TYPE, HeaderValue::from_static("text/css"))].into_iter().collect();
            headers.insert(&name, HeaderValue::from_static(value));
            let wanted = [(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))].into_iter().collect();
            let answer = Candidate { status: StatusCode::OK, headers: &headers, length: None };
            assert_eq!(Compress::default().choose(&answer, &wanted), None, "{name}");
        }
    }

    #[test]
    fn not_modified_has_the_tag_that_the_client_has() {
        for (tag, shown, expected) in [
            ("\"a\"", "W/\"a\"", "W/\"a\""),
            ("\"a\"", "\"b\", W/\"a\"", "W/\"a\""),
            ("\"a\"", "\"a\"", "\"a\""),
            ("W/\"a\"", "W/\"a\"", "W/\"a\""),
            ("\"a\"", "*", "\"a\""),
        ] {
            let mut headers: HeaderMap = [(ETAG, HeaderValue::from_static(tag))].into_iter().collect();
            let wanted = [(IF_NONE_MATCH, HeaderValue::from_static(shown))].into_iter().collect();
            mark_not_modified(&mut headers, &wanted);
            assert_eq!(
                (&headers[ETAG], &headers[VARY]),
                (&expected.parse().unwrap(), &"accept-encoding".parse().unwrap())
            );
        }
    }

    #[test]
    fn the_head_says_what_has_become_of_the_body() {
        let mut headers: HeaderMap = [
            (ETAG, HeaderValue::from_static("\"a\"")),
            (CONTENT_LENGTH, HeaderValue::from_static("5")),
            (VARY, HeaderValue::from_static("Origin, Accept-Encoding")),
        ]
        .into_iter()
        .collect();
        mark(&mut headers, Coding::Gzip);
        mark_varies(&mut headers);
        assert_eq!(headers[ETAG], "W/\"a\"");
        assert_eq!(headers[CONTENT_ENCODING], "gzip");
        assert!(!headers.contains_key(CONTENT_LENGTH));
        assert_eq!(headers.get_all(VARY).iter().count(), 1, "it said so already");
    }
}
