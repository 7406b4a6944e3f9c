//! A table by host name: a name's own entry, else that of the longest wildcard above it, else the one for everything.

use std::collections::HashMap;

use super::HostPattern;

/// What belongs to host names.
#[derive(Clone, Debug)]
pub struct HostMap<T> {
    /// By name.
    exact: HashMap<Box<str>, T>,
    /// By suffix, without `*.`.
    wildcards: HashMap<Box<str>, T>,
    any: Option<T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcards: HashMap::new(), any: None }
    }
}

impl<T> HostMap<T> {
    /// Puts a value in, in place of what was there for the same pattern.
    pub fn insert(&mut self, pattern: &HostPattern, value: T) -> Option<T> {
        match pattern {
            HostPattern::Any => self.any.replace(value),
            HostPattern::Wildcard(suffix) => self.wildcards.insert(suffix.as_str().into(), value),
            HostPattern::Exact(name) => self.exact.insert(name.as_str().into(), value),
        }
    }

    /// The value of a pattern itself.
    #[must_use]
    pub fn get(&self, pattern: &HostPattern) -> Option<&T> {
        match pattern {
            HostPattern::Any => self.any.as_ref(),
            HostPattern::Wildcard(suffix) => self.wildcards.get(suffix.as_str()),
            HostPattern::Exact(name) => self.exact.get(name.as_str()),
        }
    }

    /// The value for a canonical host name ([`super::Hostname`]). Allocates nothing.
    #[must_use]
    pub fn find(&self, host: &str) -> Option<&T> {
        self.exact.get(host).or_else(|| self.find_above(host)).or(self.any.as_ref())
    }

    /// The value of a pattern itself, or of the narrowest one that holds all of its names.
    #[must_use]
    pub fn cover(&self, pattern: &HostPattern) -> Option<&T> {
        let above = match pattern {
            HostPattern::Any => None,
            HostPattern::Exact(name) => return self.find(name.as_str()),
            HostPattern::Wildcard(suffix) => self.find_above(suffix.as_str()),
        };
        self.get(pattern).or(above).or(self.any.as_ref())
    }

    /// All values: those of names, of wildcards, of everything.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.wildcards.values()).chain(&self.any)
    }

    fn find_above(&self, host: &str) -> Option<&T> {
        if self.wildcards.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(value) = self.wildcards.get(parent) {
                return Some(value);
            }
            rest = parent;
        }
        None
    }
}
