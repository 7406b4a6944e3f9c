//! Patterns of host names: one name, everything below a name, or everything.

use std::fmt;

use super::{HostError, Hostname};

/// A set of host names. Two patterns never overlap in part: one covers the other, or they have nothing in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// `*`: every name.
    Any,
    /// `*.a.b`: every name below `a.b`, of any depth, but not `a.b` itself (cloudflared's rule). Holds `a.b`.
    Wildcard(/** The suffix without `*.`. */ Hostname),
    /// `a.b`: that name.
    Exact(Hostname),
}

/// How narrow a pattern is. The greater is the narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Specificity {
    /// Every name.
    Any,
    /// Every name below a suffix of that many bytes.
    Wildcard(usize),
    /// One name.
    Exact,
}

impl HostPattern {
    /// Reads `*`, `*.a.b` or `a.b`.
    ///
    /// # Errors
    /// [`HostError`] says what is wrong, such as a wildcard elsewhere or a port.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(suffix) => Hostname::parse(suffix).map(Self::Wildcard),
            None => Hostname::parse(text).map(Self::Exact),
        }
    }

    /// Whether the name belongs to the set.
    #[must_use]
    pub fn matches(&self, host: &Hostname) -> bool {
        match self {
            Self::Any => true,
            Self::Wildcard(suffix) => is_below(host.as_str(), suffix.as_str()),
            Self::Exact(name) => name == host,
        }
    }

    /// Whether every name of `other` belongs to this set too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Wildcard(wide), Self::Wildcard(narrow)) => {
                wide == narrow || is_below(narrow.as_str(), wide.as_str())
            }
            (Self::Exact(_), Self::Wildcard(_)) => false,
        }
    }

    /// What both sets have in common: the narrower of the two, or nothing.
    #[must_use]
    pub fn intersection<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        if self.covers(other) {
            return Some(other);
        }
        other.covers(self).then_some(self)
    }

    /// How narrow the set is.
    #[must_use]
    pub fn specificity(&self) -> Specificity {
        match self {
            Self::Any => Specificity::Any,
            Self::Wildcard(suffix) => Specificity::Wildcard(suffix.as_str().len()),
            Self::Exact(_) => Specificity::Exact,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Exact(name) => name.fmt(f),
        }
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|head| head.ends_with('.'))
}
