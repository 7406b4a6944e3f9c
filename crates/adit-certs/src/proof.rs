//! Proofs of ownership, as an authority asks for them.

use std::sync::Arc;

use adit_config::edge::Challenge;
use futures_util::future::BoxFuture;
use instant_acme::{ChallengeType, KeyAuthorization};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::order::OrderError;

/// What is to be shown.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A file on port 80, by the last part of its path.
    File {
        /// Its name.
        name: String,
        /// Its content.
        content: String,
    },
    /// A certificate in a handshake.
    Handshake {
        /// The name that is asked for.
        name: String,
        /// The certificate.
        key: Arc<CertifiedKey>,
    },
    /// A TXT record.
    Record {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

/// Shows proofs, and takes them away.
pub trait Prover: Send + Sync {
    /// Shows a proof, and returns once it can be seen.
    fn show<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, Result<(), String>>;

    /// Takes it away.
    fn hide<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, ()>;
}

/// What ACME calls a challenge.
pub(crate) fn kind(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Dns01 => ChallengeType::Dns01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Http01 => ChallengeType::Http01,
    }
}

impl Proof {
    pub(crate) fn of(
        challenge: Challenge,
        name: &str,
        token: &str,
        authorization: &KeyAuthorization,
    ) -> Result<Self, OrderError> {
        Ok(match challenge {
            Challenge::Http01 => {
                Self::File { name: token.to_owned(), content: authorization.as_str().to_owned() }
            }
            Challenge::TlsAlpn01 => Self::Handshake {
                name: name.to_owned(),
                key: handshake(name, authorization.digest().as_ref())?,
            },
            Challenge::Dns01 => {
                Self::Record { name: format!("_acme-challenge.{name}"), value: authorization.dns_value() }
            }
        })
    }
}

/// A certificate for the name with the digest in it (RFC 8737, section 3).
fn handshake(name: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, OrderError> {
    let failed = |error: rcgen::Error| OrderError::Local(format!("the proof cannot be made: {error}"));
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let pair = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&pair).map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let key = any_supported_type(&key).map_err(|error| OrderError::Local(error.to_string()))?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}
