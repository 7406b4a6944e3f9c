//! TLS towards visitors: certificates by SNI, and what each handshake is for.
//!
//! A name without a certificate gets no handshake: there is no default certificate that would tell a stranger what else
//! lives here.

mod client_certificate;
mod failure;
mod hosts;
mod identity;
mod table;

use std::collections::HashMap;
use std::sync::Arc;

use adit_policy::host::Hostname;
use adit_policy::host_policy::HostPolicies;
use adit_tunnel::tls::ALPN_TUNNEL;
use adit_wire::names;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub(crate) use client_certificate::{ChainVerifier, Shown};
pub(crate) use failure::HandshakeFailure;
use hosts::{Handshake, Handshakes};
pub(crate) use identity::Identity;
pub use table::CertTable;

/// ALPN of HTTP/3 (RFC 9114, section 3.1).
pub(crate) const ALPN_H3: &[u8] = b"h3";
/// ALPN of a proof of ownership (RFC 8737, section 3).
const ALPN_PROOF: &[u8] = b"acme-tls/1";

/// What somebody else asks for as a proof that a name is served here: a certificate that is shown once, or a file. The
/// data plane shows what it is given and does not know why.
#[derive(Debug, Default)]
pub struct Proofs {
    /// Certificates by name.
    pub certificates: HashMap<String, Arc<CertifiedKey>>,
    /// Contents by the last part of their path.
    pub files: HashMap<String, String>,
}

/// Everything that handshakes are made from.
#[derive(Debug)]
pub struct Tls {
    certificates: Arc<Certificates>,
    usual: Arc<ServerConfig>,
    proof: Arc<ServerConfig>,
}

/// What a handshake can be answered with, by name.
#[derive(Debug)]
struct Certificates {
    table: ArcSwap<CertTable>,
    proofs: ArcSwap<Proofs>,
    hosts: ArcSwap<Handshakes>,
}

/// What a handshake on the HTTPS port is for.
pub(crate) enum Purpose {
    /// A connector's.
    Tunnel,
    /// A visitor's, to be answered with this. The verifier judges the certificate that the visitor shows.
    Visitor(Arc<ServerConfig>, Option<ChainVerifier>),
    /// Somebody asks for a proof.
    Proof(Arc<ServerConfig>),
    /// Somebody at home ends TLS.
    Passthrough(Hostname),
    /// Nobody's.
    Refused,
}

impl Tls {
    /// With these certificates, and nothing special about any name yet.
    ///
    /// # Errors
    /// When the provider lacks a protocol version or a ticket key cannot be made.
    pub fn new(table: CertTable, policies: &HostPolicies) -> Result<Self, rustls::Error> {
        let certificates = Arc::new(Certificates {
            table: ArcSwap::from_pointee(table),
            proofs: ArcSwap::default(),
            hosts: ArcSwap::default(),
        });
        let nobody = rustls::server::WebPkiClientVerifier::no_client_auth;
        let usual = Arc::new(server_config(nobody(), certificates.clone())?);
        let mut proof = server_config(nobody(), Arc::new(ProofResolver(certificates.clone())))?;
        proof.alpn_protocols = vec![ALPN_PROOF.to_vec()];
        let tls = Self { certificates, usual, proof: Arc::new(proof) };
        tls.set_policies(policies);
        Ok(tls)
    }

    /// Puts other certificates in force, for handshakes from now on.
    pub fn set_certificates(&self, table: CertTable) {
        self.certificates.table.store(Arc::new(table));
    }

    /// Shows other proofs from now on.
    pub fn set_proofs(&self, proofs: Proofs) {
        self.certificates.proofs.store(Arc::new(proofs));
    }

    /// Puts other policies in force, for handshakes from now on.
    pub(crate) fn set_policies(&self, policies: &HostPolicies) {
        let handshakes = hosts::handshakes(policies, &self.certificates);
        self.certificates.hosts.store(Arc::new(handshakes));
    }

    /// Whether a name has a certificate.
    #[must_use]
    pub fn has_certificate(&self, name: &str) -> bool {
        self.certificates.table.load().has(name)
    }

    /// The content of a proof's file.
    pub(crate) fn proof_file(&self, name: &str) -> Option<String> {
        self.certificates.proofs.load().files.get(name).cloned()
    }

    /// What a handshake is for.
    pub(crate) fn purpose(&self, hello: &ClientHello<'_>) -> Purpose {
        let Some(name) = hello.server_name() else { return Purpose::Visitor(self.usual.clone(), None) };
        if is_tunnel(name) {
            return Purpose::Tunnel;
        }
        let name = normal_name(name);
        let proves = hello.alpn().is_some_and(|mut offered| offered.any(|alpn| alpn == ALPN_PROOF));
        match self.certificates.hosts.load().find(&name) {
            Some(Handshake::Passthrough) => {
                Hostname::parse(&name).map_or(Purpose::Refused, Purpose::Passthrough)
            }
            _ if proves => Purpose::Proof(self.proof.clone()),
            Some(Handshake::WithClient(config, verifier)) => {
                Purpose::Visitor(config.clone(), Some(verifier.clone()))
            }
            Some(Handshake::Refused) => Purpose::Refused,
            Some(Handshake::Usual) | None => Purpose::Visitor(self.usual.clone(), None),
        }
    }

    /// The configuration of the UDP port beside HTTPS: HTTP/3 for visitors and QUIC for tunnels, by ALPN.
    pub(crate) fn quic(&self, tunnel: &ServerConfig) -> Result<ServerConfig, rustls::Error> {
        let by_protocol =
            ByProtocol { visitors: self.certificates.clone(), tunnels: tunnel.cert_resolver.clone() };
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(by_protocol));
        config.alpn_protocols = vec![ALPN_H3.to_vec(), ALPN_TUNNEL.to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        config.max_early_data_size = 0;
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.table.load().resolve(&hello)
    }
}

/// Shows proofs, and nothing else.
#[derive(Debug)]
struct ProofResolver(Arc<Certificates>);

impl ResolvesServerCert for ProofResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = normal_name(hello.server_name()?);
        self.0.proofs.load().certificates.get(&name).cloned()
    }
}

/// Tunnels and visitors on one UDP port. A name whose visitors show certificates has no HTTP/3: on QUIC that cannot be
/// asked by name, and what is not checked is not served.
#[derive(Debug)]
struct ByProtocol {
    visitors: Arc<Certificates>,
    tunnels: Arc<dyn ResolvesServerCert>,
}

impl ResolvesServerCert for ByProtocol {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.alpn()?.any(|alpn| alpn == ALPN_TUNNEL) {
            return self.tunnels.resolve(hello);
        }
        let name = normal_name(hello.server_name()?);
        match self.visitors.hosts.load().find(&name) {
            Some(Handshake::Usual) | None => self.visitors.resolve(hello),
            Some(_) => None,
        }
    }
}

fn server_config(
    verifier: Arc<dyn ClientCertVerifier>,
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Rotated by the library; resumption costs a fifth of a handshake. Each configuration has keys of its own, so that
    // no ticket leads past the certificate that another one asks for.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    // A request that came with the handshake could be replayed.
    config.max_early_data_size = 0;
    Ok(config)
}

/// A server name in the one form that names are compared in: lower-case, without the dot that ends an absolute name.
pub(crate) fn normal_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether a handshake is for a name of connectors.
fn is_tunnel(name: &str) -> bool {
    let tunnel_names = [names::HOST_H2, names::HOST_QUIC, names::HOST_PROBE];
    tunnel_names.iter().any(|known| name.eq_ignore_ascii_case(known))
}
