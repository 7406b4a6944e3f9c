//! TLS towards visitors: certificates by SNI, and which handshakes are for the tunnel.
//!
//! A name without a certificate gets no handshake: there is no default certificate that would tell a stranger what else
//! lives here.

use std::collections::HashMap;
use std::sync::Arc;

use adit_policy::host::{HostPattern, Hostname};
use adit_wire::names;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::Edge;

/// Certificates by the names that they are good for.
#[derive(Debug, Default)]
pub struct CertTable {
    exact: HashMap<Hostname, Arc<CertifiedKey>>,
    wildcard: HashMap<Hostname, Arc<CertifiedKey>>,
    /// For handshakes without SNI: only a demo that is reached by its address has one.
    nameless: Option<Arc<CertifiedKey>>,
}

impl CertTable {
    /// Adds a certificate for a name. The first one for a name stays.
    pub fn insert(&mut self, pattern: HostPattern, key: Arc<CertifiedKey>) {
        match pattern {
            HostPattern::Exact(name) => drop(self.exact.entry(name).or_insert(key)),
            HostPattern::Wildcard(parent) => drop(self.wildcard.entry(parent).or_insert(key)),
            HostPattern::Any => self.nameless = Some(key),
        }
    }

    /// The certificate of a name. A wildcard covers one label (RFC 9525, section 6.3).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
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

/// Finds the certificate of a handshake in the edge's present table.
#[derive(Debug)]
struct BySni(Arc<Edge>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certs = self.0.certs.load();
        match hello.server_name() {
            Some(name) => certs.find(&name.to_ascii_lowercase()).cloned(),
            None => certs.nameless.clone(),
        }
    }
}

/// The configuration of the HTTPS listener.
///
/// # Errors
/// When the provider lacks a protocol version or a ticket key cannot be made.
pub(crate) fn visitor_config(edge: &Arc<Edge>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(BySni(edge.clone())));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Rotated by the library; resumption costs a fifth of a handshake.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    // A request that came with the handshake could be replayed.
    config.max_early_data_size = 0;
    Ok(config)
}

/// Whether a handshake on the HTTPS port is a connector's.
pub(crate) fn is_tunnel(hello: &ClientHello<'_>) -> bool {
    let tunnel_names = [names::HOST_H2, names::HOST_QUIC, names::HOST_PROBE];
    hello.server_name().is_some_and(|name| tunnel_names.iter().any(|known| name.eq_ignore_ascii_case(known)))
}
