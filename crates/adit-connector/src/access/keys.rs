//! An issuer's public keys (JWKS, RFC 7517): fetched when they are needed, kept while they are fresh.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use adit_policy::ingress::{Access, OriginRequest};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use serde::Deserialize;

use crate::origin;

/// Keys are asked for again after this.
const FRESH: Duration = Duration::from_secs(3600);
/// While the issuer is away, old keys are good for this long.
const USABLE: Duration = Duration::from_secs(24 * 3600);
/// Pause between two attempts, whatever visitors send.
const PAUSE: Duration = Duration::from_secs(10);

/// The keys of one issuer. Requests that need a new one at the same time wait for one fetch; those whose key is known
/// never wait.
#[derive(Debug, Default)]
pub(super) struct Keys {
    known: Mutex<Known>,
    fetching: tokio::sync::Mutex<()>,
}

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
    pub(super) async fn find(
        self: &Arc<Self>,
        access: &Access,
        id: Option<&str>,
    ) -> Result<Option<Jwk>, String> {
        let (key, wants_fetch) = self.look(id);
        if key.is_some() {
            if wants_fetch {
                let (keys, access) = (self.clone(), access.clone());
                drop(tokio::task::spawn_local(async move { keys.renew(&access).await }));
            }
            return Ok(key);
        }
        let _alone = self.fetching.lock().await;
        // Who had the lock before may have fetched it.
        let (key, wants_fetch) = self.look(id);
        if key.is_some() {
            return Ok(key);
        }
        if wants_fetch {
            self.renew(access).await;
        }
        let known = self.known();
        match known.usable(Instant::now()) {
            Some(set) => Ok(choose(set, id).cloned()),
            None => Err(known.failure.clone().unwrap_or_else(|| "they are too old".to_owned())),
        }
    }

    /// The key, if it is known, and whether it is time to ask the issuer.
    fn look(&self, id: Option<&str>) -> (Option<Jwk>, bool) {
        let (known, now) = (self.known(), Instant::now());
        (known.usable(now).and_then(|set| choose(set, id)).cloned(), known.wants_fetch(id, now))
    }

    /// Asks the issuer. After a failure the old keys stay.
    async fn renew(&self, access: &Access) {
        self.known().tried = Some(Instant::now());
        let fetched = fetch(access).await;
        let mut known = self.known();
        match fetched {
            Ok(set) => (known.set, known.failure) = (Some((set, Instant::now())), None),
            Err(cause) => {
                tracing::warn!(issuer = access.issuer(), cause, "cannot fetch the keys of an issuer");
                known.failure = Some(cause);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
            get::<Discovery>(access, &about).await?.jwks_uri
        }
    };
    get(access, &url).await
}

async fn get<T: for<'de> Deserialize<'de>>(access: &Access, url: &str) -> Result<T, String> {
    let settings = OriginRequest { ceiling: access.ceiling.clone(), ..OriginRequest::default() };
    match origin::json("GET", url, &settings).await? {
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
