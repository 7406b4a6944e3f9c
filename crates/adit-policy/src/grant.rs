//! Which host names a tunnel may claim. Deny by default: what no pattern covers is refused.

use crate::host::{HostPattern, Hostname, Specificity};

/// The patterns that an operator gave to a tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    patterns: Vec<HostPattern>,
}

impl Grant {
    /// A grant of these patterns; repetitions are dropped.
    #[must_use]
    pub fn new(patterns: impl IntoIterator<Item = HostPattern>) -> Self {
        let mut unique = Vec::new();
        for pattern in patterns {
            if !unique.contains(&pattern) {
                unique.push(pattern);
            }
        }
        Self { patterns: unique }
    }

    /// The patterns, in the operator's order.
    #[must_use]
    pub fn patterns(&self) -> &[HostPattern] {
        &self.patterns
    }

    /// Whether the whole of `pattern` is granted.
    #[must_use]
    pub fn covers(&self, pattern: &HostPattern) -> bool {
        self.patterns.iter().any(|granted| granted.covers(pattern))
    }

    /// The narrowest pattern that holds this name.
    #[must_use]
    pub fn best_match(&self, host: &Hostname) -> Option<Specificity> {
        let matching = self.patterns.iter().filter(|granted| granted.matches(host));
        matching.map(HostPattern::specificity).max()
    }

    /// The narrowest pattern that covers the whole of `pattern`.
    #[must_use]
    pub fn best_cover(&self, pattern: &HostPattern) -> Option<Specificity> {
        let covering = self.patterns.iter().filter(|granted| granted.covers(pattern));
        covering.map(HostPattern::specificity).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(patterns: &[&str]) -> Grant {
        Grant::new(patterns.iter().map(|text| HostPattern::parse(text).unwrap()))
    }

    #[test]
    fn a_grant_covers_what_its_patterns_cover() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&["a.x"], "a.x", true),
            (&["a.x"], "b.x", false),
            (&["a.x"], "*.x", false),
            (&["*.x"], "a.x", true),
            (&["*.x"], "a.b.x", true),
            (&["*.x"], "x", false),
            (&["*.x"], "*.x", true),
            (&["*.x"], "*.a.x", true),
            (&["*.a.x"], "*.x", false),
            (&["*"], "*", true),
            (&["*"], "a.x", true),
            (&["*.x"], "*", false),
            (&[], "a.x", false),
        ];
        for (patterns, claim, expected) in cases {
            let claim = HostPattern::parse(claim).unwrap();
            assert_eq!(grant(patterns).covers(&claim), *expected, "{patterns:?} {claim}");
        }
    }

    #[test]
    fn the_narrowest_pattern_is_the_best() {
        let grant = grant(&["*", "*.x", "*.a.x", "b.a.x", "b.a.x"]);
        assert_eq!(grant.patterns().len(), 4);
        let best = |host: &str| grant.best_match(&Hostname::parse(host).unwrap());
        assert_eq!(best("b.a.x"), Some(Specificity::Exact));
        assert_eq!(best("c.a.x"), Some(Specificity::Wildcard(3)));
        assert_eq!(best("c.x"), Some(Specificity::Wildcard(1)));
        assert_eq!(best("y"), Some(Specificity::Any));
        assert_eq!(Grant::default().best_match(&Hostname::parse("y").unwrap()), None);
    }
}
