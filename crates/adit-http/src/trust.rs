//! Whom TLS believes: certificate authorities, and certificates that are trusted as themselves.
//!
//! A certificate that stands in a file of trusted certificates is trusted when the peer presents exactly that certificate,
//! as in Go (`crypto/x509`, `Certificate.Verify`). `openssl req -x509` makes certificates that are their own authority; the
//! library alone refuses those as `CaUsedAsEndEntity`.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Certificate authorities, and the certificates that were named one by one.
#[derive(Clone, Debug)]
pub struct TrustPool {
    roots: RootCertStore,
    /// Certificates that are trusted as themselves.
    named: Vec<CertificateDer<'static>>,
}

impl Default for TrustPool {
    /// A pool that trusts nobody.
    fn default() -> Self {
        Self { roots: RootCertStore::empty(), named: Vec::new() }
    }
}

impl TrustPool {
    /// The certificate authorities of the operating system; those that cannot be parsed are left out.
    #[must_use]
    pub fn system() -> Self {
        let mut pool = Self::default();
        pool.roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        pool
    }

    /// Adds the certificates of a PEM file.
    ///
    /// # Errors
    /// The path and the cause, when the file cannot be read, holds no certificate, or one that cannot be parsed.
    pub fn add_file(&mut self, path: &Path) -> Result<(), String> {
        let bad = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let before = self.named.len();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))? {
            let certificate = certificate.map_err(|error| bad(&error))?;
            self.add(certificate).map_err(|error| bad(&error))?;
        }
        if self.named.len() == before { Err(bad(&"the file holds no certificate")) } else { Ok(()) }
    }

    /// Adds one certificate.
    ///
    /// # Errors
    /// When it cannot be parsed.
    pub fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), Error> {
        self.roots.add(certificate.clone())?;
        self.named.push(certificate);
        Ok(())
    }

    /// The verifier of servers' certificates.
    #[must_use]
    pub fn server_verifier(self, provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
        Arc::new(ServerTrust { pool: self, provider })
    }

    /// The verifier of clients' certificates; `required` refuses clients without one.
    ///
    /// # Errors
    /// When the pool is empty.
    pub fn client_verifier(
        self,
        provider: Arc<CryptoProvider>,
        required: bool,
    ) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots), provider);
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        Ok(Arc::new(ClientTrust { named: self.named, authorities: builder.build()? }))
    }

    fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        self.named.iter().any(|named| named == certificate)
    }
}

/// What a certificate is presented for.
#[derive(Clone, Copy)]
enum Purpose {
    Server,
    Client,
}

impl Purpose {
    fn is_in(self, usage: &ExtendedKeyUsage<'_>) -> bool {
        usage.any
            || match self {
                Self::Server => usage.server_auth,
                Self::Client => usage.client_auth,
            }
    }
}

/// Checks a certificate that is trusted as itself: its validity, and its extended key usage if it has one (RFC 5280,
/// sections 4.1.2.5 and 4.2.1.12).
fn check_named(certificate: &CertificateDer<'_>, purpose: Purpose, now: UnixTime) -> Result<(), Error> {
    let bad = || Error::from(CertificateError::BadEncoding);
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| bad())?;
    let now = i64::try_from(now.as_secs()).map_err(|_| bad())?;
    if now < parsed.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    let usage = parsed.extended_key_usage().map_err(|_| bad())?;
    if usage.is_some_and(|usage| !purpose.is_in(usage.value)) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    Ok(())
}

