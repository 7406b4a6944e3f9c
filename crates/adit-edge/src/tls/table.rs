//! Certificates by the names that they are good for.

use std::collections::HashMap;
use std::sync::Arc;

use adit_policy::host::{HostPattern, Hostname};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

/// What a name has: at most one certificate for each kind of key, ECDSA first.
#[derive(Clone, Debug, Default)]
struct Keys(Vec<Arc<CertifiedKey>>);

impl Keys {
    /// The first one of a kind stays.
    fn add(&mut self, key: Arc<CertifiedKey>) {
        if self.0.iter().any(|known| known.key.algorithm() == key.key.algorithm()) {
            return;
        }
        match key.key.algorithm() {
            SignatureAlgorithm::RSA => self.0.push(key),
            _ => self.0.insert(0, key),
        }
    }

    /// The first one that the visitor can check; without any, the last one, whose handshake says what is wrong.
    fn choose(&self, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        self.0.iter().find(fits).or_else(|| self.0.last())
    }
}

/// Certificates by the names that they are good for.
#[derive(Debug, Default)]
pub struct CertTable {
    exact: HashMap<Hostname, Keys>,
    wildcard: HashMap<Hostname, Keys>,
    /// For handshakes without SNI: only a demo that is reached by its address has one.
    nameless: Keys,
}

impl CertTable {
    /// Adds a certificate for a name. The first one of a kind of key stays.
    pub fn insert(&mut self, pattern: HostPattern, key: Arc<CertifiedKey>) {
        match pattern {
            HostPattern::Exact(name) => self.exact.entry(name).or_default().add(key),
            HostPattern::Wildcard(parent) => self.wildcard.entry(parent).or_default().add(key),
            HostPattern::Any => self.nameless.add(key),
        }
    }

    /// Whether a name has a certificate.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.keys(name).is_some()
    }

    /// The certificate for a handshake.
    #[must_use]
    pub fn resolve(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = match hello.server_name() {
            Some(name) => self.keys(&super::normal_name(name))?,
            None => &self.nameless,
        };
        keys.choose(hello.signature_schemes()).cloned()
    }

    /// A wildcard covers one label (RFC 9525, section 6.3).
    fn keys(&self, name: &str) -> Option<&Keys> {
        self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }

    /// How many names have a certificate.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len()
    }

    /// Whether no name has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
