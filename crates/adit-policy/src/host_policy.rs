//! How the edge serves a name, by the operator's word.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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

/// Browsers are to come by HTTPS only (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hsts {
    /// For how long.
    pub max_age: Duration,
    /// Also below the name.
    pub subdomains: bool,
    /// Whether browsers may be shipped with it.
    pub preload: bool,
}

impl fmt::Display for Hsts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max-age={}", self.max_age.as_secs())?;
        f.write_str(if self.subdomains { "; includeSubDomains" } else { "" })?;
        f.write_str(if self.preload { "; preload" } else { "" })
    }
}

/// Pages in place of the built-in ones, by status; templates with `{{…}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// For one status.
    pub by_status: Vec<(u16, Arc<str>)>,
    /// For every other one.
    pub other: Option<Arc<str>>,
}

impl Pages {
    /// The template for a status.
    #[must_use]
    pub fn find(&self, status: u16) -> Option<&str> {
        let own = self.by_status.iter().find(|(known, _)| *known == status).map(|(_, page)| page);
        own.or(self.other.as_ref()).map(AsRef::as_ref)
    }
}

/// How a name is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPolicy {
    /// Who ends TLS.
    pub tls: TlsMode,
    /// Whether visitors prove themselves.
    pub client_certificates: Option<ClientCertificates>,
    /// Whether browsers are told to come by HTTPS only.
    pub hsts: Option<Hsts>,
    /// What visitors read while it is taken out of service.
    pub maintenance: Option<Arc<str>>,
    /// Pages of its own.
    pub pages: Option<Arc<Pages>>,
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
            HostPolicy { maintenance: Some("soon".into()), ..HostPolicy::default() },
            vec![
                (HostPattern::parse("*.vault.example").unwrap(), passthrough),
                (HostPattern::parse("a.vault.example").unwrap(), HostPolicy::default()),
            ],
        );
        assert_eq!(policies.find("b.c.vault.example").tls, TlsMode::Passthrough);
        assert_eq!(policies.find("a.vault.example").tls, TlsMode::Terminate);
        assert_eq!(policies.find("vault.example").maintenance.as_deref(), Some("soon"));
    }

    #[test]
    fn hsts_is_written_as_the_rfc_says() {
        let hsts = Hsts { max_age: Duration::from_secs(3600), subdomains: true, preload: false };
        assert_eq!(hsts.to_string(), "max-age=3600; includeSubDomains");
    }
}
