//! A tunnel's token: its credentials in one word (cloudflared: `--token`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::credentials::{Credentials, CredentialsError};
use crate::limits::CREDENTIALS_BYTES_MAX;

/// Reads a token. White space around it is no part of it.
///
/// # Errors
/// [`CredentialsError`] says what is wrong, without showing the token.
pub fn decode(token: &str) -> Result<Credentials, CredentialsError> {
    let token = token.trim();
    if token.len() > CREDENTIALS_BYTES_MAX {
        return Err(CredentialsError::TooLarge);
    }
    let json = STANDARD.decode(token).map_err(|_| CredentialsError::NotBase64)?;
    Credentials::from_members(&json, ["a", "s", "t", "e"])
}

/// Writes a token. It is as secret as the credentials.
#[must_use]
pub fn encode(credentials: &Credentials) -> String {
    let mut members = serde_json::Map::new();
    let mut put = |name: &str, value: String| drop(members.insert(name.to_owned(), value.into()));
    put("a", credentials.account_tag.clone());
    put("s", STANDARD.encode(credentials.tunnel_secret.expose()));
    put("t", credentials.tunnel_id.to_string());
    if !credentials.endpoint.is_empty() {
        put("e", credentials.endpoint.clone());
    }
    STANDARD.encode(serde_json::Value::Object(members).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_token_is_read_and_written() {
        let id = uuid::Uuid::from_u128(7);
        let credentials = Credentials {
            account_tag: "acc".to_owned(),
            tunnel_secret: Secret::new(vec![1; 32]),
            tunnel_id: id,
            endpoint: String::new(),
        };
        let token = encode(&credentials);
        let read = decode(&format!("  {token}\n")).unwrap();
        assert_eq!((read.tunnel_id, read.account_tag.as_str()), (id, "acc"));
        assert_eq!(read.tunnel_secret.expose(), [1; 32]);
    }

    #[test]
    fn a_bad_token_says_what_is_wrong() {
        assert_eq!(decode("no token!").unwrap_err(), CredentialsError::NotBase64);
        assert_eq!(decode("aGVsbG8=").unwrap_err(), CredentialsError::NotJson);
        assert_eq!(decode("e30=").unwrap_err(), CredentialsError::Missing("s"));
    }
}
