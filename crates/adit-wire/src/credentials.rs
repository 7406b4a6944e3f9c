//! The credentials file of a tunnel (cloudflared: `connection/connection.go`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use uuid::Uuid;

use crate::limits::{CREDENTIALS_BYTES_MAX, SECRET_BYTES_MAX};
use crate::secret::Secret;

/// What a connector proves its right to a tunnel with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// An opaque word of the tunnel's owner.
    pub account_tag: String,
    /// The shared secret.
    pub tunnel_secret: Secret,
    /// The tunnel.
    pub tunnel_id: Uuid,
    /// cloudflared's region, mostly empty.
    pub endpoint: String,
}

/// What is wrong with a credentials file or token. The secret is never part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// More bytes than any credentials have.
    #[error("it is larger than {CREDENTIALS_BYTES_MAX} bytes")]
    TooLarge,
    /// Not a JSON object.
    #[error("it is no JSON object")]
    NotJson,
    /// Not base64.
    #[error("it is not base64; copy the whole token, without spaces or quotes")]
    NotBase64,
    /// A member is missing or empty.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A member has the wrong form.
    #[error("`{0}` is not {1}")]
    Invalid(&'static str, &'static str),
}

impl Credentials {
    /// Reads the file's text. Keys match in any case, as in Go.
    ///
    /// # Errors
    /// [`CredentialsError`] names the member that is wrong.
    pub fn from_json(text: &[u8]) -> Result<Self, CredentialsError> {
        Self::from_members(text, ["AccountTag", "TunnelSecret", "TunnelID", "Endpoint"])
    }

    /// Writes the file's text, as cloudflared does.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "AccountTag": self.account_tag,
            "TunnelSecret": STANDARD.encode(self.tunnel_secret.expose()),
            "TunnelID": self.tunnel_id.to_string(),
            "Endpoint": self.endpoint,
        })
        .to_string()
    }

    pub(crate) fn from_members(text: &[u8], names: [&'static str; 4]) -> Result<Self, CredentialsError> {
        if text.len() > CREDENTIALS_BYTES_MAX {
            return Err(CredentialsError::TooLarge);
        }
        let members: BTreeMap<String, Value> =
            serde_json::from_slice(text).map_err(|_| CredentialsError::NotJson)?;
        let member = |name: &'static str| {
            let value =
                members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
            value.and_then(Value::as_str).unwrap_or_default()
        };
        let [account, secret, id, endpoint] = names;
        Ok(Self {
            account_tag: member(account).to_owned(),
            tunnel_secret: secret_of(secret, member(secret))?,
            tunnel_id: id_of(id, member(id))?,
            endpoint: member(endpoint).to_owned(),
        })
    }
}

fn secret_of(name: &'static str, text: &str) -> Result<Secret, CredentialsError> {
    if text.is_empty() {
        return Err(CredentialsError::Missing(name));
    }
    let secret = STANDARD.decode(text).map_err(|_| CredentialsError::Invalid(name, "base64"))?;
    if secret.len() > SECRET_BYTES_MAX {
        return Err(CredentialsError::Invalid(name, "a secret of at most 1024 bytes"));
    }
    Ok(Secret::new(secret))
}

fn id_of(name: &'static str, text: &str) -> Result<Uuid, CredentialsError> {
    if text.is_empty() {
        return Err(CredentialsError::Missing(name));
    }
    Uuid::try_parse(text).map_err(|_| CredentialsError::Invalid(name, "a UUID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"AccountTag":"acc","TunnelSecret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "tunnelid":"6ff42ae2-765d-4adf-8112-31c55c1551ef","Endpoint":""}"#;

    #[test]
    fn a_file_is_read_and_written() {
        let credentials = Credentials::from_json(FILE.as_bytes()).unwrap();
        assert_eq!(credentials.account_tag, "acc");
        assert_eq!(credentials.tunnel_secret.expose().len(), 32);
        let again = Credentials::from_json(credentials.to_json().as_bytes()).unwrap();
        assert_eq!(again.tunnel_id, credentials.tunnel_id);
        assert_eq!(again.tunnel_secret.expose(), credentials.tunnel_secret.expose());
    }

    #[test]
    fn errors_name_the_member_and_never_the_secret() {
        let error = |text: &str| Credentials::from_json(text.as_bytes()).unwrap_err();
        assert_eq!(error("[]"), CredentialsError::NotJson);
        assert_eq!(error("{}"), CredentialsError::Missing("TunnelSecret"));
        assert_eq!(error(r#"{"TunnelSecret":"???"}"#), CredentialsError::Invalid("TunnelSecret", "base64"));
        assert_eq!(error(r#"{"TunnelSecret":"aGk="}"#), CredentialsError::Missing("TunnelID"));
        assert_eq!(
            error(r#"{"TunnelSecret":"aGk=","TunnelID":"x"}"#),
            CredentialsError::Invalid("TunnelID", "a UUID")
        );
        let debug = format!("{:?}", Credentials::from_json(FILE.as_bytes()).unwrap());
        assert!(debug.contains("Secret(…)") && !debug.contains("AAEC"), "{debug}");
    }
}
