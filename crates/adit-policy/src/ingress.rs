//! The connector's rules: which origin answers a request. Semantics are cloudflared's, to the letter (`ingress/rule.go`).

mod accept;
mod access;
mod balance;
mod dialled;
mod gates;
mod order;
mod origin;
mod rule;
mod service;
mod warp;

use std::collections::HashSet;
use std::sync::Arc;

pub use regex::Regex;

use crate::host::HostPattern;
use crate::limits::CLAIMED_HOSTS_MAX;
use crate::path::{PathRefusal, RequestPath, first_match};
use crate::policy::Expression;
use crate::policy::rules::{RuleList, RuleWord};

pub use accept::{AcceptRules, Ceiling, HostPart, NotAccepted, ServicePattern, ServicePatternError};
pub use access::Access;
pub use balance::{Balance, HealthCheck, order};
pub use dialled::{destination, destination_of, is_special};
pub use gates::Gates;
pub use order::{KnownPath, RuleOrder};
pub use origin::{
    IpPrefix, IpPrefixError, IpRule, OriginRequest, OriginRequestPatch, ProxyProtocol, ProxyType, TlsEnd,
};
pub use rule::{EdgeWord, PathError, Rule, RuleHost, RuleHostError, path_regex};
pub use service::{Service, ServiceError};
pub use warp::WarpRouting;

/// An ordered list of rules; the first match wins. The last rule, and no other, matches everything.
#[derive(Clone, Debug)]
pub struct Ingress {
    /// The rules. Made by [`Ingress::new`], they are never empty.
    pub rules: Vec<Rule>,
    /// What is reached beside the rules.
    pub warp: WarpRouting,
}

/// What a connector says that it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The host patterns of its rules, each once. `*` stands for a rule with a path and without a host name.
    pub hosts: Vec<HostPattern>,
    /// Whether its last rule is a service, not a bare status.
    pub catch_all: bool,
}

/// Why a list of rules is no ingress.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IngressError {
    /// There is no rule.
    #[error("there are no ingress rules")]
    Empty,
    /// The last rule has a host name or a path.
    #[error("the last ingress rule must match all URLs (it cannot have a hostname or a path)")]
    LastNotCatchAll,
    /// An earlier rule matches everything.
    #[error(
        "rule #{number} is matching the hostname `{hostname}`, but this will match every hostname, \
         so the rules which follow it will never be used"
    )]
    EarlyCatchAll {
        /// Position of the rule, from 1.
        number: usize,
        /// Its host name as written, mostly empty or `*`.
        hostname: String,
    },
}

impl Ingress {
    /// Checks that the last rule, and no other, matches everything.
    ///
    /// # Errors
    /// [`IngressError`] names the first rule that is wrong.
    pub fn new(rules: Vec<Rule>) -> Result<Self, IngressError> {
        let (last, earlier) = rules.split_last().ok_or(IngressError::Empty)?;
        if let Some(index) = earlier.iter().position(Rule::is_catch_all) {
            let hostname = earlier.get(index).and_then(|rule| rule.hostname.as_ref());
            let hostname = hostname.map_or("", RuleHost::text).to_owned();
            return Err(IngressError::EarlyCatchAll { number: index + 1, hostname });
        }
        match last.is_catch_all() {
            true => Ok(Self { rules, warp: WarpRouting::default() }),
            false => Err(IngressError::LastNotCatchAll),
        }
    }

    /// One service for everything.
    #[must_use]
    pub fn single(service: Service, origin: OriginRequest) -> Self {
        let rule = Rule { hostname: None, path: None, service, more: Vec::new(), origin, edge: None };
        Self { rules: vec![rule], warp: WarpRouting::default() }
    }

    /// The names whose TLS is ended here with a certificate that comes by itself.
    #[must_use]
    pub fn names_for_acme(&self) -> Vec<HostPattern> {
        let wanting = self.rules.iter().filter(|rule| rule.origin.tls_end == Some(TlsEnd::Acme));
        wanting.filter_map(|rule| HostPattern::parse(rule.hostname.as_ref()?.text()).ok()).collect()
    }

    /// The same with another private network.
    #[must_use]
    pub fn with_warp(mut self, warp: WarpRouting) -> Self {
        self.warp = warp;
        self
    }

    /// No rules were given: 503 for everything.
    #[must_use]
    pub fn default_503() -> Self {
        Self::single(Service::Status(503), OriginRequest::default())
    }

    /// Finds the rule for a request, with its position from 0. `host` is in its normal form, without a port
    /// ([`crate::host::Authority`]).
    ///
    /// # Errors
    /// [`PathRefusal::Ambiguous`] if another rule would match in another reading of the path.
    pub fn find(&self, host: &str, path: &RequestPath<'_>) -> Result<Option<(usize, &Rule)>, PathRefusal> {
        let of_host = self.rules.iter().enumerate().filter(|(_, rule)| rule.is_for(host));
        let found = first_match(of_host.map(|(number, rule)| (number, rule.path.as_ref())), path)?;
        Ok(found.and_then(|number| Some((number, self.rules.get(number)?))))
    }

    /// What the edge has to know to find the same rule.
    #[must_use]
    pub fn order(&self) -> RuleOrder {
        let path = |rule: &Rule| rule.path.clone().map_or(KnownPath::Every, KnownPath::Matching);
        self.rules.iter().filter_map(|rule| Some((rule.pattern()?, path(rule)))).collect()
    }

    /// What this connector serves, for the edge.
    #[must_use]
    pub fn claims(&self) -> Claims {
        let Some((last, earlier)) = self.rules.split_last() else {
            return Claims::default();
        };
        let patterns = earlier.iter().filter_map(Rule::pattern);
        Claims::new(patterns, !matches!(last.service, Service::Status(_)))
    }

    /// What the rules say to the edge. A rule whose host name no request can have is not among them.
    #[must_use]
    pub fn words(&self) -> RuleList {
        RuleList::new(self.rules.iter().filter_map(|rule| {
            let layer = rule.edge.as_ref().map(|word| Arc::new(word.layer.clone()));
            Some(RuleWord { hosts: rule.pattern()?, path: rule.path.clone().map(Expression), layer })
        }))
    }
}

impl Claims {
    /// Claims of these patterns; repetitions, and what passes the limit, are dropped.
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = HostPattern>, catch_all: bool) -> Self {
        let mut seen = HashSet::new();
        let unique = hosts.into_iter().filter(|pattern| seen.insert(pattern.clone()));
        Self { hosts: unique.take(CLAIMED_HOSTS_MAX).collect(), catch_all }
    }

    /// Claims of rules as they come over the wire: host name, path and service of each. What is no host name claims
    /// nothing; what is no known service counts as one.
    #[must_use]
    pub fn of_rules<'a>(
        rules: impl IntoIterator<Item = (Option<&'a str>, Option<&'a str>, &'a str)>,
    ) -> Self {
        let mut hosts = Vec::new();
        let mut catch_all = false;
        for (hostname, path, service) in rules {
            let hostname = hostname.filter(|name| !name.is_empty() && *name != "*");
            let everything = hostname.is_none() && path.is_none_or(str::is_empty);
            catch_all = everything && !service.starts_with("http_status:");
            let pattern = HostPattern::parse(hostname.unwrap_or("*")).ok();
            hosts.extend(pattern.filter(|_| !everything));
        }
        Self::new(hosts, catch_all)
    }
}

#[cfg(test)]
mod tests;
