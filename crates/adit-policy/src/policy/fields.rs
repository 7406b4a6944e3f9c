//! Rules for fields of requests and answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::field;

/// What is changed in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldRules {
    /// Fields that services expect from a known proxy; `None` when nothing is said about it.
    pub preset: Option<FieldPreset>,
    /// On the way to the origin.
    pub request: Changes,
    /// On the way to the visitor.
    pub response: Changes,
}

/// Which proxy's fields a service expects beside the forwarding fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldPreset {
    /// None but the forwarding fields.
    None,
    /// Cloudflare's: `Cf-Connecting-Ip`, `Cf-Ray`, `Cf-Visitor`, and `Cf-Ipcountry` where a trusted proxy says it.
    Cloudflare,
}

/// What is changed in one direction: first fields are removed, then set, then added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In place of what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Taken away.
    pub remove: Vec<HeaderName>,
}

impl FieldRules {
    /// Lays other rules over these. For the same field the later word counts.
    pub fn extend(&mut self, over: &Self) {
        self.preset = over.preset.or(self.preset);
        self.request.extend(&over.request);
        self.response.extend(&over.response);
    }
}

impl Changes {
    fn extend(&mut self, over: &Self) {
        let later = |name: &HeaderName| over.names().any(|known| known == name);
        self.set.retain(|(name, _)| !later(name));
        self.add.retain(|(name, _)| !later(name));
        self.remove.retain(|name| !later(name));
        self.set.extend(over.set.iter().cloned());
        self.add.extend(over.add.iter().cloned());
        self.remove.extend(over.remove.iter().cloned());
    }

    /// The fields that it is about.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        let pairs = self.set.iter().chain(&self.add);
        pairs.map(|(name, _)| name).chain(&self.remove)
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names().next().is_none()
    }

    /// Changes the fields of a request. What is removed or set takes every field with it that an origin may read as the same
    /// name, like `X_Edge` for `X-Edge`.
    pub fn apply_to_request(&self, headers: &mut HeaderMap) {
        if self.is_empty() {
            return;
        }
        field::strip_like(headers, self.remove.iter().chain(self.set.iter().map(|(name, _)| name)));
        self.apply(headers);
    }

    /// Changes the fields of a response.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

/// Fields that protect browsers; they stand in place of the origin's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityHeaders(pub Arc<[(HeaderName, HeaderValue)]>);

/// Browsers are to come by HTTPS only (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hsts {
    /// For how long.
    pub max_age: Duration,
    /// Also below the name.
    pub subdomains: bool,
    /// Whether browsers may be shipped with it.
    pub preload: bool,
}

impl fmt::Display for Hsts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max-age={}", self.max_age.as_secs())?;
        f.write_str(if self.subdomains { "; includeSubDomains" } else { "" })?;
        f.write_str(if self.preload { "; preload" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    }

    #[test]
    fn the_later_word_about_a_field_counts() {
        let mut rules = Changes {
            set: vec![pair("a", "1"), pair("b", "1")],
            remove: vec![HeaderName::from_static("server")],
            ..Changes::default()
        };
        rules.extend(&Changes {
            add: vec![pair("a", "2")],
            remove: vec![HeaderName::from_static("b")],
            ..Changes::default()
        });
        let mut headers: HeaderMap =
            [pair("a", "0"), pair("b", "0"), pair("server", "x")].into_iter().collect();
        rules.apply(&mut headers);
        let expected: HeaderMap = {
            let mut map: HeaderMap = [pair("a", "0")].into_iter().collect();
            map.append("a", HeaderValue::from_static("2"));
            map
        };
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_request_keeps_no_other_spelling_of_what_is_set_or_removed() {
        let rules = Changes {
            set: vec![pair("x-edge", "1")],
            add: vec![pair("x-more", "1")],
            remove: vec![HeaderName::from_static("x-gone")],
        };
        let fields = [pair("x_edge", "0"), pair("x-edge", "0"), pair("x_gone", "0"), pair("x_more", "0")];
        let mut headers: HeaderMap = fields.into_iter().collect();
        rules.apply_to_request(&mut headers);
        let expected = [pair("x-edge", "1"), pair("x-more", "1"), pair("x_more", "0")];
        assert_eq!(headers, expected.into_iter().collect());
    }

    #[test]
    fn the_later_word_about_the_preset_counts() {
        let rules = |preset| FieldRules { preset, ..FieldRules::default() };
        let (none, cloudflare) = (Some(FieldPreset::None), Some(FieldPreset::Cloudflare));
        let cases =
            [(None, cloudflare, cloudflare), (cloudflare, None, cloudflare), (cloudflare, none, none)];
        for (first, later, expected) in cases {
            let mut laid = rules(first);
            laid.extend(&rules(later));
            assert_eq!(laid.preset, expected, "{first:?}, then {later:?}");
        }
    }

    #[test]
    fn hsts_is_written_as_the_rfc_says() {
        let hsts = Hsts { max_age: Duration::from_secs(3600), subdomains: true, preload: false };
        assert_eq!(hsts.to_string(), "max-age=3600; includeSubDomains");
    }
}
