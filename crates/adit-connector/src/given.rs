//! Certificates that this connector ends TLS with and that come by themselves, and the proofs that they are asked for with.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// ALPN of a proof (RFC 8737, section 3).
pub(crate) const ALPN_PROOF: &[u8] = b"acme-tls/1";

/// Certificates by host name.
pub type ByName = HashMap<String, Arc<CertifiedKey>>;

/// What is there at this moment.
#[derive(Debug)]
pub struct Given {
    shared: Arc<Shared>,
    config: Arc<ServerConfig>,
}

#[derive(Debug, Default)]
struct Shared {
    certificates: ArcSwap<ByName>,
    proofs: ArcSwap<ByName>,
}

impl ResolvesServerCert for Shared {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        let proves = hello.alpn().is_some_and(|mut offered| offered.any(|alpn| alpn == ALPN_PROOF));
        let table = if proves { self.proofs.load() } else { self.certificates.load() };
        let parent = || name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        table.get(&name).or_else(|| table.get(&parent()?)).cloned()
    }
}

impl Given {
    /// With nothing yet.
    ///
    /// # Errors
    /// When the provider lacks a protocol version, which ours does not.
    pub fn new() -> Result<Self, rustls::Error> {
        let shared = Arc::new(Shared::default());
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(shared.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec(), ALPN_PROOF.to_vec()];
        Ok(Self { shared, config: Arc::new(config) })
    }

    /// Puts other certificates in force, for handshakes from now on.
    pub fn set_certificates(&self, certificates: ByName) {
        self.shared.certificates.store(Arc::new(certificates));
    }

    /// Shows other proofs from now on.
    pub fn set_proofs(&self, proofs: ByName) {
        self.shared.proofs.store(Arc::new(proofs));
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}
