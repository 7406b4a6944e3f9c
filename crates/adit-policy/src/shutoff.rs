//! Names that answer 503 whatever home says, until the operator says otherwise.

use crate::host::{HostMap, HostPattern};

/// The names.
#[derive(Clone, Debug, Default)]
pub struct Shutoff {
    map: HostMap<()>,
    patterns: Vec<HostPattern>,
}

impl Shutoff {
    /// These names; [`HostPattern::Any`] is everything, ports included.
    #[must_use]
    pub fn of(patterns: Vec<HostPattern>) -> Self {
        let mut map = HostMap::default();
        for pattern in &patterns {
            map.insert(pattern, ());
        }
        Self { map, patterns }
    }

    /// Whether a canonical host name is shut off.
    #[must_use]
    pub fn includes(&self, host: &str) -> bool {
        !self.patterns.is_empty() && self.map.find(host).is_some()
    }

    /// Whether everything is.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.patterns.contains(&HostPattern::Any)
    }

    /// The names, as they were said.
    #[must_use]
    pub fn patterns(&self) -> &[HostPattern] {
        &self.patterns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_a_wildcard_or_everything() {
        let pattern = |text| HostPattern::parse(text).unwrap();
        let some = Shutoff::of(vec![pattern("a.example"), pattern("*.b.example")]);
        assert!(some.includes("a.example") && some.includes("x.b.example"));
        assert!(!some.includes("b.example") && !some.is_everything());
        let all = Shutoff::of(vec![pattern("*")]);
        assert!(all.includes("c.example") && all.is_everything());
        assert!(!Shutoff::default().includes("a.example"));
    }
}
