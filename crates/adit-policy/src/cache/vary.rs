//! Which requests a stored response is for (RFC 9111, section 4.1).

use std::fmt::Write as _;

use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderMap, HeaderName, VARY};

/// Fields that a response may vary with. With more of them it is hardly ever found again.
const FIELDS_MAX: usize = 16;

/// The names of the fields that choose a response, in alphabetical order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selecting {
    /// The names.
    pub names: Vec<HeaderName>,
}

/// The fields that chose this response; `None` if everything did (`*`), or too many.
#[must_use]
pub fn selecting(response: &HeaderMap) -> Option<Selecting> {
    let mut names = Vec::new();
    for line in response.get_all(VARY) {
        for name in line.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "*" {
                return None;
            }
            names.push(HeaderName::from_bytes(name.as_bytes()).ok()?);
        }
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    (names.len() <= FIELDS_MAX).then_some(Selecting { names })
}

impl Selecting {
    /// The same with the names of another one: what is stored under a name has to be told apart by all of them.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut names: Vec<HeaderName> = self.names.iter().chain(&other.names).cloned().collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Self { names }
    }

    /// What chooses once there is a response with these names where others had `earlier` ones: all of them, or these alone
    /// if they have become too many.
    #[must_use]
    pub fn after(&self, earlier: &Self) -> Self {
        let all = earlier.with(self);
        if all.names.len() > FIELDS_MAX { self.clone() } else { all }
    }

    /// Appends what a request has under these names, in one form for everything that means the same.
    pub fn write(&self, request: &HeaderMap, key: &mut String) {
        for name in &self.names {
            // Writing to a text cannot fail.
            match normal(request, name) {
                Some(value) => write!(key, "\n{name}={value}").unwrap_or_default(),
                None => write!(key, "\n{name}").unwrap_or_default(),
            }
        }
    }
}

/// The value of a field in one form: lines joined, spaces around commas gone. Preferences are in order of preference.
fn normal(request: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut lines = request.get_all(name).iter().peekable();
    lines.peek()?;
    let lines = lines.map(|line| line.as_bytes().escape_ascii().to_string());
    let joined = lines.collect::<Vec<_>>().join(",");
    let items = joined.split(',').map(str::trim).filter(|item| !item.is_empty());
    if *name == ACCEPT_LANGUAGE || *name == ACCEPT_ENCODING || *name == ACCEPT {
        return Some(preferences(items));
    }
    Some(items.collect::<Vec<_>>().join(","))
}

fn preferences<'v>(items: impl Iterator<Item = &'v str>) -> String {
    let mut weighed: Vec<(u32, String)> = items.map(preference).collect();
    weighed.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let texts: Vec<String> = weighed
        .into_iter()
        .map(|(weight, item)| if weight == 1000 { item } else { format!("{item};q={weight}") })
        .collect();
    texts.join(",")
}

/// An item and its weight in thousandths.
fn preference(item: &str) -> (u32, String) {
    let mut weight = 1000;
    let mut parts = Vec::new();
    for part in item.split(';').map(|part| part.trim().to_ascii_lowercase()) {
        match part.strip_prefix("q=").and_then(|number| number.trim().parse::<f32>().ok()) {
            // At most 1, so it fits.
            Some(number) => weight = (number.clamp(0.0, 1.0) * 1000.0).round() as u32,
            None => parts.push(part),
        }
    }
    (weight, parts.join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn key(vary: &'static str, request: &[(&'static str, &'static str)]) -> String {
        let mut request_map = HeaderMap::new();
        for (name, value) in request {
            request_map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let mut key = String::new();
        selecting(&map(&[("vary", vary)])).unwrap().write(&request_map, &mut key);
        key
    }

    #[test]
    fn what_means_the_same_has_one_key() {
        let same = [
            ("foo", &[("foo", "1, 2")][..], &[("foo", "1"), ("foo", "2")][..]),
            ("foo", &[("foo", "1,  2")], &[("foo", "1,2")]),
            ("FOO, bar", &[("foo", "1"), ("bar", "2")], &[("bar", "2"), ("foo", "1")]),
            ("accept-language", &[("accept-language", "en, de")], &[("accept-language", "DE,EN")]),
            (
                "accept-language",
                &[("accept-language", "de;q=0.5, en")],
                &[("accept-language", "en, de;q=0.50")],
            ),
            ("foo", &[], &[("other", "1")]),
        ];
        for (vary, one, other) in same {
            assert_eq!(key(vary, one), key(vary, other), "{vary}");
        }
        assert_ne!(key("foo", &[("foo", "1")]), key("foo", &[]));
        assert_ne!(key("foo", &[("foo", "")]), key("foo", &[]));
        assert_ne!(key("foo", &[("foo", "1")]), key("foo", &[("foo", "2")]));
        assert_ne!(
            key("accept-language", &[("accept-language", "en;q=0.1, de")]),
            key("accept-language", &[("accept-language", "en, de;q=0.1")])
        );
    }

    #[test]
    fn a_star_is_everything() {
        for vary in ["*", "*, *", ", *", "foo, *", "*, foo"] {
            assert_eq!(selecting(&map(&[("vary", vary)])), None, "{vary}");
        }
    }

    #[test]
    fn names_add_up_until_they_are_too_many() {
        let names = |range: std::ops::Range<usize>| Selecting {
            names: range.map(|number| HeaderName::try_from(format!("x-{number:02}")).unwrap()).collect(),
        };
        assert_eq!(names(1..2).after(&names(0..1)), names(0..2));
        assert_eq!(names(8..FIELDS_MAX).after(&names(0..8)), names(0..FIELDS_MAX));
        assert_eq!(names(8..FIELDS_MAX + 1).after(&names(0..8)), names(8..FIELDS_MAX + 1));
    }
}
