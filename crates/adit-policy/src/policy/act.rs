//! What the edge answers by itself, and what it asks the origin for in place of what it was asked for.

use std::fmt;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use regex::Captures;

use super::Expression;
use crate::path::RequestPath;

/// A fixed answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Respond {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Arc<str>,
    /// The type of the body.
    pub content_type: HeaderValue,
}

/// Visitors are sent elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// The paths; `None` for all.
    pub from: Option<Expression>,
    /// Where to.
    pub to: Template,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// The origin is asked for another path.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    /// The paths.
    pub from: Expression,
    /// What is asked for: a path with `$1`, …, and a query if it has one.
    pub to: Arc<str>,
}

/// A text with gaps: `$1` is what a path's expression has found, `{host}`, `{path}`, `{query}` and `{uri}` come from the
/// request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Arc<str>,
    pieces: Arc<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Gap(Gap),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    Host,
    Path,
    Query,
    Uri,
}

/// What a path cannot hold, and a normal form can (RFC 3986, section 3.3). Everything beyond ASCII is encoded as well.
const NOT_IN_A_PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

const GAPS: [(&str, Gap); 4] =
    [("host", Gap::Host), ("path", Gap::Path), ("query", Gap::Query), ("uri", Gap::Uri)];

/// What fills the gaps.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The host as it was asked for.
    pub host: &'a str,
    /// The path as it was asked for.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
}

