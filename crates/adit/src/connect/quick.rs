//! `adit tunnel --url URL` without credentials: a throw-away name from an edge that gives some (`quick-tunnels`).

use adit_config::connector::ConnectorFile;
use adit_connector::quick;
use adit_wire::secret::Secret;

use super::settings::has_credentials;
use crate::edge::block_on;
use crate::failure::Failure;

/// Connections of a quick tunnel (cloudflared's number).
const CONNECTIONS: u8 = 1;

/// Gets credentials where there is a service to publish and nobody said whose tunnel it is; the name that was given.
///
/// # Errors
/// When the edge gives none.
pub(super) fn invite(file: &mut ConnectorFile) -> Result<Option<String>, Failure> {
    let wanted = file.single.is_some() && file.ingress.is_none() && !has_credentials(file);
    let Some(service) = service(file).filter(|_| wanted) else { return Ok(None) };
    tracing::info!(%service, "Requesting new quick Tunnel");
    let cacert = file.cacert.clone();
    let asking = async { quick::ask(&service, cacert).await.map_err(Failure::broke) };
    let invited = block_on(asking)?;
    file.credentials_contents = Some(Secret::new(invited.credentials.into_bytes()));
    file.ha_connections = file.ha_connections.or(Some(CONNECTIONS));
    tracing::info!("Your quick Tunnel has been created! Visit it at https://{}", invited.hostname);
    Ok(Some(invited.hostname))
}

/// The service that is named, or else the edge itself.
fn service(file: &ConnectorFile) -> Option<String> {
    let named = file.other.get("quick-service").cloned();
    named.or_else(|| {
        let edge = file.edge.first()?;
        let host = edge.rsplit_once(':').map_or(edge.as_str(), |(host, _)| host);
        Some(format!("https://{host}"))
    })
}
