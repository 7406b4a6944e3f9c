//! A connector's rules as the edge knows them: which hosts and paths, in which order. The connector may be a stock cloudflared,
//! which matches the decoded path and refuses nothing; so the edge refuses what is ambiguous in its stead.

use regex::Regex;

use crate::host::{HostPattern, Hostname};
use crate::path::{PathRefusal, RequestPath, first_match};

/// The paths of a rule.
#[derive(Clone, Debug)]
pub enum KnownPath {
    /// All of them.
    Every,
    /// Those that the expression matches.
    Matching(Regex),
    /// Some: the expression cannot be read here, or there are too many.
    Unknown,
}

/// Hosts and paths of rules, in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub struct RuleOrder(Vec<(HostPattern, KnownPath)>);

impl FromIterator<(HostPattern, KnownPath)> for RuleOrder {
    fn from_iter<I: IntoIterator<Item = (HostPattern, KnownPath)>>(rules: I) -> Self {
        Self(rules.into_iter().collect())
    }
}

impl RuleOrder {
    /// Whether no rule looks at the path, so that there is nothing to check.
    #[must_use]
    pub fn ignores_paths(&self) -> bool {
        self.0.iter().all(|(_, path)| matches!(path, KnownPath::Every))
    }

    /// Checks that a request gets the same rule in every reading of its path.
    ///
    /// # Errors
    /// [`PathRefusal::Ambiguous`] if it would not, or if that cannot be known.
    pub fn check(&self, host: &Hostname, path: &RequestPath<'_>) -> Result<(), PathRefusal> {
        if path.has_one_reading() {
            return Ok(());
        }
        let mut candidates = Vec::new();
        for (number, (pattern, path)) in self.0.iter().enumerate() {
            match path {
                _ if !pattern.matches(host) => {}
                KnownPath::Unknown => return Err(PathRefusal::Ambiguous),
                KnownPath::Matching(regex) => candidates.push((number, Some(regex))),
                KnownPath::Every => {
                    candidates.push((number, None));
                    break;
                }
            }
        }
        first_match(candidates.iter().copied(), path).map(drop)
    }
}
