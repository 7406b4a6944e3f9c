//! The edge's own certificate authority. Connectors trust it (`--cacert`); browsers do not.
//!
//! It signs the certificate of the tunnel listener, and, where no real certificate is configured, one for each granted
//! name. The key stays in the data folder; leaf keys live in memory and are made anew at each start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adit_policy::host::Hostname;
use adit_wire::names::{HOST_H2, HOST_PROBE, HOST_QUIC};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime};

use crate::files::{self, Access};

/// File of the authority's certificate, in the data folder. Connectors get a copy.
pub const CERTIFICATE_FILE: &str = "tunnel-ca.pem";
const KEY_FILE: &str = "tunnel-ca-key.pem";

/// Ten years: connectors have it pinned.
const AUTHORITY_DAYS: i64 = 3650;
/// One year: made anew at each start, and by the renewal well before its end.
const LEAF_DAYS: i64 = 365;

/// The authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A leaf certificate and its key.
#[derive(Debug)]
pub struct Leaf {
    /// The chain: the leaf alone, since its issuer is pinned.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

/// The authority cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A file of it cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of it makes no sense. To start again, remove both: connectors then need the new certificate.
    #[error("{}: not the certificate authority that was written there: {source}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

impl Authority {
    /// Opens the authority of a data folder; makes it when there is none.
    ///
    /// # Errors
    /// [`AuthorityError`] names the file.
    pub fn open(data_dir: &Path) -> Result<Self, AuthorityError> {
        let (certificate, key) = (data_dir.join(CERTIFICATE_FILE), data_dir.join(KEY_FILE));
        if !key.exists() {
            return Self::make(&certificate, &key);
        }
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| AuthorityError::File { path: path.to_owned(), source })
        };
        let broken = |path: &Path| {
            let path = path.to_owned();
            move |source| AuthorityError::Broken { path, source }
        };
        let pair = KeyPair::from_pem(&read(&key)?).map_err(broken(&key))?;
        let pem = read(&certificate)?;
        let issuer = Issuer::from_ca_cert_pem(&pem, pair).map_err(broken(&certificate))?;
        Ok(Self { issuer, pem })
    }

    fn make(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let pair = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = name("Adit edge authority");
        (params.not_before, params.not_after) = validity(AUTHORITY_DAYS);
        let pem = params.self_signed(&pair)?.pem();
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| AuthorityError::File { path, source }
        };
        files::write(key, pair.serialize_pem().as_bytes(), Access::Owner).map_err(file(key))?;
        files::write(certificate, pem.as_bytes(), Access::Everybody).map_err(file(certificate))?;
        Ok(Self { issuer: Issuer::new(params, pair), pem })
    }

    /// The authority's certificate, for connectors and `curl --cacert`.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for the tunnel listener: the names that connectors ask for, and the edge's own.
    ///
    /// # Errors
    /// When signing fails.
    pub fn tunnel_leaf(&self, domain: &Hostname) -> Result<Leaf, AuthorityError> {
        let names = [HOST_QUIC, HOST_H2, HOST_PROBE, domain.as_str()];
        self.leaf(names.iter().map(|name| (*name).to_owned()).collect())
    }

    /// A certificate for names that visitors use. Addresses are allowed.
    ///
    /// # Errors
    /// When signing fails.
    pub fn visitor_key(&self, names: Vec<String>) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let leaf = self.leaf(names)?;
        let key = any_supported_type(&leaf.key).map_err(|_| rcgen::Error::UnsupportedSignatureAlgorithm)?;
        Ok(Arc::new(CertifiedKey::new(leaf.chain, key)))
    }

    fn leaf(&self, names: Vec<String>) -> Result<Leaf, AuthorityError> {
        let pair = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = name("Adit edge");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = validity(LEAF_DAYS);
        let certificate = params.signed_by(&pair, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(pair.serialize_der());
        Ok(Leaf { chain: vec![certificate.der().clone()], key: key.into() })
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// From a day ago, for clocks that are behind.
fn validity(days: i64) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - Duration::days(1), now + Duration::days(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_survives_a_restart_and_signs() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path()).unwrap();
        let second = Authority::open(folder.path()).unwrap();
        assert_eq!(first.pem(), second.pem());
        let leaf = second.tunnel_leaf(&Hostname::parse("edge.example").unwrap()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf.chain[0]).unwrap();
        let names = format!("{:?}", parsed.subject_alternative_name().unwrap());
        for name in [HOST_QUIC, HOST_H2, HOST_PROBE, "edge.example"] {
            assert!(names.contains(name), "{name}");
        }
        assert_eq!(parsed.issuer().to_string(), "CN=Adit edge authority");
    }

    #[test]
    fn a_broken_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        Authority::open(folder.path()).unwrap();
        fs::write(folder.path().join(KEY_FILE), "nonsense").unwrap();
        let error = Authority::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(KEY_FILE), "{error}");
    }
}
