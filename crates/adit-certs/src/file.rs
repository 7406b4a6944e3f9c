//! Certificates from files: read, checked, and put into a table by the names that they are good for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adit_policy::host::HostPattern;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate that is ready to be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The names that it is good for.
    pub names: Vec<HostPattern>,
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
    /// Beginning of its validity, in Unix seconds.
    pub not_before: i64,
    /// End of its validity, in Unix seconds.
    pub not_after: i64,
}

/// Why a certificate cannot be used. The others can.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Key and certificate belong to different pairs.
    #[error("{}: this key does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// Reads a certificate chain and its key. `now` is Unix time; an expired certificate is an error, because browsers
/// refuse it anyway and another one may be there.
///
/// # Errors
/// [`CertificateError`] names the file and what is wrong with it.
pub fn load(certificate: &Path, key: &Path, now: i64) -> Result<Loaded, CertificateError> {
    let content = |path: &Path, what: String| CertificateError::Content { path: path.to_owned(), what };
    let pem = read(certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| content(certificate, format!("not a PEM file: {error}")))?;
    let leaf = chain.first().ok_or_else(|| content(certificate, "no certificate in it".to_owned()))?;
    let (_, parsed) = X509Certificate::from_der(leaf)
        .map_err(|error| content(certificate, format!("not a certificate: {error}")))?;
    let (names, not_before, not_after) = check(&parsed, now).map_err(|what| content(certificate, what))?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| content(key, "no private key in it".to_owned()))?;
    let signing = any_supported_type(&private)
        .map_err(|_| content(key, "a kind of key that is not supported".to_owned()))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|_| CertificateError::Mismatch {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
    })?;
    Ok(Loaded { names, key: Arc::new(certified), not_before, not_after })
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}

fn check(certificate: &X509Certificate<'_>, now: i64) -> Result<(Vec<HostPattern>, i64, i64), String> {
    let validity = certificate.validity();
    if validity.not_after.timestamp() < now {
        return Err(format!("it expired on {}", validity.not_after));
    }
    if validity.not_before.timestamp() > now {
        return Err(format!("it is not valid before {}; is the clock right?", validity.not_before));
    }
    let names = names(certificate);
    if names.is_empty() {
        return Err("it names no host (subjectAltName)".to_owned());
    }
    Ok((names, validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn names(certificate: &X509Certificate<'_>) -> Vec<HostPattern> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => HostPattern::parse(name).ok(),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(dns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use time::{Duration, OffsetDateTime};

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new(from: i64, until: i64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let pair = KeyPair::generate().unwrap();
            let mut params =
                CertificateParams::new(vec!["a.example".to_owned(), "*.b.example".to_owned()]).unwrap();
            params.not_before = OffsetDateTime::now_utc() + Duration::days(from);
            params.not_after = OffsetDateTime::now_utc() + Duration::days(until);
            fs::write(folder.path().join("cert"), params.self_signed(&pair).unwrap().pem()).unwrap();
            fs::write(folder.path().join("key"), pair.serialize_pem()).unwrap();
            Self { folder }
        }

        fn load(&self) -> Result<Loaded, String> {
            let now = OffsetDateTime::now_utc().unix_timestamp();
            load(&self.folder.path().join("cert"), &self.folder.path().join("key"), now)
                .map_err(|error| error.to_string())
        }
    }

    #[test]
    fn a_good_certificate_gives_its_names() {
        let names = Files::new(-1, 1).load().unwrap().names;
        assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a.example", "*.b.example"]);
    }

    #[test]
    fn bad_certificates_say_what_is_wrong() {
        assert!(Files::new(-9, -1).load().unwrap_err().contains("expired"));
        assert!(Files::new(1, 9).load().unwrap_err().contains("not valid before"));
        let other_key = Files::new(-1, 1);
        fs::write(other_key.folder.path().join("key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(other_key.load().unwrap_err().contains("does not belong"));
        for file in ["cert", "key"] {
            let broken = Files::new(-1, 1);
            fs::write(broken.folder.path().join(file), "nonsense").unwrap();
            assert!(broken.load().unwrap_err().contains(file));
            fs::remove_file(broken.folder.path().join(file)).unwrap();
            assert!(broken.load().unwrap_err().contains(file));
        }
    }
}
