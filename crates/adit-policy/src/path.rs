//! The path of a request as rules see it, and every other way in which an origin may read it.
//!
//! Programs disagree about paths: one resolves `..`, the next merges `//`, a third decodes `%2F`, cuts `;v=1` or takes `\` for
//! a slash. A rule that is compared with one reading says nothing about the others. So a rule is compared with all of them:
//! where they would be decided differently, the request is refused; elsewhere its bytes are forwarded untouched.

mod operations;

use std::borrow::Cow;

use regex::Regex;

use crate::limits::{PATH_READINGS_BYTES_MAX, PATH_READINGS_MAX};

/// A path, without the query, as a request brings it.
///
/// Building it for an ordinary path allocates nothing: one scan of the bytes finds that there is only one way to read it.
#[derive(Clone, Debug)]
pub struct RequestPath<'p> {
    raw: &'p str,
    text: Cow<'p, str>,
    has_one_reading: bool,
}

/// Why a request is refused for its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathRefusal {
    /// The path does not begin with a slash, or has bytes that no path has (RFC 3986, section 3.3).
    #[error("the request target is not a path")]
    Malformed,
    /// The path can be read in several ways, and a rule treats them differently.
    #[error("the path can be read in several ways, and the rules of this name would treat them differently")]
    Ambiguous,
}

impl<'p> RequestPath<'p> {
    /// Reads the path of a request. `*` (RFC 9110, section 9.3.7) is taken as well.
    ///
    /// # Errors
    /// [`PathRefusal::Malformed`] for everything else that does not begin with a slash, and for spaces and control bytes.
    pub fn parse(raw: &'p str) -> Result<Self, PathRefusal> {
        let is_path = raw.starts_with('/') || raw == "*";
        match is_path && !raw.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            true => Ok(Self::of(raw)),
            false => Err(PathRefusal::Malformed),
        }
    }

    /// Reads a path that comes from somewhere else than a request. Everything is taken.
    #[must_use]
    pub fn of(raw: &'p str) -> Self {
        if !raw.contains('%') {
            return Self { raw, text: raw.into(), has_one_reading: has_one_reading(raw.as_bytes()) };
        }
        let decoded = operations::decode_plain(raw.as_bytes());
        let has_one_reading = has_one_reading(&decoded);
        Self { raw, text: String::from_utf8_lossy(&decoded).into_owned().into(), has_one_reading }
    }

    /// The normal form, with which rules are compared. Percent-encoded characters are decoded, but for those that would change
    /// the structure of the path: `/`, `\`, `;`, `%`, `?`, `#` and control characters stay encoded, with upper-case digits.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether every origin reads the path alike.
    #[must_use]
    pub fn has_one_reading(&self) -> bool {
        self.has_one_reading
    }

    /// Decides something about the path by its normal form, provided that every other reading would be decided alike.
    ///
    /// # Errors
    /// [`PathRefusal::Ambiguous`] if one of them would not, or if there are too many to try.
    pub fn decide<T: PartialEq>(&self, decision: impl Fn(&str) -> T) -> Result<T, PathRefusal> {
        let decided = decision(&self.text);
        if self.has_one_reading || self.each_other_reading(|reading| decision(reading) == decided) {
            return Ok(decided);
        }
        Err(PathRefusal::Ambiguous)
    }

    /// Calls `is_alike` with each reading but the normal form, until it says no. Whether it never did, and all were tried.
    fn each_other_reading(&self, is_alike: impl Fn(&str) -> bool) -> bool {
        let raw = self.raw.as_bytes();
        let mut tried = Tried { readings: vec![operations::decode_plain(raw)], bytes: 0 };
        // A `%` that belongs to no escape may become one: what is decoded once is not always the normal form, decoded.
        let decoded = [operations::decode(raw), operations::decode_but_slashes(raw)];
        if !decoded.into_iter().all(|reading| tried.add(reading, &is_alike)) {
            return false;
        }
        let mut next = 0;
        while let Some(reading) = tried.readings.get(next).cloned() {
            next += 1;
            if !operations::ALL.iter().all(|operation| tried.add(operation(&reading), &is_alike)) {
                return false;
            }
        }
        true
    }
}

/// Readings of one path that were found so far.
struct Tried {
    readings: Vec<Vec<u8>>,
    /// Bytes of them.
    bytes: usize,
}

impl Tried {
    /// Adds a reading, if it is new. Whether it is known to be decided alike.
    fn add(&mut self, reading: Vec<u8>, is_alike: impl Fn(&str) -> bool) -> bool {
        if self.readings.contains(&reading) {
            return true;
        }
        self.bytes += reading.len();
        let is_in_limits = self.readings.len() < PATH_READINGS_MAX && self.bytes <= PATH_READINGS_BYTES_MAX;
        if !is_in_limits || !is_alike(&String::from_utf8_lossy(&reading)) {
            return false;
        }
        self.readings.push(reading);
        true
    }
}

/// Finds the first of some rules that matches a path. A rule is its number and its expression; one without an expression
/// matches every path.
///
/// # Errors
/// [`PathRefusal::Ambiguous`] if another rule would be the first one in another reading of the path.
pub fn first_match<'r>(
    rules: impl Iterator<Item = (usize, Option<&'r Regex>)> + Clone,
    path: &RequestPath<'_>,
) -> Result<Option<usize>, PathRefusal> {
    match rules.clone().next() {
        None => Ok(None),
        // Mostly the first rule of a name has no path, and nothing needs to be tried.
        Some((number, None)) => Ok(Some(number)),
        Some(_) => path.decide(|text| {
            let matches =
                |(_, regex): &(usize, Option<&Regex>)| regex.is_none_or(|regex| regex.is_match(text));
            rules.clone().find(matches).map(|(number, _)| number)
        }),
    }
}

/// Whether nothing in a path that is decoded as far as is plain can be read otherwise.
fn has_one_reading(text: &[u8]) -> bool {
    let steers = |byte: &u8| matches!(byte, b'%' | b'\\' | b';' | b'#' | b'?' | 0..=0x1f | 0x7f);
    let is_plain = text != b"*" && !text.iter().any(steers) && !has_empty_or_dot_segment(text);
    is_plain && (text.is_ascii() || operations::decode_leniently(text) == text)
}

fn has_empty_or_dot_segment(text: &[u8]) -> bool {
    let mut segments = text.strip_prefix(b"/").unwrap_or(text).split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if matches!(segment, b"." | b"..") || (segment.is_empty() && !is_last) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod origins;
#[cfg(test)]
mod tests;
