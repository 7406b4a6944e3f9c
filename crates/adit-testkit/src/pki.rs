//! Certificate authorities of tests, and what they sign, as files.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PublicKeyData as _,
};
use rustls::crypto::hash::HashAlgorithm;
use tempfile::TempDir;

/// An authority with a folder of its own.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate in PEM.
    pub certificate: PathBuf,
    /// Its key in PEM.
    pub key: PathBuf,
    /// SHA-256 of its public key, in base64, as browsers are told to trust it.
    pub fingerprint: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::with_prefix("adit-pki-").unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// Its own certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for a server's names.
    #[must_use]
    pub fn server(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, KeyPair::generate().unwrap())
    }

    /// The same with an RSA key.
    #[must_use]
    pub fn server_rsa(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        self.sign(CertificateParams::new(names).unwrap(), key)
    }

    /// A server's certificate that is its own authority, with `CA:TRUE`, as `openssl req -x509` makes it.
    #[must_use]
    pub fn self_signed(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        self.write(&certificate, &key)
    }

    /// A certificate for a visitor.
    #[must_use]
    pub fn client(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, KeyPair::generate().unwrap())
    }

    /// A certificate for a visitor that ended years ago.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn expired_client(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
        self.sign(params, KeyPair::generate().unwrap())
    }

    fn sign(&self, params: CertificateParams, key: KeyPair) -> Pair {
        self.write(&params.signed_by(&key, &self.issuer).unwrap().pem(), &key)
    }

    fn write(&self, certificate: &str, key: &KeyPair) -> Pair {
        let number = fs::read_dir(self.folder.path()).unwrap().count();
        let file = |end: &str| self.folder.path().join(format!("{number}.{end}"));
        let fingerprint = STANDARD.encode(sha256(&key.subject_public_key_info()));
        let pair = Pair { certificate: file("pem"), key: file("key"), fingerprint };
        fs::write(&pair.certificate, certificate).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let suites = provider.cipher_suites.iter().filter_map(|suite| suite.tls13());
    let mut hashes = suites.map(|suite| suite.common.hash_provider);
    let hash = hashes.find(|hash| hash.algorithm() == HashAlgorithm::SHA256).unwrap();
    hash.hash(bytes).as_ref().to_vec()
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
