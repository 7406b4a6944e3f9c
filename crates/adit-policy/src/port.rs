//! Ports of the edge that lead to an address behind a tunnel, without HTTP between.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::ingress::ProxyProtocol;

/// Silence after which a visitor's UDP session ends, unless the port says otherwise.
pub const UDP_IDLE: Duration = Duration::from_secs(60);

/// What a port carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PortProtocol {
    /// Streams.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// Where visitors come in.
    pub listen: SocketAddr,
    /// What it carries.
    pub protocol: PortProtocol,
    /// Name of the tunnel.
    pub tunnel: String,
    /// Where it leads, in the connector's network; the connector must allow it.
    pub to: SocketAddr,
    /// How the service is told whose connection it is; TCP only.
    pub proxy_protocol: ProxyProtocol,
    /// Silence after which a visitor's session ends; UDP only.
    pub idle_timeout: Duration,
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
