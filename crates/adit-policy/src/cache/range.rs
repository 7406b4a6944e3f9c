//! Ranges of bytes (RFC 9110, section 14). One range at a time: a request for several gets the whole.

use http::header::{CONTENT_RANGE, HeaderMap, RANGE};

/// The part that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// From here to there, the last byte included.
    Between(u64, u64),
    /// From here on.
    From(u64),
    /// So many of the last bytes.
    Last(u64),
}

/// What comes of it for something of a known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// These bytes: the first, and the one after the last.
    Bytes(u64, u64),
    /// None of it is there (416).
    Nothing,
}

impl Wanted {
    /// What a request asks for; `None` for all of it, or for what is ignored.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(RANGE)?.to_str().ok()?;
        let (unit, range) = text.split_once('=')?;
        let (first, last) = range.trim().split_once('-')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let number = |text: &str| -> Option<u64> {
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
        };
        match (first.trim(), last.trim()) {
            ("", count) => number(count).map(Self::Last),
            (first, "") => number(first).map(Self::From),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// Whether it is all of it, in other words.
    #[must_use]
    pub fn is_everything(self) -> bool {
        self == Self::From(0)
    }

    /// The part of something of this length.
    #[must_use]
    pub fn part_of(self, length: u64) -> Part {
        let (start, end) = match self {
            Self::Between(first, last) => (first, last.saturating_add(1).min(length)),
            Self::From(first) => (first, length),
            Self::Last(count) => (length.saturating_sub(count), length),
        };
        if start >= end { Part::Nothing } else { Part::Bytes(start, end) }
    }
}

/// What a 206 holds: first byte, the one after the last, and the length of the whole. `None` if it does not say, or if it is
/// several parts.
#[must_use]
pub fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, whole) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, whole.parse().ok()?);
    (first <= last && last < whole).then_some((first, last + 1, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: &'static str, length: u64) -> Option<Part> {
        let headers = [(RANGE, range.parse().unwrap())].into_iter().collect();
        Wanted::of(&headers).map(|wanted| wanted.part_of(length))
    }

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        for (range, expected) in [
            ("bytes=0-1", Some(Part::Bytes(0, 2))),
            ("bytes=1-", Some(Part::Bytes(1, 10))),
            ("bytes=-3", Some(Part::Bytes(7, 10))),
            ("bytes=-30", Some(Part::Bytes(0, 10))),
            ("bytes=5-500", Some(Part::Bytes(5, 10))),
            ("bytes=5-18446744073709551615", Some(Part::Bytes(5, 10))),
            ("bytes=10-", Some(Part::Nothing)),
            ("bytes=-0", Some(Part::Nothing)),
            ("Bytes = 0-1", Some(Part::Bytes(0, 2))),
            ("bytes=5-4", None),
            ("bytes=0-1,3-4", None),
            ("bytes=a-b", None),
            ("lines=0-1", None),
            ("bytes=+1-2", None),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Some(Part::Nothing));
    }

    #[test]
    fn a_part_says_what_it_is() {
        let read = |text: &'static str| {
            let headers = [(CONTENT_RANGE, text.parse().unwrap())].into_iter().collect();
            content_range(&headers)
        };
        assert_eq!(read("bytes 4-9/10"), Some((4, 10, 10)));
        for nonsense in
            ["bytes 4-10/10", "bytes 5-4/10", "bytes */10", "bytes 0-1/*", "lines 0-1/2", "bytes 0-1"]
        {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
