//! How the edge treats requests for a name: what was said about it in three places, made into one.
//!
//! `defaults` of the edge is the weakest word, then comes what the connector says beside its rule, and `hostnames` of the edge
//! is the strongest. Each may speak about the whole name, and about paths. The first path that fits a request counts: those
//! of `hostnames` are looked at first, then those of the connector, then those of `defaults`.

pub mod act;
pub mod address;
pub mod bans;
pub mod compress;
pub mod describe;
pub mod fields;
pub mod limit;
pub mod pace;
pub mod pages;
pub mod rules;
mod settings;
mod unread;

use std::sync::Arc;

use regex::Regex;

use crate::host::{HostMap, HostPattern};
use crate::path::{PathRefusal, RequestPath};

pub use settings::{Patch, Settings, Voice};

/// What one place says about a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer {
    /// About all of it.
    pub base: Patch,
    /// About paths, in order.
    pub paths: Vec<PathLayer>,
}

/// What one place says about a path.
#[derive(Clone, Debug, PartialEq)]
pub struct PathLayer {
    /// The paths.
    pub path: Expression,
    /// What is said about them.
    pub patch: Patch,
}

/// A regular expression. Two with the same text are the same.
#[derive(Clone, Debug)]
pub struct Expression(pub Regex);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// What holds for a name.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// For all of it.
    pub base: Arc<Settings>,
    /// For bytes that the edge carries and does not read. What a connector says and cannot hold there closes the name.
    pub unread: Arc<Settings>,
    /// For paths; the first one that fits counts.
    pub paths: Vec<(Expression, Arc<Settings>)>,
}

impl Policy {
    /// Makes one of what was said, from the weakest voice to the strongest. `name` tells its counters from those of others.
    #[must_use]
    pub fn of(name: &str, layers: &[(Voice, &Layer)]) -> Self {
        let bases: Vec<(Voice, &Patch)> = layers.iter().map(|(voice, layer)| (*voice, &layer.base)).collect();
        let base = Arc::new(settle(name, &bases));
        let is_beyond_us = |(voice, layer): &(Voice, &Layer)| {
            *voice == Voice::Connector && !layer.keys_for_requests().is_empty()
        };
        let unread = match layers.iter().any(is_beyond_us) {
            true => Arc::new(Settings { maintenance: Some(unread::CLOSED.into()), ..Settings::clone(&base) }),
            false => base.clone(),
        };
        let mut policy = Self { base, unread, paths: Vec::new() };
        for (place, (voice, layer)) in layers.iter().enumerate().rev() {
            for path in &layer.paths {
                // Right behind the same voice's word about the whole name.
                let mut words = bases.clone();
                words.insert(place + 1, (*voice, &path.patch));
                let scope = format!("{name} {}", path.path.0);
                policy.paths.push((path.path.clone(), Arc::new(settle(&scope, &words))));
            }
        }
        policy
    }

    /// What holds for a path, which is in its normal form ([`RequestPath::text`]).
    #[must_use]
    pub fn find(&self, path: &str) -> &Arc<Settings> {
        self.position(path)
            .and_then(|place| self.paths.get(place))
            .map_or(&self.base, |(_, settings)| settings)
    }

    /// What holds for the path of a request.
    ///
    /// # Errors
    /// [`PathRefusal::Ambiguous`] if something else would hold, or another of its redirects and rewrites would apply, in another
    /// reading of the path.
    pub fn of_request(&self, path: &RequestPath<'_>) -> Result<&Arc<Settings>, PathRefusal> {
        if !self.paths.is_empty() {
            path.decide(|text| self.position(text))?;
        }
        let settings = self.find(path.text());
        if settings.redirect.is_some() || settings.rewrite.is_some() {
            path.decide(|text| settings.target_rules(text))?;
        }
        Ok(settings)
    }

    fn position(&self, path: &str) -> Option<usize> {
        self.paths.iter().position(|(path_of, _)| path_of.0.is_match(path))
    }
}

fn settle(scope: &str, words: &[(Voice, &Patch)]) -> Settings {
    let mut settings = Settings { scope: scope.into(), ..Settings::default() };
    for (voice, patch) in words {
        settings.lay(patch, *voice);
    }
    settings.confine();
    settings
}

/// What is said in one place about many names.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    map: HostMap<Arc<Layer>>,
    patterns: Vec<HostPattern>,
}

impl Layers {
    /// Puts a layer in, in place of what was there for the same names.
    pub fn add(&mut self, pattern: &HostPattern, layer: Layer) {
        if self.map.insert(pattern, Arc::new(layer)).is_none() {
            self.patterns.push(pattern.clone());
        }
    }

    /// What is said about a pattern itself, or else about the next wider one.
    #[must_use]
    pub fn find(&self, pattern: &HostPattern) -> Option<&Arc<Layer>> {
        self.map.cover(pattern)
    }

    /// The patterns that something is said about.
    #[must_use]
    pub fn patterns(&self) -> &[HostPattern] {
        &self.patterns
    }
}

/// What holds for every name where no rule of a connector says anything ([`rules`]).
#[derive(Clone, Debug, Default)]
pub struct Policies {
    map: HostMap<Arc<Policy>>,
    /// What holds for what has no name.
    defaults: Arc<Policy>,
}

impl Policies {
    /// Makes them of what the operator says: about all names, and about names.
    #[must_use]
    pub fn of(defaults: &Layer, hostnames: &Layers) -> Self {
        let mut policies = HostMap::default();
        let everything = [HostPattern::Any];
        for pattern in hostnames.patterns().iter().chain(&everything) {
            let hostname = hostnames.find(pattern).map(|layer| (Voice::Hostnames, layer.as_ref()));
            let layers: Vec<(Voice, &Layer)> =
                std::iter::once((Voice::Defaults, defaults)).chain(hostname).collect();
            policies.insert(pattern, Arc::new(Policy::of(&pattern.to_string(), &layers)));
        }
        let defaults = Arc::new(Policy::of("*", &[(Voice::Defaults, defaults)]));
        Self { map: policies, defaults }
    }

    /// What holds for the names of a pattern, where something is said about it.
    #[must_use]
    pub fn of_pattern(&self, pattern: &HostPattern) -> Option<&Arc<Policy>> {
        self.map.get(pattern)
    }

    /// What holds for a canonical host name. There is always something for [`HostPattern::Any`].
    #[must_use]
    pub fn find(&self, host: &str) -> Option<&Arc<Policy>> {
        self.map.find(host)
    }

    /// What holds for what has no name: what `defaults` says, and nothing else.
    #[must_use]
    pub fn defaults(&self) -> &Arc<Policy> {
        &self.defaults
    }
}

#[cfg(test)]
mod tests;
