//! An issuer's public keys (JWKS, RFC 7517): fetched when they are needed, kept while they are fresh.

use std::time::{Duration, Instant};

use adit_policy::ingress::{Access, OriginRequest};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::origin;

/// Keys are asked for again after this.
const FRESH: Duration = Duration::from_secs(3600);
/// While the issuer is away, old keys are good for this long.
const USABLE: Duration = Duration::from_secs(24 * 3600);
/// Pause between two attempts, whatever visitors send.
const PAUSE: Duration = Duration::from_secs(10);

/// The keys of one issuer. Requests that need them at the same time wait for one fetch.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    set: Option<(JwkSet, Instant)>,
    tried: Option<Instant>,
    failure: Option<String>,
}

impl Keys {
    /// The key with this id; without an id, the only one. `None` when the issuer has none such.
    ///
    /// # Errors
    /// In words, when no keys are to be had.
    pub(super) async fn find(&self, access: &Access, id: Option<&str>) -> Result<Option<Jwk>, String> {
        let mut known = self.0.lock().await;
        let now = Instant::now();
        if known.wants_fetch(id, now) {
            known.tried = Some(now);
            match fetch(access).await {
                Ok(set) => (known.set, known.failure) = (Some((set, Instant::now())), None),
                Err(cause) => {
                    tracing::warn!(issuer = access.issuer(), cause, "cannot fetch the keys of an issuer");
                    known.failure = Some(cause);
                }
            }
        }
        match known.usable(now) {
            Some(set) => Ok(choose(set, id).cloned()),
            None => Err(known.failure.clone().unwrap_or_else(|| "they are too old".to_owned())),
        }
    }
}

impl Known {
    /// Nothing known, or old, or a key that is new to us. Not more often than the pause allows.
    fn wants_fetch(&self, id: Option<&str>, now: Instant) -> bool {
        let wanted = match &self.set {
            None => true,
            Some((set, since)) => now.duration_since(*since) >= FRESH || choose(set, id).is_none(),
        };
        wanted && self.tried.is_none_or(|tried| now.duration_since(tried) >= PAUSE)
    }

    fn usable(&self, now: Instant) -> Option<&JwkSet> {
        let (set, since) = self.set.as_ref()?;
        (now.saturating_duration_since(*since) < USABLE).then_some(set)
    }
}

fn choose<'s>(set: &'s JwkSet, id: Option<&str>) -> Option<&'s Jwk> {
    let mut signing =
        set.keys.iter().filter(|key| key.common.public_key_use != Some(PublicKeyUse::Encryption));
    match id {
        Some(id) => signing.find(|key| key.common.key_id.as_deref() == Some(id)),
        None => signing.next().filter(|_| signing.next().is_none()),
    }
}

/// What OpenID Connect Discovery 1.0 tells.
#[derive(Deserialize)]
struct Discovery {
    jwks_uri: String,
}

async fn fetch(access: &Access) -> Result<JwkSet, String> {
    let url = match access.keys_url() {
        Some(url) => url,
        None => {
            let issuer = access.issuer();
            let about = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
            get::<Discovery>(&about).await?.jwks_uri
        }
    };
    get(&url).await
}

async fn get<T: for<'de> Deserialize<'de>>(url: &str) -> Result<T, String> {
    match origin::json("GET", url, &OriginRequest::default()).await? {
        (200, value) => Ok(value),
        (status, _) => Err(format!("{url}: the answer is {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[&str]) -> JwkSet {
        let keys: Vec<_> = ids
            .iter()
            .map(|id| serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": id }))
            .collect();
        serde_json::from_value(serde_json::json!({ "keys": keys })).unwrap()
    }

    #[test]
    fn a_new_key_is_asked_for_but_not_too_often() {
        let start = Instant::now();
        let mut known = Known { set: Some((set(&["a"]), start)), tried: Some(start), failure: None };
        let later = start + PAUSE;
        assert!(!known.wants_fetch(Some("a"), later));
        assert!(!known.wants_fetch(Some("b"), start) && known.wants_fetch(Some("b"), later));
        known.tried = Some(later);
        assert!(!known.wants_fetch(Some("b"), later));
        assert!(known.wants_fetch(Some("a"), start + FRESH));
    }

    #[test]
    fn old_keys_serve_while_the_issuer_is_away_but_not_for_ever() {
        let start = Instant::now();
        let known = Known { set: Some((set(&["a"]), start)), tried: None, failure: None };
        assert!(known.usable(start + FRESH * 2).is_some() && known.usable(start + USABLE).is_none());
    }

    #[test]
    fn without_an_id_there_must_be_one_key() {
        assert!(choose(&set(&["a"]), None).is_some() && choose(&set(&["a", "b"]), None).is_none());
        assert!(choose(&set(&["a", "b"]), Some("b")).is_some() && choose(&set(&["a"]), Some("c")).is_none());
    }
}
