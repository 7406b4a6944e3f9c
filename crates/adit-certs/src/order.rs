//! One order, from the names to the certificate.

use std::time::Duration;

use adit_config::edge::Challenge;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, Error, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::proof::{Proof, Prover, kind};

/// Time for a whole order.
const TIME: Duration = Duration::from_secs(300);
/// How often an order is begun that fails for a nonce alone; the library tries each request three times.
const NONCE_ATTEMPTS: usize = 4;
/// How an authority is asked whether it is done.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// A name, or `*.parent`.
    pub name: &'a str,
    /// How it may be proven, the preferred way first.
    pub challenges: &'a [Challenge],
    /// The kind of key.
    pub key: KeyKind,
    /// The certificate that is to be replaced, where this authority gave it.
    pub replaces: Option<&'a CertificateDer<'static>>,
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// ECDSA with P-256.
    Ecdsa,
    /// RSA with 2048 bits.
    Rsa,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The authority was asked too often.
    #[error("the authority says that it was asked too often: {0}")]
    RateLimited(String),
    /// The authority has forgotten a nonce again and again; nothing is wrong with the order.
    #[error("the authority refuses nonces: {0}")]
    BadNonce(String),
    /// The authority does not know the account any more.
    #[error("the authority does not know the account: {0}")]
    NoAccount(String),
    /// The authority refused, or made no sense, or was not reached.
    #[error("{0}")]
    Authority(String),
    /// The authority did not accept the proof.
    #[error("`{name}` was not proven by {challenge}: {reason}")]
    NotProven {
        /// The name.
        name: String,
        /// The way.
        challenge: String,
        /// The authority's words.
        reason: String,
    },
    /// The authority offers no way of proof that is set up here.
    #[error("the authority offers no challenge for `{0}` that is set up here; a wildcard needs `dns`")]
    NoChallenge(String),
    /// The proof could not be shown.
    #[error("the proof cannot be shown: {0}")]
    NotShown(String),
    /// It took too long.
    #[error("the order was not done in {} s", TIME.as_secs())]
    TimedOut,
    /// Something at this end.
    #[error("{0}")]
    Local(String),
}

impl From<Error> for OrderError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let kind = match &error {
            Error::Api(problem) => problem.r#type.as_deref().unwrap_or_default(),
            _ => "",
        };
        match kind.rsplit(':').next() {
            Some("rateLimited") => Self::RateLimited(text),
            Some("badNonce") => Self::BadNonce(text),
            Some("accountDoesNotExist") => Self::NoAccount(text),
            _ => Self::Authority(text),
        }
    }
}

pub(crate) async fn order(
    account: &Account,
    profile: Option<&str>,
    wanted: &Wanted<'_>,
    prover: &dyn Prover,
) -> Result<Zeroizing<String>, OrderError> {
    let ordering = async {
        for _ in 1..NONCE_ATTEMPTS {
            match once(account, profile, wanted, prover).await {
                Err(OrderError::BadNonce(_)) => {}
                ordered => return ordered,
            }
        }
        once(account, profile, wanted, prover).await
    };
    timeout(TIME, ordering).await.unwrap_or(Err(OrderError::TimedOut))
}

async fn once(
    account: &Account,
    profile: Option<&str>,
    wanted: &Wanted<'_>,
    prover: &dyn Prover,
) -> Result<Zeroizing<String>, OrderError> {
    let mut shown = Vec::new();
    let ordered = run(account, profile, wanted, prover, &mut shown).await;
    for proof in &shown {
        prover.hide(proof).await;
    }
    ordered
}

async fn run(
    account: &Account,
    profile: Option<&str>,
    wanted: &Wanted<'_>,
    prover: &dyn Prover,
    shown: &mut Vec<Proof>,
) -> Result<Zeroizing<String>, OrderError> {
    let mut order = begin(account, profile, wanted).await?;
    let tried = prove(&mut order, wanted, prover, shown).await?;
    let ready = order.poll_ready(&POLL).await;
    if !matches!(ready, Ok(OrderStatus::Ready)) {
        return Err(reason(&mut order, wanted, tried).await.unwrap_or_else(|| match ready {
            Ok(status) => OrderError::Authority(format!("the order is {status:?}")),
            Err(error) => error.into(),
        }));
    }
    let (key, request) = request(wanted)?;
    order.finalize_csr(&request).await?;
    let chain = order.poll_certificate(&POLL).await?;
    Ok(Zeroizing::new(format!("{}{chain}", *key)))
}

/// An authority may not know the certificate that is to be replaced, or may have replaced it already.
async fn begin(account: &Account, profile: Option<&str>, wanted: &Wanted<'_>) -> Result<Order, OrderError> {
    let identifiers = [Identifier::Dns(wanted.name.to_owned())];
    let plain = || {
        let order = NewOrder::new(&identifiers);
        match profile {
            Some(profile) => order.profile(profile),
            None => order,
        }
    };
    let replaces = wanted.replaces.and_then(|certificate| CertificateIdentifier::try_from(certificate).ok());
    if let Some(replaces) = replaces
        && let Ok(order) = account.new_order(&plain().replaces(replaces)).await
    {
        return Ok(order);
    }
    Ok(account.new_order(&plain()).await?)
}

/// Shows a proof for each part of the order, and says which way it was.
async fn prove(
    order: &mut Order,
    wanted: &Wanted<'_>,
    prover: &dyn Prover,
    shown: &mut Vec<Proof>,
) -> Result<Option<Challenge>, OrderError> {
    let mut tried = None;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = wanted.name.trim_start_matches("*.");
        let is_wildcard = name.len() != wanted.name.len();
        let ways = wanted.challenges.iter().filter(|way| !is_wildcard || **way == Challenge::Dns01);
        let offered: Vec<_> = authorization.challenges.iter().map(|offered| offered.r#type.clone()).collect();
        let way = ways.copied().find(|way| offered.contains(&kind(*way)));
        let way = way.ok_or_else(|| OrderError::NoChallenge(wanted.name.to_owned()))?;
        tried = Some(way);
        let none = || OrderError::NoChallenge(wanted.name.to_owned());
        let mut challenge = authorization.challenge(kind(way)).ok_or_else(none)?;
        let proof = Proof::of(way, name, &challenge.token, &challenge.key_authorization())?;
        shown.push(proof.clone());
        prover.show(&proof).await.map_err(OrderError::NotShown)?;
        challenge.set_ready().await?;
    }
    Ok(tried)
}

/// What the authority says about a proof that it did not accept.
async fn reason(order: &mut Order, wanted: &Wanted<'_>, tried: Option<Challenge>) -> Option<OrderError> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        let error = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(error) = error {
            let challenge = tried.map_or_else(String::new, |way| format!("{way:?}"));
            return Some(OrderError::NotProven {
                name: wanted.name.to_owned(),
                challenge,
                reason: error.to_string(),
            });
        }
    }
    None
}

/// A new key, and the request that names it.
fn request(wanted: &Wanted<'_>) -> Result<(Zeroizing<String>, Vec<u8>), OrderError> {
    let failed = |error: rcgen::Error| OrderError::Local(format!("no request can be made: {error}"));
    let pair = match wanted.key {
        KeyKind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyKind::Rsa => KeyPair::generate_for(&PKCS_RSA_SHA256),
    }
    .map_err(failed)?;
    let mut params = CertificateParams::new(vec![wanted.name.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&pair).map_err(failed)?;
    Ok((Zeroizing::new(pair.serialize_pem()), request.der().to_vec()))
}
