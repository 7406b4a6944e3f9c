//! Tunnels that a command created: one JSON file for each, in `DATA-DIR/tunnels`.

mod load;
mod merge;

use std::path::{Path, PathBuf};

use adit_policy::grant::Grant;
use adit_policy::host::HostPattern;
use adit_policy::limits::SECRET_BYTES_MIN;
use adit_policy::snapshot::{AcceptedSecret, Tunnel, TunnelId, TunnelSecret};
use adit_wire::limits::SECRET_BYTES_MAX;
use adit_wire::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroize as _;

use crate::tunnel_name::{NameError, check_name};

pub use load::load_all;
pub use merge::{merge, not_created};

/// A tunnel as it is stored.
#[derive(Clone, Debug)]
pub struct StoredTunnel {
    /// Its name; also the name of its file.
    pub name: String,
    /// Its identity.
    pub id: TunnelId,
    /// The account that its credentials name.
    pub account_tag: Option<String>,
    /// The secrets that it accepts, the newest first.
    pub secrets: Vec<StoredSecret>,
    /// What it may claim.
    pub hostnames: Vec<HostPattern>,
}

/// One secret of a stored tunnel.
#[derive(Clone, Debug)]
pub struct StoredSecret {
    /// The bytes.
    pub secret: Secret,
    /// Last second (since 1970) at which it is good; `None` for ever.
    pub not_after: Option<u64>,
}

/// Why a file is no stored tunnel. No secret is in the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// Not the expected JSON.
    #[error("not the JSON of a tunnel (line {line}, column {column})")]
    Json {
        /// Line from 1.
        line: usize,
        /// Column from 1.
        column: usize,
    },
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A secret is not base64, too short, or too long.
    #[error("secret #{0} is not base64 of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes")]
    Secret(usize),
    /// A host pattern cannot be one.
    #[error("`{0}` is no host pattern")]
    Pattern(String),
}

impl StoredTunnel {
    /// Where tunnels are stored.
    #[must_use]
    pub fn directory(data_dir: &Path) -> PathBuf {
        data_dir.join("tunnels")
    }

    /// Where the tunnel of this name is stored.
    #[must_use]
    pub fn path(data_dir: &Path, name: &str) -> PathBuf {
        Self::directory(data_dir).join(format!("{name}.json"))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`StoredError`] says what is wrong.
    pub fn parse(json: &str) -> Result<Self, StoredError> {
        let form: TunnelForm = serde_json::from_str(json).map_err(|error| json_error(&error))?;
        check_name(&form.name)?;
        let secrets = form.secrets.iter().enumerate().map(|(index, secret)| secret.read(index + 1));
        let patterns = form.hostnames.iter();
        let patterns =
            patterns.map(|text| HostPattern::parse(text).map_err(|_| StoredError::Pattern(text.clone())));
        Ok(Self {
            secrets: secrets.collect::<Result<_, _>>()?,
            hostnames: patterns.collect::<Result<_, _>>()?,
            name: form.name,
            id: TunnelId(form.id),
            account_tag: form.account_tag,
        })
    }

    /// Writes the text of a file. It is as secret as the secrets in it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let form = TunnelForm {
            name: self.name.clone(),
            id: self.id.0,
            account_tag: self.account_tag.clone(),
            secrets: self.secrets.iter().map(SecretForm::of).collect(),
            hostnames: self.hostnames.iter().map(ToString::to_string).collect(),
        };
        // Texts and numbers always serialise.
        let mut json = serde_json::to_string_pretty(&form).unwrap_or_default();
        json.push('\n');
        json
    }

    /// The same for the data path.
    #[must_use]
    pub fn tunnel(&self) -> Tunnel {
        let secrets = self.secrets.iter();
        let accepted = secrets.map(|one| AcceptedSecret::new(one.secret.expose().to_vec(), one.not_after));
        Tunnel {
            id: self.id,
            name: self.name.clone(),
            secret: TunnelSecret::rotating(accepted.collect()),
            account_tag: self.account_tag.clone(),
            grant: Grant::new(self.hostnames.iter().cloned()),
            held: None,
        }
    }
}

/// The file as serde sees it.
#[derive(Serialize, Deserialize)]
struct TunnelForm {
    name: String,
    id: Uuid,
    #[serde(rename = "account-tag", default, skip_serializing_if = "Option::is_none")]
    account_tag: Option<String>,
    secrets: Vec<SecretForm>,
    #[serde(default)]
    hostnames: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct SecretForm {
    secret: String,
    #[serde(rename = "not-after", default, skip_serializing_if = "Option::is_none")]
    not_after: Option<u64>,
}

impl SecretForm {
    fn of(stored: &StoredSecret) -> Self {
        Self { secret: STANDARD.encode(stored.secret.expose()), not_after: stored.not_after }
    }

    fn read(&self, number: usize) -> Result<StoredSecret, StoredError> {
        let secret =
            STANDARD.decode(&self.secret).map(Secret::new).map_err(|_| StoredError::Secret(number))?;
        match (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.expose().len()) {
            true => Ok(StoredSecret { secret, not_after: self.not_after }),
            false => Err(StoredError::Secret(number)),
        }
    }
}

impl Drop for SecretForm {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// serde's own message may quote the value, and the value may be a secret.
fn json_error(error: &serde_json::Error) -> StoredError {
    StoredError::Json { line: error.line(), column: error.column() }
}

#[cfg(test)]
mod tests;