#[derive(Debug)]
struct ServerTrust {
    pool: TrustPool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerTrust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        if self.pool.names(end_entity) {
            check_named(end_entity, Purpose::Server, now)?;
        } else {
            let algorithms = self.provider.signature_verification_algorithms.all;
            let roots = &self.pool.roots;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        }
        verify_server_name(&parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct ClientTrust {
    named: Vec<CertificateDer<'static>>,
    authorities: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for ClientTrust {
    fn client_auth_mandatory(&self) -> bool {
        self.authorities.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !self.named.iter().any(|named| named == end_entity) {
            return self.authorities.verify_client_cert(end_entity, intermediates, now);
        }
        check_named(end_entity, Purpose::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        date_time_ymd,
    };
    use rustls::crypto::aws_lc_rs;

    use super::*;

    /// Parameters as `openssl req -x509 -addext subjectAltName=DNS:nas.example,IP:192.0.2.7` chooses them.
    fn openssl_x509() -> CertificateParams {
        let names = vec!["nas.example".to_owned(), "192.0.2.7".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2035, 1, 1));
        params
    }

    fn own(params: CertificateParams) -> CertificateDer<'static> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn in_year(year: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600))
    }

    fn pool(certificates: &[&CertificateDer<'static>]) -> TrustPool {
        let mut pool = TrustPool::default();
        certificates.iter().for_each(|certificate| pool.add((*certificate).clone()).unwrap());
        pool
    }

    fn server(pool: TrustPool, certificate: &CertificateDer<'_>, name: &str, year: u64) -> Result<(), Error> {
        let verifier = pool.server_verifier(Arc::new(aws_lc_rs::default_provider()));
        let Ok(name) = ServerName::try_from(name.to_owned()) else {
            return Err(Error::General(name.to_owned()));
        };
        verifier.verify_server_cert(certificate, &[], &name, &[], in_year(year)).map(drop)
    }

    #[test]
    fn a_certificate_in_the_pool_is_trusted_as_itself_within_its_name_and_time() {
        let nas = own(openssl_x509());
        for (name, year, good) in [
            ("nas.example", 2026, true),
            ("192.0.2.7", 2026, true),
            ("other.example", 2026, false),
            ("192.0.2.8", 2026, false),
            ("nas.example", 2036, false),
            ("nas.example", 2024, false),
        ] {
            let outcome = server(pool(&[&nas]), &nas, name, year);
            assert_eq!(outcome.is_ok(), good, "{name} {year}: {outcome:?}");
        }
    }

    #[test]
    fn only_that_very_certificate_is_trusted_as_itself() {
        let (nas, same_names) = (own(openssl_x509()), own(openssl_x509()));
        assert!(server(pool(&[&nas]), &same_names, "nas.example", 2026).is_err());
        assert!(server(TrustPool::default(), &nas, "nas.example", 2026).is_err());
        assert!(server(pool(&[&same_names, &nas]), &nas, "nas.example", 2026).is_ok());
    }

    #[test]
    fn a_named_certificate_needs_no_authority_and_an_authority_still_signs_for_others() {
        let mut params = openssl_x509();
        params.subject_alt_names.clear();
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = openssl_x509();
        params.is_ca = IsCa::NoCa;
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &authority).unwrap().der().clone();
        let signer = authority.der().clone();
        assert!(server(pool(&[&leaf]), &leaf, "nas.example", 2026).is_ok(), "named without its authority");
        assert!(server(pool(&[&signer]), &leaf, "nas.example", 2026).is_ok(), "by its authority");
        assert!(server(pool(&[&own(openssl_x509())]), &leaf, "nas.example", 2026).is_err());
    }

    #[test]
    fn a_named_certificate_is_good_for_its_purpose_only() {
        for (usage, for_server, for_client) in [
            (vec![], true, true),
            (vec![ExtendedKeyUsagePurpose::ServerAuth], true, false),
            (vec![ExtendedKeyUsagePurpose::ClientAuth], false, true),
            (vec![ExtendedKeyUsagePurpose::Any], true, true),
            (vec![ExtendedKeyUsagePurpose::CodeSigning], false, false),
        ] {
            let mut params = openssl_x509();
            params.extended_key_usages.clone_from(&usage);
            let certificate = own(params);
            let as_server = server(pool(&[&certificate]), &certificate, "nas.example", 2026);
            assert_eq!(as_server.is_ok(), for_server, "{usage:?}: {as_server:?}");
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier = pool(&[&certificate]).client_verifier(provider, true).unwrap();
            let as_client = verifier.verify_client_cert(&certificate, &[], in_year(2026));
            assert_eq!(as_client.is_ok(), for_client, "{usage:?}: {as_client:?}");
            assert!(verifier.verify_client_cert(&certificate, &[], in_year(2036)).is_err());
        }
    }
}
