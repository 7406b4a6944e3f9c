//! TLS towards origins: system roots, a rule's own authorities, or none at all.

use std::sync::{Arc, OnceLock};

use adit_http::trust::TrustPool;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::{Origin, OriginError};

/// The system's roots, read once: 150 certificates take 20 ms.
static SYSTEM: OnceLock<TrustPool> = OnceLock::new();

/// The configuration of a rule, made at its first use.
pub(super) fn config(origin: &Origin) -> Result<Arc<ClientConfig>, OriginError> {
    if let Some(config) = origin.tls.get() {
        return Ok(config.clone());
    }
    let config = Arc::new(build(origin)?);
    Ok(origin.tls.get_or_init(|| config).clone())
}

fn build(origin: &Origin) -> Result<ClientConfig, OriginError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| OriginError::Trust(error.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = match origin.settings.no_tls_verify {
        true => Arc::new(Unverified(provider)),
        false => trusted(origin)?.server_verifier(provider),
    };
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    let alpn: &[&[u8]] = if origin.settings.http2_origin { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// The system's roots and the certificates of the rule's `caPool`.
fn trusted(origin: &Origin) -> Result<TrustPool, OriginError> {
    let mut pool = SYSTEM.get_or_init(TrustPool::system).clone();
    if let Some(path) = &origin.settings.ca_pool {
        pool.add_file(path).map_err(OriginError::Trust)?;
    }
    Ok(pool)
}

/// `noTLSVerify`: the operator says that any certificate of this origin is good. Signatures are still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
