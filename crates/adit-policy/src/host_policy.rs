//! How TLS is done for a name, by the operator's word.

use std::fmt;
use std::sync::Arc;

use crate::host::{HostMap, HostPattern};

/// Who ends TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// The edge: it reads the requests.
    #[default]
    Terminate,
    /// Somebody at home: the edge carries bytes that it cannot read.
    Passthrough,
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "terminate",
            Self::Passthrough => "passthrough",
        })
    }
}

/// Visitors prove themselves with a certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities that sign them, in DER.
    pub authorities: Arc<[Vec<u8>]>,
    /// Whether a visitor without one is turned away.
    pub required: bool,
}

impl fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.authorities.len();
        f.debug_struct("ClientCertificates")
            .field("authorities", &count)
            .field("required", &self.required)
            .finish()
    }
}

/// How TLS is done for a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPolicy {
    /// Who ends TLS.
    pub tls: TlsMode,
    /// Whether visitors prove themselves.
    pub client_certificates: Option<ClientCertificates>,
}

/// The policies of all names.
#[derive(Clone, Debug, Default)]
pub struct HostPolicies {
    map: HostMap<Arc<HostPolicy>>,
    patterns: Vec<HostPattern>,
    default: Arc<HostPolicy>,
}

impl HostPolicies {
    /// The policies of some names, and that of all others.
    #[must_use]
    pub fn new(default: HostPolicy, named: Vec<(HostPattern, HostPolicy)>) -> Self {
        let mut policies = Self { default: Arc::new(default), ..Self::default() };
        for (pattern, policy) in named {
            policies.map.insert(&pattern, Arc::new(policy));
            policies.patterns.push(pattern);
        }
        policies
    }

    /// The policy of a canonical host name.
    #[must_use]
    pub fn find(&self, host: &str) -> &Arc<HostPolicy> {
        self.map.find(host).unwrap_or(&self.default)
    }

    /// The policy of names that have none of their own.
    #[must_use]
    pub fn default_policy(&self) -> &HostPolicy {
        &self.default
    }

    /// The policy that stands under a pattern.
    #[must_use]
    pub fn of_pattern(&self, pattern: &HostPattern) -> Option<&HostPolicy> {
        self.map.get(pattern).map(AsRef::as_ref)
    }

    /// The names that have a policy of their own.
    #[must_use]
    pub fn patterns(&self) -> &[HostPattern] {
        &self.patterns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_own_policy_or_that_of_the_wildcard_above() {
        let passthrough = HostPolicy { tls: TlsMode::Passthrough, ..HostPolicy::default() };
        let policies = HostPolicies::new(
            HostPolicy::default(),
            vec![
                (HostPattern::parse("*.vault.example").unwrap(), passthrough),
                (HostPattern::parse("a.vault.example").unwrap(), HostPolicy::default()),
            ],
        );
        assert_eq!(policies.find("b.c.vault.example").tls, TlsMode::Passthrough);
        assert_eq!(policies.find("a.vault.example").tls, TlsMode::Terminate);
        assert_eq!(policies.find("vault.example").tls, TlsMode::Terminate);
    }
}
