//! Which requests a connector checks a token for (`originRequest.access`), as the edge sees it: what such a rule answers is
//! nothing for a cache, whoever asks.

use regex::Regex;

use super::path_regex;
use crate::host::{HostPattern, Hostname};
use crate::limits::PATH_EXPRESSIONS_MAX;

/// The rules of a connector in their order, with whether they check a token.
#[derive(Clone, Debug)]
pub struct Gates(Vec<Gate>);

#[derive(Clone, Debug)]
struct Gate {
    pattern: HostPattern,
    path: PathOf,
    checks: bool,
}

#[derive(Clone, Debug)]
enum PathOf {
    All,
    Some(Regex),
    /// An expression that cannot be read here: it may be any path.
    Unread,
}

impl Gates {
    /// The rules of a connector as they come over the wire: host name, path, and whether a token is checked. `None` if none is.
    #[must_use]
    pub fn of_rules<'a>(
        rules: impl IntoIterator<Item = (Option<&'a str>, Option<&'a str>, bool)>,
    ) -> Option<Self> {
        let rules: Vec<_> = rules.into_iter().collect();
        if rules.iter().all(|(.., checks)| !checks) {
            return None;
        }
        let mut expressions = 0;
        let gates = rules.into_iter().filter_map(|(hostname, path, checks)| {
            let hostname = hostname.filter(|name| !name.is_empty()).unwrap_or("*");
            let path = path.filter(|path| !path.is_empty());
            expressions += usize::from(path.is_some());
            let read = |path| if expressions > PATH_EXPRESSIONS_MAX { None } else { path_regex(path).ok() };
            let path = path.map_or(PathOf::All, |path| read(path).map_or(PathOf::Unread, PathOf::Some));
            match HostPattern::parse(hostname) {
                Ok(pattern) => Some(Gate { pattern, path, checks }),
                // No request has such a name, unless it is read in another way there.
                Err(_) => checks.then_some(Gate { pattern: HostPattern::Any, path: PathOf::Unread, checks }),
            }
        });
        Some(Self(gates.collect()))
    }

    /// Whether the rule that answers checks a token; also where it cannot be told which rule that is. `path` is in its normal
    /// form.
    #[must_use]
    pub fn include(&self, host: &Hostname, path: &str) -> bool {
        for gate in self.0.iter().filter(|gate| gate.pattern.matches(host)) {
            match &gate.path {
                PathOf::All => return gate.checks,
                PathOf::Some(expression) if expression.is_match(path) => return gate.checks,
                PathOf::Unread if gate.checks => return true,
                PathOf::Some(_) | PathOf::Unread => {}
            }
        }
        false
    }

    /// The names of rules that check a token.
    pub fn patterns(&self) -> impl Iterator<Item = &HostPattern> {
        self.0.iter().filter(|gate| gate.checks).map(|gate| &gate.pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn include(gates: &Gates, host: &str, path: &str) -> bool {
        gates.include(&Hostname::parse(host).unwrap(), path)
    }

    #[test]
    fn the_rule_that_answers_decides() {
        let gates = Gates::of_rules([
            (Some("a.x"), Some("^/open"), false),
            (Some("*.x"), Some("^/admin"), true),
            (Some("a.x"), None, false),
            (Some("b.x"), None, true),
            (None, Some("[broken"), false),
            (None, None, false),
        ])
        .unwrap();
        for (host, path, expected) in [
            ("a.x", "/open/admin", false),
            ("a.x", "/admin", true),
            ("a.x", "/", false),
            ("b.x", "/", true),
            ("c.x", "/admin/x", true),
            ("c.x", "/x/admin", false),
            ("y", "/admin", false),
        ] {
            assert_eq!(include(&gates, host, path), expected, "{host}{path}");
        }
        assert_eq!(gates.patterns().count(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_gated() {
        let of = |hostname, path| Gates::of_rules([(hostname, path, true), (None, None, false)]).unwrap();
        assert!(include(&of(Some("a.x"), Some("[broken")), "a.x", "/"));
        assert!(!include(&of(Some("a.x"), Some("[broken")), "b.x", "/"));
        assert!(include(&of(Some("*a.x"), None), "b.x", "/"));
        assert!(Gates::of_rules([(None, Some("[broken"), false)]).is_none());
        let many = (0..=PATH_EXPRESSIONS_MAX).map(|_| (Some("a.x"), Some("^/never$"), true));
        assert!(include(&Gates::of_rules(many).unwrap(), "a.x", "/"));
    }
}
