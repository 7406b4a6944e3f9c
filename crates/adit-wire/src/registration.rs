//! What is said on the control stream, as plain types. See [`crate::rpc`] for the bytes.

use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use crate::secret::Secret;

/// The credentials inside of a registration.
#[derive(Clone, Debug)]
pub struct TunnelAuth {
    /// The account tag of the credentials file.
    pub account_tag: String,
    /// The tunnel's secret.
    pub secret: Secret,
}

/// Which connector process is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// New for each process: one replica.
    pub client_id: Uuid,
    /// What it can do.
    pub features: Vec<String>,
    /// Its version.
    pub version: String,
    /// Its platform, like `linux_amd64`.
    pub arch: String,
}

/// The circumstances of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// The connector.
    pub client: ClientInfo,
    /// The address that it dialled from; on QUIC cloudflared fills in the edge's own.
    pub origin_local_ip: Option<IpAddr>,
    /// cloudflared never sets it: the edge replaces by itself.
    pub replace_existing: bool,
    /// Unused.
    pub compression_quality: u8,
    /// Attempts before this one.
    pub num_previous_attempts: u8,
}

/// A connection asks to serve a tunnel.
#[derive(Clone, Debug)]
pub struct RegisterRequest {
    /// The proof.
    pub auth: TunnelAuth,
    /// The tunnel.
    pub tunnel_id: Uuid,
    /// Which of the connector's connections this is; `(client, index)` is one slot.
    pub conn_index: u8,
    /// The rest.
    pub options: ConnectionOptions,
}

/// The edge's yes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionDetails {
    /// Id of the connection, for logs.
    pub uuid: Uuid,
    /// Where the edge is, for logs and metrics.
    pub location: String,
    /// The edge holds the configuration and pushes it.
    pub remotely_managed: bool,
    /// What the edge can do beyond cloudflared's protocol; ours.
    pub features: Vec<String>,
}

/// The edge's no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct RegisterError {
    /// Why, for the connector's log. `Unauthorized` in it keeps cloudflared trying on HTTP/2.
    pub cause: String,
    /// When to try again; cloudflared ignores it.
    pub retry_after: Duration,
    /// Whether it makes sense to try again.
    pub should_retry: bool,
}