/// A template with a gap that nothing fills.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{{{0}}}` is not known; known: {{host}}, {{path}}, {{query}}, {{uri}}")]
pub struct UnknownGap(pub String);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`UnknownGap`] for a name in braces that is none of the known ones.
    pub fn parse(text: &str) -> Result<Self, UnknownGap> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, following) = after.split_once('}').ok_or_else(|| UnknownGap(after.to_owned()))?;
            let gap = GAPS.iter().find(|(known, _)| *known == name);
            let (_, gap) = gap.ok_or_else(|| UnknownGap(name.to_owned()))?;
            pieces.extend((!before.is_empty()).then(|| Piece::Text(before.into())));
            pieces.push(Piece::Gap(*gap));
            rest = following;
        }
        pieces.extend((!rest.is_empty()).then(|| Piece::Text(rest.into())));
        Ok(Self { text: text.into(), pieces: pieces.into() })
    }

    fn fill(&self, asked: &Asked<'_>, found: Option<&Captures<'_>>) -> String {
        let mut filled = String::new();
        for piece in self.pieces.iter() {
            match (piece, found) {
                (Piece::Text(text), Some(found)) => found.expand(text, &mut filled),
                (Piece::Text(text), None) => filled.push_str(text),
                (Piece::Gap(Gap::Host), _) => filled.push_str(asked.host),
                (Piece::Gap(Gap::Path), _) => filled.push_str(asked.path),
                (Piece::Gap(Gap::Query), _) => filled.push_str(asked.query.unwrap_or_default()),
                (Piece::Gap(Gap::Uri), _) => {
                    filled.push_str(asked.path);
                    filled.extend(asked.query.map(|query| format!("?{query}")));
                }
            }
        }
        filled
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Expression {
    /// Matches a path as it is written, or else in its normal form, so that no spelling of it gets around a rule. What is made
    /// from the normal form is encoded again.
    fn replace(&self, path: &str, fill: impl Fn(&Captures<'_>) -> String) -> Option<String> {
        if let Some(found) = self.0.captures(path) {
            return Some(fill(&found));
        }
        if !path.contains('%') {
            return None;
        }
        let path = RequestPath::of(path);
        let filled = fill(&self.0.captures(path.text())?);
        Some(utf8_percent_encode(&filled, NOT_IN_A_PATH).to_string())
    }
}

impl Redirect {
    /// Where this request is sent; `None` if it is not.
    #[must_use]
    pub fn target(&self, asked: &Asked<'_>) -> Option<String> {
        let target = match &self.from {
            Some(from) => from.replace(asked.path, |found| self.to.fill(asked, Some(found)))?,
            None => self.to.fill(asked, None),
        };
        // `//` begins another host: a visitor must not be able to write one (open redirect).
        let own_host = self.to.text.starts_with('/') && !self.to.text.starts_with("//");
        Some(if own_host { format!("/{}", target.trim_start_matches(['/', '\\'])) } else { target })
    }
}

impl Rewrite {
    /// Path and query that the origin is asked for; `None` if it stays as it is. A query of the visitor's follows one of
    /// the rule.
    #[must_use]
    pub fn target(&self, asked: &Asked<'_>) -> Option<String> {
        let filled = self.from.replace(asked.path, |found| {
            let mut filled = String::new();
            found.expand(&self.to, &mut filled);
            filled
        })?;
        let mut target = format!("/{}", filled.trim_start_matches('/'));
        if let Some(query) = asked.query {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(query);
        }
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn expression(text: &str) -> Expression {
        Expression(Regex::new(text).unwrap())
    }

    fn sent(from: Option<&str>, to: &str, path: &str, query: Option<&str>) -> Option<String> {
        let redirect = Redirect {
            from: from.map(expression),
            to: Template::parse(to).unwrap(),
            status: StatusCode::FOUND,
        };
        redirect.target(&Asked { host: "a.example", path, query })
    }

    #[test]
    fn visitors_are_sent_where_the_template_says() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            sent(None, "https://new.example{uri}", "/x", Some("a=1")),
            some("https://new.example/x?a=1")
        );
        assert_eq!(sent(Some("^/old/(.*)"), "/new/$1", "/old/a/b", None), some("/new/a/b"));
        assert_eq!(sent(Some("^/old/"), "/new/", "/other", None), None);
        assert_eq!(
            sent(None, "https://www.{host}{path}?{query}", "/", Some("q")),
            some("https://www.a.example/?q")
        );
    }

    #[test]
    fn a_visitor_cannot_write_the_host() {
        for path in ["/old//evil.example", "/old/\\evil.example", "/old///evil.example"] {
            assert_eq!(sent(Some("^/old/(.*)"), "/$1", path, None).as_deref(), Some("/evil.example"));
        }
        assert_eq!(sent(None, "{path}", "//evil.example", None).as_deref(), Some("//evil.example"));
    }

    #[test]
    fn no_spelling_of_a_path_gets_around_a_rule() {
        assert_eq!(sent(Some("^/old/(.*)"), "/new/$1", "/%6fld/a%20b", None).as_deref(), Some("/new/a%20b"));
        let rewrite = Rewrite { from: expression("^/müller/(.*)"), to: "/miller/$1".into() };
        let asked = Asked { host: "a", path: "/m%c3%bcller/%C3%B6%2Fx", query: None };
        assert_eq!(rewrite.target(&asked).as_deref(), Some("/miller/%C3%B6%2Fx"));
    }

    #[test]
    fn a_path_cannot_fill_gaps() {
        assert_eq!(
            sent(Some("^/(.*)"), "/x/$1", "/{host}$1", None).as_deref(),
            Some("/x/{host}$1"),
            "what a visitor writes is text"
        );
        assert_eq!(Template::parse("/{nothing}"), Err(UnknownGap("nothing".to_owned())));
    }

    #[test]
    fn rewriting_keeps_the_query() {
        let rewrite = |to: &str| Rewrite { from: expression("^/api/(.*)"), to: to.into() };
        let asked = Asked { host: "a", path: "/api/users", query: Some("q=1") };
        assert_eq!(rewrite("/$1").target(&asked).as_deref(), Some("/users?q=1"));
        assert_eq!(rewrite("/index.php?p=$1").target(&asked).as_deref(), Some("/index.php?p=users&q=1"));
        assert_eq!(rewrite("/$1").target(&Asked { path: "/", ..asked }), None);
    }
}
