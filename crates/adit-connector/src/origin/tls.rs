//! TLS towards origins: system roots, a rule's own authorities, or none at all.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Origin, OriginError};

/// The system's roots, read once: 150 certificates take 20 ms.
static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();

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
    let mut config = if origin.settings.no_tls_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
            .with_no_client_auth()
    } else {
        builder.with_root_certificates(roots(origin)?).with_no_client_auth()
    };
    let alpn: &[&[u8]] = if origin.settings.http2_origin { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// The system's roots and the rule's own.
fn roots(origin: &Origin) -> Result<Arc<RootCertStore>, OriginError> {
    let system = SYSTEM.get_or_init(|| {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(store)
    });
    let Some(path) = &origin.settings.ca_pool else { return Ok(system.clone()) };
    let bad = |error: &dyn std::fmt::Display| OriginError::Trust(format!("{}: {error}", path.display()));
    let mut store = RootCertStore::clone(system);
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))? {
        store.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
    }
    Ok(Arc::new(store))
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
