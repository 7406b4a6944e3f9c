//! Tokens that a rule wants (`originRequest.access`): JWT of a known issuer, for a known audience, in time.
//!
//! The edge may be anybody's: a token that is checked here was not made there.

mod keys;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use adit_policy::ingress::Access;
use adit_wire::fields::Fields;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use keys::Keys;

/// Signatures with a public key. A shared secret would let whoever checks a token make one.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Issuers that a connector knows. More than this are forgotten: rules may change for years.
const ISSUERS_MAX: usize = 64;

/// Why a request may not pass.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    /// There is none.
    #[error("no token in `{0}`")]
    NoToken(String),
    /// It is not good.
    #[error("the token is not good: {0}")]
    BadToken(String),
    /// Nothing can be said of it.
    #[error("the keys of {issuer} are not to be had: {cause}")]
    NoKeys {
        /// Whose.
        issuer: String,
        /// Why.
        cause: String,
    },
}

/// The issuers, with their keys.
#[derive(Debug, Default)]
pub(crate) struct Issuers(Mutex<HashMap<String, Arc<Keys>>>);

impl Issuers {
    fn of(&self, access: &Access) -> Arc<Keys> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = access.keys_url().unwrap_or_else(|| access.issuer());
        if known.len() >= ISSUERS_MAX && !known.contains_key(&name) {
            known.clear();
        }
        known.entry(name).or_default().clone()
    }

    /// Checks the token of a request.
    ///
    /// # Errors
    /// [`Denied`] says why it may not pass.
    pub(crate) async fn check(&self, access: &Access, fields: &Fields) -> Result<(), Denied> {
        let value = fields.get(access.header()).unwrap_or_default();
        let token = access.token(value).ok_or_else(|| Denied::NoToken(access.header().to_owned()))?;
        let head = decode_header(token).map_err(|error| bad(&error))?;
        if !ALGORITHMS.contains(&head.alg) {
            return Err(Denied::BadToken(format!("{:?} is no signature with a public key", head.alg)));
        }
        let unreachable = |cause| Denied::NoKeys { issuer: access.issuer(), cause };
        let key = self.of(access).find(access, head.kid.as_deref()).await.map_err(unreachable)?;
        let key = key.ok_or_else(|| Denied::BadToken("the issuer has no such key".to_owned()))?;
        let key = DecodingKey::from_jwk(&key).map_err(|error| bad(&error))?;
        decode::<Claims>(token, &key, &validation(access, head.alg)).map(drop).map_err(|error| bad(&error))
    }
}

/// Only what the library needs; it checks issuer, audience and times by itself.
#[derive(Clone, Deserialize)]
struct Claims {}

fn validation(access: &Access, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[access.issuer()]);
    validation.set_audience(&access.aud_tag);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.validate_nbf = true;
    validation
}

/// The reason in words; the token itself is a secret.
fn bad(error: &jsonwebtoken::errors::Error) -> Denied {
    Denied::BadToken(match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired".to_owned(),
        ErrorKind::ImmatureSignature => "it is not valid yet".to_owned(),
        ErrorKind::InvalidIssuer => "another issuer made it".to_owned(),
        ErrorKind::InvalidAudience => "it is for another audience".to_owned(),
        ErrorKind::InvalidSignature => "its signature is wrong".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("it has no `{claim}`"),
        _ => "it is malformed, or does not fit its key".to_owned(),
    })
}
