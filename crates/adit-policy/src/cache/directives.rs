//! Cache directives: `Cache-Control` (RFC 9111, section 5.2), and its targeted forms (RFC 9213).
//!
//! What is malformed counts as the careful reading: an age that cannot be read is zero.

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, PRAGMA};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// Fields that speak to this cache alone, the nearest first (RFC 9213, section 2.2).
const TARGETED: [HeaderName; 2] =
    [HeaderName::from_static("adit-cache-control"), HeaderName::from_static("cdn-cache-control")];

/// The largest age that is counted with (RFC 9111, section 1.2.2).
const SECONDS_MAX: u64 = 1 << 31;

/// What a message says to caches. Times are seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `max-age`.
    pub max_age: Option<u64>,
    /// `s-maxage`: the same for caches that several people share, like this one.
    pub s_maxage: Option<u64>,
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache` without fields.
    pub no_cache: bool,
    /// `private` without fields.
    pub private: bool,
    /// Fields that `no-cache` or `private` name: they are not kept.
    pub withheld: Vec<HeaderName>,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `no-transform`.
    pub no_transform: bool,
    /// `stale-while-revalidate` (RFC 5861).
    pub stale_while_revalidate: Option<u64>,
    /// `stale-if-error` (RFC 5861).
    pub stale_if_error: Option<u64>,
    /// `min-fresh` of a request.
    pub min_fresh: Option<u64>,
    /// `max-stale` of a request; without a number, any age.
    pub max_stale: Option<u64>,
    /// `only-if-cached` of a request.
    pub only_if_cached: bool,
    /// Whether a targeted field said it: `Expires` does not count then.
    pub targeted: bool,
}

impl Directives {
    /// What a request says. `Pragma: no-cache` counts where there is no `Cache-Control`.
    #[must_use]
    pub fn of_request(headers: &HeaderMap) -> Self {
        if headers.contains_key(CACHE_CONTROL) {
            return Self::of_lines(headers.get_all(CACHE_CONTROL).iter());
        }
        let pragma = headers.get_all(PRAGMA).iter();
        let no_cache = pragma
            .filter_map(|line| line.to_str().ok())
            .any(|line| line.split(',').any(|directive| directive.trim().eq_ignore_ascii_case("no-cache")));
        Self { no_cache, ..Self::default() }
    }

    /// What a response says: in the nearest targeted field that can be read, else in `Cache-Control`.
    #[must_use]
    pub fn of_response(headers: &HeaderMap) -> Self {
        let targeted = TARGETED.iter().find_map(|name| targeted(headers, name));
        targeted.unwrap_or_else(|| Self::of_lines(headers.get_all(CACHE_CONTROL).iter()))
    }

    fn of_lines<'h>(lines: impl Iterator<Item = &'h HeaderValue>) -> Self {
        let mut directives = Self::default();
        for line in lines {
            // Text that is not ASCII can still stand in quotes.
            let line = String::from_utf8_lossy(line.as_bytes());
            for (name, value) in split(&line) {
                directives.take(&name.to_ascii_lowercase(), value);
            }
        }
        directives
    }

    /// A repeated directive counts where it stands first (RFC 9111, section 4.2.1).
    fn take(&mut self, name: &str, value: Option<&str>) {
        let seconds = || Some(value.map_or(0, seconds));
        match name {
            "max-age" => self.max_age = self.max_age.or_else(seconds),
            "s-maxage" => self.s_maxage = self.s_maxage.or_else(seconds),
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache |= self.withholds(value),
            "private" => self.private |= self.withholds(value),
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "no-transform" => self.no_transform = true,
            "stale-while-revalidate" => {
                self.stale_while_revalidate = self.stale_while_revalidate.or_else(seconds);
            }
            "stale-if-error" => self.stale_if_error = self.stale_if_error.or_else(seconds),
            "min-fresh" => self.min_fresh = self.min_fresh.or_else(seconds),
            "max-stale" => self.max_stale = Some(value.map_or(SECONDS_MAX, self::seconds)),
            "only-if-cached" => self.only_if_cached = true,
            _ => {}
        }
    }

    /// Notes the fields of `no-cache="…"`; says whether there are none, so that the whole response is meant.
    fn withholds(&mut self, value: Option<&str>) -> bool {
        let names = value.unwrap_or_default().trim_matches('"').split(',').map(str::trim);
        let names: Vec<HeaderName> =
            names.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect();
        let whole = names.is_empty();
        self.withheld.extend(names);
        whole
    }

    /// Whether it says that stale answers are not to be used.
    #[must_use]
    pub fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.no_cache || self.s_maxage.is_some()
    }

    /// Whether it says that one person's answer may go to others (RFC 9111, section 3.5).
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.public || self.must_revalidate || self.s_maxage.is_some()
    }
}

/// Directives of a line, with their values as written. Commas in quotes separate nothing.
fn split(line: &str) -> Vec<(&str, Option<&str>)> {
    let mut quoted = false;
    let mut escaped = false;
    let separates = |c: char| {
        if escaped {
            escaped = false;
        } else if quoted && c == '\\' {
            escaped = true;
        } else if c == '"' {
            quoted = !quoted;
        }
        c == ',' && !quoted
    };
    let parts = line.split(separates).map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value)))).collect()
}

/// Seconds as a directive writes them, in quotes or without; nonsense is none at all.
fn seconds(value: &str) -> u64 {
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    value.parse().unwrap_or(SECONDS_MAX).min(SECONDS_MAX)
}

/// A targeted field is a dictionary (RFC 8941); one that is not, or whose ages are no numbers, is as good as absent.
fn targeted(headers: &HeaderMap, name: &HeaderName) -> Option<Directives> {
    let lines: Vec<&str> =
        headers.get_all(name).iter().map(|line| line.to_str().ok()).collect::<Option<_>>()?;
    if lines.is_empty() {
        return None;
    }
    let dictionary: Dictionary = Parser::new(&lines.join(", ")).parse().ok()?;
    let mut directives = Directives { targeted: true, ..Directives::default() };
    for (name, entry) in &dictionary {
        let ListEntry::Item(item) = entry else { continue };
        let is_age =
            matches!(name.as_str(), "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error");
        match &item.bare_item {
            BareItem::Integer(number) if is_age => {
                let number: i64 = (*number).into();
                directives.take(name.as_str(), Some(&number.to_string()));
            }
            _ if is_age => return None,
            BareItem::Boolean(false) => {}
            _ => directives.take(name.as_str(), None),
        }
    }
    (!dictionary.is_empty()).then_some(directives)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(lines: &[&str]) -> Directives {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Directives::of_response(&headers)
    }

    #[test]
    fn directives_are_read_carefully() {
        let age = |line: &str| response(&[&format!("cache-control: {line}")]).max_age;
        for (line, expected) in [
            ("max-age=3600", Some(3600)),
            ("MaX-aGe=3600", Some(3600)),
            ("max-age=003600", Some(3600)),
            ("max-age=\"3600\"", Some(3600)),
            ("max-age='3600'", Some(0)),
            ("max-age=-3600", Some(0)),
            ("max-age=3600.0", Some(0)),
            ("max-age", Some(0)),
            ("max-age=99999999999999999999", Some(SECONDS_MAX)),
            ("max-age=1, max-age=3600", Some(1)),
            ("ext=\"max-age=100\", foo=bar", None),
            ("ext=\"a\\\", max-age=100\"", None),
            ("  , ,max-age=5,", Some(5)),
        ] {
            assert_eq!(age(line), expected, "{line}");
        }
    }

    #[test]
    fn fields_are_withheld_and_the_rest_is_kept() {
        let said = response(&["cache-control: no-cache=\"a, X-B\", private=\"c\", max-age=1"]);
        assert!(!said.no_cache && !said.private);
        assert_eq!(said.withheld, ["a", "x-b", "c"]);
        assert!(response(&["cache-control: private, no-cache"]).private);
    }

    #[test]
    fn a_targeted_field_counts_alone_if_it_can_be_read() {
        let said = response(&["cdn-cache-control: max-age=5", "cache-control: no-store"]);
        assert_eq!((said.max_age, said.no_store, said.targeted), (Some(5), false, true));
        let nearer = response(&["cdn-cache-control: max-age=5", "adit-cache-control: max-age=7"]);
        assert_eq!(nearer.max_age, Some(7));
        for broken in ["max-age=\"5\"", "max-age=5.0", "max age=5", "max-age=&&", ""] {
            let said = response(&[&format!("cdn-cache-control: {broken}"), "cache-control: max-age=9"]);
            assert_eq!((said.max_age, said.targeted), (Some(9), false), "{broken}");
        }
        assert!(response(&["cdn-cache-control: private;a=b, foo=(1 2)"]).private);
    }
}
