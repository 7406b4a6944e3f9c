//! TLS settings of the tunnel: what cloudflared expects, and nothing older than TLS 1.3.
//!
//! Key exchange is the provider's default with X25519MLKEM768 first. cloudflared never offers plain X25519, so P-256
//! stays in the list (tunnel-protocol: "TLS").

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ServerConfig};

/// ALPN of the QUIC tunnel; mandatory on QUIC, absent on TCP.
pub const ALPN_TUNNEL: &[u8] = b"argotunnel";

/// The edge's two TLS configurations for tunnels.
#[derive(Clone, Debug)]
pub struct EdgeTls {
    /// For QUIC: ALPN `argotunnel`.
    pub quic: Arc<ServerConfig>,
    /// For TCP: no ALPN.
    pub tcp: Arc<ServerConfig>,
}

/// Builds the edge's configurations from a certificate for the tunnel names.
///
/// # Errors
/// When key and certificate do not fit together.
pub fn edge(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<EdgeTls, rustls::Error> {
    let mut tcp = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tcp.max_early_data_size = 0;
    let mut quic = tcp.clone();
    quic.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
    Ok(EdgeTls { quic: Arc::new(quic), tcp: Arc::new(tcp) })
}

/// The connector's two TLS configurations.
#[derive(Clone, Debug)]
pub struct ConnectorTls {
    /// For QUIC: ALPN `argotunnel`.
    pub quic: Arc<ClientConfig>,
    /// For TCP: no ALPN.
    pub tcp: Arc<ClientConfig>,
}

/// Builds the connector's configurations; `verifier` makes from the provider who decides about edges' certificates.
/// `post_quantum` leaves no other key exchange (cloudflared's `--post-quantum`).
///
/// # Errors
/// When the provider lacks TLS 1.3, which ours does not.
pub fn connector(
    verifier: impl FnOnce(Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier>,
    post_quantum: bool,
) -> Result<ConnectorTls, rustls::Error> {
    let mut provider = aws_lc_rs::default_provider();
    if post_quantum {
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    }
    let provider = Arc::new(provider);
    let tcp = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier(provider))
        .with_no_client_auth();
    let mut quic = tcp.clone();
    quic.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
    Ok(ConnectorTls { quic: Arc::new(quic), tcp: Arc::new(tcp) })
}
