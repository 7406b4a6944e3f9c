//! Quick tunnels: a service gives credentials for a throw-away name (cloudflared: `cmd/cloudflared/tunnel/quick_tunnel.go`).

use std::path::PathBuf;

use adit_policy::ingress::OriginRequest;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::origin;

/// What a service gave.
#[derive(Debug)]
pub struct Invitation {
    /// The name under which everything is served.
    pub hostname: String,
    /// Credentials, as the text of a credentials file.
    pub credentials: String,
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Invited>,
    #[serde(default)]
    errors: Vec<Refusal>,
}

#[derive(Deserialize)]
struct Invited {
    id: Uuid,
    hostname: String,
    account_tag: String,
    secret: String,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// Asks a service for a quick tunnel; `cacert` is trusted beside the system's authorities.
///
/// # Errors
/// In words, with the service's own where it has any.
pub async fn ask(service: &str, cacert: Option<PathBuf>) -> Result<Invitation, String> {
    let settings = OriginRequest { ca_pool: cacert, ..OriginRequest::default() };
    let url = format!("{}/tunnel", service.trim_end_matches('/'));
    let (_, answer) = origin::json::<Answer>("POST", &url, &settings).await?;
    let Some(invited) = answer.result else {
        let reasons: Vec<String> = answer.errors.into_iter().map(|error| error.message).collect();
        return Err(format!("{url}: {}", reasons.join("; ")));
    };
    let credentials = json!({
        "AccountTag": invited.account_tag, "TunnelID": invited.id.to_string(), "TunnelSecret": invited.secret,
    });
    Ok(Invitation { hostname: invited.hostname, credentials: credentials.to_string() })
}
