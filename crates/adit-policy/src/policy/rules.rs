//! What a connector's rules say about the requests that they answer.
//!
//! The edge does not see which rule answers a request, so it finds it as the connector does: the first one in the
//! connector's order that has the host and the path. What stands beside that rule holds, and nothing that stands beside
//! another one, be it about the very name.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Expression, Layer, Layers, Policy, Voice};
use crate::host::{HostMap, HostPattern};
use crate::path::{PathRefusal, RequestPath, first_match};

/// One rule, as far as the edge has to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleWord {
    /// The hosts that it answers.
    pub hosts: HostPattern,
    /// The paths that it answers, in their normal form ([`RequestPath::text`]). `None`: all.
    pub path: Option<Expression>,
    /// What stands beside it.
    pub layer: Option<Arc<Layer>>,
}

/// The rules of one connector in its order.
#[derive(Clone, Debug, Default)]
pub struct RuleList {
    rules: Vec<RuleWord>,
    /// By each pattern of a rule: all rules that answer hosts for which no rule has a narrower pattern, in order.
    by_host: HostMap<Arc<[usize]>>,
}

impl PartialEq for RuleList {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl RuleList {
    /// Makes the list of rules in their order.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = RuleWord>) -> Self {
        let rules: Vec<RuleWord> = rules.into_iter().collect();
        let mut own: HashMap<&HostPattern, Vec<usize>> = HashMap::new();
        for (number, rule) in rules.iter().enumerate() {
            own.entry(&rule.hosts).or_default().push(number);
        }
        let mut by_host = HostMap::default();
        for pattern in own.keys() {
            by_host.insert(pattern, answering(pattern, &own, &rules));
        }
        Self { rules, by_host }
    }

    /// Whether no rule says anything.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.rules.iter().all(|rule| rule.layer.is_none())
    }

    /// The rules in their order.
    #[must_use]
    pub fn rules(&self) -> &[RuleWord] {
        &self.rules
    }

    /// The rule that answers a request for a canonical host name, with its position from 0. Allocates nothing for a path
    /// that has one reading.
    ///
    /// # Errors
    /// [`PathRefusal::Ambiguous`] if another rule would answer in another reading of the path.
    pub fn find(
        &self,
        host: &str,
        path: &RequestPath<'_>,
    ) -> Result<Option<(usize, &RuleWord)>, PathRefusal> {
        let Some(numbers) = self.by_host.find(host) else { return Ok(None) };
        let regex = |number: &usize| {
            let rule = self.rules.get(*number)?;
            Some((*number, rule.path.as_ref().map(|path| &path.0)))
        };
        let found = first_match(numbers.iter().filter_map(regex), path)?;
        Ok(found.and_then(|number| Some((number, self.rules.get(number)?))))
    }
}

/// The rules that can answer hosts of a pattern, in order, up to the first one that answers them all.
fn answering(
    pattern: &HostPattern,
    own: &HashMap<&HostPattern, Vec<usize>>,
    rules: &[RuleWord],
) -> Arc<[usize]> {
    let mut numbers: Vec<usize> =
        chain(pattern).iter().filter_map(|wider| own.get(wider)).flatten().copied().collect();
    numbers.sort_unstable();
    let takes_all = |number: &usize| rules.get(*number).is_some_and(|rule| rule.path.is_none());
    let end = numbers.iter().position(takes_all).map_or(numbers.len(), |last| last + 1);
    numbers.truncate(end);
    numbers.into()
}

/// A pattern, and all those that have each of its names.
fn chain(pattern: &HostPattern) -> Vec<HostPattern> {
    let mut patterns = vec![pattern.clone()];
    let mut parent = match pattern {
        HostPattern::Any => return patterns,
        HostPattern::Wildcard(name) | HostPattern::Exact(name) => name.parent(),
    };
    while let Some(suffix) = parent {
        parent = suffix.parent();
        patterns.push(HostPattern::Wildcard(suffix));
    }
    patterns.push(HostPattern::Any);
    patterns
}

/// What holds for the requests that the rules of one connector answer, all voices heard.
#[derive(Clone, Debug, Default)]
pub struct RulePolicies {
    list: Arc<RuleList>,
    /// By rule; `None` for one that says nothing.
    by_rule: Vec<Option<HostMap<Arc<Policy>>>>,
}

impl RulePolicies {
    /// Makes them of what was said: about all names, beside the rules, and about names.
    #[must_use]
    pub fn of(defaults: &Layer, list: Arc<RuleList>, hostnames: &Layers) -> Self {
        let of_rule = |rule: &RuleWord| {
            let layer = rule.layer.as_ref()?;
            let narrower = hostnames.patterns().iter().filter(|pattern| chain(pattern).contains(&rule.hosts));
            let mut policies = HostMap::default();
            for pattern in std::iter::once(&rule.hosts).chain(narrower) {
                let name = match &rule.path {
                    Some(path) => format!("{pattern} {}", path.0),
                    None => pattern.to_string(),
                };
                let hostname = hostnames.find(pattern).map(|layer| (Voice::Hostnames, layer.as_ref()));
                let layers: Vec<(Voice, &Layer)> = [(Voice::Defaults, defaults), (Voice::Connector, layer)]
                    .into_iter()
                    .chain(hostname)
                    .collect();
                policies.insert(pattern, Arc::new(Policy::of(&name, &layers)));
            }
            Some(policies)
        };
        let by_rule = list.rules().iter().map(of_rule).collect();
        Self { list, by_rule }
    }

    /// The rules.
    #[must_use]
    pub fn list(&self) -> &Arc<RuleList> {
        &self.list
    }

    /// What holds for a request by the rule that answers it. `None` when that rule says nothing, or none answers: then
    /// what is said about the name holds ([`super::Policies`]).
    ///
    /// # Errors
    /// [`PathRefusal::Ambiguous`] if another rule would answer in another reading of the path.
    pub fn find(&self, host: &str, path: &RequestPath<'_>) -> Result<Option<&Arc<Policy>>, PathRefusal> {
        let found = self.list.find(host, path)?;
        Ok(found.and_then(|(number, _)| self.by_rule.get(number)?.as_ref()?.find(host)))
    }
}

#[cfg(test)]
mod tests;
