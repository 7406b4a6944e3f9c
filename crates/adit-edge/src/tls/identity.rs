//! Who a visitor is by the certificate that he showed, as fields for the origin.

use adit_http::forwarded::{
    CLIENT_CERT, X_FORWARDED_CLIENT_CERT_FINGERPRINT, X_FORWARDED_CLIENT_CERT_SUBJECT,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderValue};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::hash::HashAlgorithm;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate that was checked, ready to be told.
#[derive(Debug)]
pub(crate) struct Identity {
    /// As RFC 9440 writes it.
    certificate: HeaderValue,
    /// Its subject, as `CN=…,O=…`.
    subject: HeaderValue,
    /// SHA-256 of it, in hexadecimal.
    fingerprint: HeaderValue,
}

impl Identity {
    /// What no other certificate has.
    pub(crate) fn fingerprint(&self) -> &[u8] {
        self.fingerprint.as_bytes()
    }

    /// `None` for what cannot be told; the check has passed, so that is hardly ever.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        // A name may hold anything; a field may not.
        let subject: String = parsed
            .subject()
            .to_string()
            .chars()
            .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
            .collect();
        Some(Self {
            certificate: HeaderValue::try_from(format!(":{}:", STANDARD.encode(certificate))).ok()?,
            subject: HeaderValue::try_from(subject).ok()?,
            fingerprint: HeaderValue::try_from(sha256(certificate)?).ok()?,
        })
    }

    /// Tells the origin.
    pub(crate) fn set(&self, headers: &mut HeaderMap) {
        headers.insert(CLIENT_CERT, self.certificate.clone());
        headers.insert(X_FORWARDED_CLIENT_CERT_SUBJECT, self.subject.clone());
        headers.insert(X_FORWARDED_CLIENT_CERT_FINGERPRINT, self.fingerprint.clone());
    }
}

fn sha256(bytes: &[u8]) -> Option<String> {
    let provider = default_provider();
    let suites = provider.cipher_suites.iter().filter_map(|suite| suite.tls13());
    let hash = suites
        .map(|suite| suite.common.hash_provider)
        .find(|hash| hash.algorithm() == HashAlgorithm::SHA256)?;
    Some(hash.hash(bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}
