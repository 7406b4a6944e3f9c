//! Accounts with authorities: made once, kept by whoever asked.

use adit_config::edge::Authority;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use instant_acme::{Account, AccountCredentials, CertificateIdentifier, ExternalAccountKey, NewAccount};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::client::Https;
use crate::order::{OrderError, Wanted, order};
use crate::proof::Prover;

/// An account that is open.
#[derive(Clone)]
pub struct Session {
    account: Account,
    authority: Authority,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("authority", &self.authority.name).finish_non_exhaustive()
    }
}

impl Session {
    /// Opens the account whose credentials were kept.
    ///
    /// # Errors
    /// [`OrderError`] when the authority cannot be reached, or the credentials make no sense.
    pub async fn restore(authority: &Authority, credentials: &str) -> Result<Self, OrderError> {
        let credentials: AccountCredentials = serde_json::from_str(credentials)
            .map_err(|error| OrderError::Local(format!("the stored account is damaged: {error}")))?;
        let builder = Account::builder_with_http(Box::new(Https::new(authority.ca.as_deref())?));
        let account = builder.from_credentials(credentials).await?;
        Ok(Self { account, authority: authority.clone() })
    }

    /// Makes an account, and the credentials to keep, which are secret. `external_key` is the content of the key file of
    /// an external account.
    ///
    /// # Errors
    /// [`OrderError`] when the authority refuses or cannot be reached.
    pub async fn create(
        authority: &Authority,
        email: Option<&str>,
        external_key: Option<&str>,
    ) -> Result<(Self, Zeroizing<String>), OrderError> {
        let contact = email.map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.as_deref().into_iter().collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = match (&authority.external_account, external_key) {
            (Some(account), Some(key)) => {
                Some(ExternalAccountKey::new(account.key_id.clone(), &decode(key)?))
            }
            _ => None,
        };
        let builder = Account::builder_with_http(Box::new(Https::new(authority.ca.as_deref())?));
        let created = builder.create(&new, authority.directory.clone(), external.as_ref()).await?;
        let (account, credentials) = created;
        let text =
            serde_json::to_string(&credentials).map_err(|error| OrderError::Local(error.to_string()))?;
        Ok((Self { account, authority: authority.clone() }, Zeroizing::new(text)))
    }

    /// Asks for a certificate: the key and the chain, as PEM in one text, which is secret.
    ///
    /// # Errors
    /// [`OrderError`]; every proof is hidden again.
    pub async fn order(
        &self,
        wanted: &Wanted<'_>,
        prover: &dyn Prover,
    ) -> Result<Zeroizing<String>, OrderError> {
        order(&self.account, self.authority.profile.as_deref(), wanted, prover).await
    }

    /// When the authority suggests to renew a certificate, in Unix seconds, and after how many seconds to ask again.
    /// `None` where it suggests nothing (RFC 9773).
    pub async fn renewal_window(&self, certificate: &CertificateDer<'_>) -> Option<((i64, i64), u64)> {
        let id = CertificateIdentifier::try_from(certificate).ok()?;
        let (info, again) = self.account.renewal_info(&id).await.ok()?;
        let window = info.suggested_window;
        Some(((window.start.unix_timestamp(), window.end.unix_timestamp()), again.as_secs()))
    }

    /// The authority's name.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority.name
    }
}

/// Keys of external accounts are base64url; some authorities show them with other letters or an end.
fn decode(key: &str) -> Result<Zeroizing<Vec<u8>>, OrderError> {
    let key = key.trim().trim_end_matches('=');
    let decoded = URL_SAFE_NO_PAD.decode(key).or_else(|_| STANDARD_NO_PAD.decode(key));
    decoded
        .map(Zeroizing::new)
        .map_err(|_| OrderError::Local("the key of the external account is not base64".to_owned()))
}
