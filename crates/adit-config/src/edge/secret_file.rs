//! The secret of a tunnel, from its file: base64, cloudflared's credentials file, or a token.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;

use adit_policy::limits::SECRET_BYTES_MIN;
use adit_policy::snapshot::{TunnelId, TunnelSecret};
use adit_wire::credentials::Credentials;
use adit_wire::limits::CREDENTIALS_BYTES_MAX;
use adit_wire::token;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::diagnostic::Findings;
use crate::yaml::Span;

/// What the file gives.
pub(super) struct SecretFile {
    pub(super) secret: TunnelSecret,
    pub(super) account_tag: Option<String>,
}

/// Reads the file. Everything that is wrong is reported at the place that names the file, and never shows the content.
pub(super) fn read(
    path: &Path,
    id: Option<TunnelId>,
    span: Span,
    findings: &mut Findings,
) -> Option<SecretFile> {
    let shown = path.display();
    let (bytes, metadata) = match read_limited(path) {
        Ok(read) => read,
        Err(error) => {
            findings.error(span, format!("the secret file `{shown}` cannot be read: {error}"));
            return None;
        }
    };
    if is_world_readable(&metadata) {
        let message = format!("the secret file `{shown}` can be read by everybody on this machine");
        findings.warning(span, message).help(format!("chmod 600 {shown}"));
    }
    match decode(&bytes, id) {
        Ok(found) => Some(found),
        Err(what) => {
            findings.error(span, format!("the secret file `{shown}` {what}"));
            None
        }
    }
}

fn decode(bytes: &[u8], id: Option<TunnelId>) -> Result<SecretFile, String> {
    if bytes.len() > CREDENTIALS_BYTES_MAX {
        return Err(format!("is larger than {CREDENTIALS_BYTES_MAX} bytes"));
    }
    let text = bytes.trim_ascii();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.starts_with(b"{") {
        let credentials = Credentials::from_json(text);
        return of_credentials(&credentials.map_err(|error| format!("is no credentials file: {error}"))?, id);
    }
    let decoded = STANDARD.decode(text).map(Zeroizing::new);
    let decoded = decoded.map_err(|_| "holds neither base64 nor a credentials file".to_owned())?;
    match std::str::from_utf8(text).map(token::decode) {
        Ok(Ok(credentials)) => of_credentials(&credentials, id),
        _ => Ok(SecretFile { secret: checked(&decoded)?, account_tag: None }),
    }
}

fn of_credentials(credentials: &Credentials, id: Option<TunnelId>) -> Result<SecretFile, String> {
    if let Some(id) = id.filter(|id| id.0 != credentials.tunnel_id) {
        return Err(format!("is for tunnel {}, not for {id}", credentials.tunnel_id));
    }
    let account_tag = Some(credentials.account_tag.clone()).filter(|tag| !tag.is_empty());
    Ok(SecretFile { secret: checked(credentials.tunnel_secret.expose())?, account_tag })
}

fn checked(secret: &[u8]) -> Result<TunnelSecret, String> {
    match secret.len() < SECRET_BYTES_MIN {
        true => {
            Err(format!("holds a secret of {} bytes: it needs at least {SECRET_BYTES_MIN}", secret.len()))
        }
        false => Ok(TunnelSecret::new(secret.to_vec())),
    }
}

fn read_limited(path: &Path) -> std::io::Result<(Zeroizing<Vec<u8>>, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let limit = u64::try_from(CREDENTIALS_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(limit).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

#[cfg(unix)]
fn is_world_readable(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
fn is_world_readable(_: &Metadata) -> bool {
    false
}
