//! Client certificates are judged after the handshake: a visitor whose certificate is missing or wrong is told so in an
//! HTTP response, where a refused handshake would be a dead connection.
//!
//! The handshake itself proves only that the visitor holds the certificate's key. The chain is verified once the
//! handshake is over, in resumed sessions too, and `route` lets nobody pass without.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::Identity;

/// Verifies the chains of client certificates for a name.
#[derive(Clone, Debug)]
pub(crate) struct ChainVerifier(Arc<dyn ClientCertVerifier>);

/// What a visitor's certificate proves.
#[derive(Debug, Default)]
pub(crate) enum Shown {
    /// No certificate was asked for, or none was shown.
    #[default]
    Nothing,
    /// A certificate of an authority that the name trusts.
    Valid(Identity),
    /// A certificate that does not pass, with the cause.
    Invalid(&'static str),
}

impl ChainVerifier {
    pub(super) fn new(verifier: Arc<dyn ClientCertVerifier>) -> Self {
        Self(verifier)
    }

    /// The verifier for the handshake, which asks for a certificate and takes any.
    pub(super) fn for_handshake(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(AnyChain(self.0.clone()))
    }

    /// Judges the chain that a visitor showed, the visitor's own certificate first.
    pub(crate) fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Shown {
        let Some((end_entity, intermediates)) = chain.split_first() else { return Shown::Nothing };
        match self.0.verify_client_cert(end_entity, intermediates, now) {
            Ok(_) => Identity::of(end_entity).map_or(Shown::Invalid("unreadable"), Shown::Valid),
            Err(Error::InvalidCertificate(error)) => Shown::Invalid(cause(&error)),
            Err(_) => Shown::Invalid("invalid"),
        }
    }
}

/// The cause as the stable word of logs.
fn cause(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "not_valid_yet",
        CertificateError::UnknownIssuer => "unknown_issuer",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => "wrong_purpose",
        CertificateError::BadSignature => "bad_signature",
        CertificateError::BadEncoding => "unreadable",
        _ => "invalid",
    }
}

/// Asks for a certificate and checks that the visitor holds its key, and leaves the chain for later.
#[derive(Debug)]
struct AnyChain(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AnyChain {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
