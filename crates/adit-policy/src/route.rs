//! Which tunnel gets a request: a table from host names to tunnels, made of grants and claims.
//!
//! A grant is the operator's word, a claim is the connector's. A route needs both, except that a granted exact name is
//! always a known name. Where two tunnels want the same name, the one with the narrower grant has it, and among equals
//! the one that claimed it first ([`Owners`]), also while it is away.

mod build;
mod claim;
mod owners;

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::host::{HostMap, HostPattern, MANAGEMENT_HOST};
use crate::ingress::Claims;
use crate::snapshot::{Snapshot, TunnelId};

pub use owners::{Owner, Owners};

/// A connector, and what it says that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The tunnel that it runs.
    pub tunnel: TunnelId,
    /// The connector itself.
    pub connector: Uuid,
    /// Its claims. `None`: it has not said (a stock cloudflared that is managed remotely), so the grant is the claim.
    pub claims: Option<Claims>,
}

/// Where the requests of one pattern go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The tunnel that has the names.
    pub tunnel: TunnelId,
    /// The names.
    pub pattern: HostPattern,
    /// The connectors of the tunnel that claim them. Empty: any connector of the tunnel.
    pub connectors: Vec<Uuid>,
}

/// A claim that did not become a route. `Display` is the message for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The grant of the tunnel does not hold the names.
    NotGranted {
        /// The tunnel of the connector.
        tunnel: TunnelId,
        /// The connector that claims.
        connector: Uuid,
        /// What it claims.
        pattern: HostPattern,
    },
    /// Another tunnel has the names.
    Taken {
        /// The tunnel of the connector.
        tunnel: TunnelId,
        /// The connector that claims.
        connector: Uuid,
        /// What it claims.
        pattern: HostPattern,
        /// The tunnel that has it.
        holder: TunnelId,
    },
}

/// The routes, ready to be searched. It is built anew when a grant or a claim changes.
#[derive(Clone, Debug, Default)]
pub struct RouteTable(HostMap<Arc<Route>>);

impl RouteTable {
    /// Builds the table. A contested name is its owner's; the claimants come in the order of arrival, and of those the
    /// earlier has a name without an owner. Claimants and owners of unknown tunnels count for nothing.
    #[must_use]
    pub fn build(snapshot: &Snapshot, claimants: &[Claimant], owners: &Owners) -> (Self, Vec<Refusal>) {
        build::build(snapshot, claimants, owners)
    }

    /// The route of a canonical host name ([`crate::host::Hostname`]): its own, else that of the longest wildcard above
    /// it, else the default. Allocates nothing.
    #[must_use]
    pub fn find(&self, host: &str) -> Option<&Arc<Route>> {
        if host == MANAGEMENT_HOST {
            return None;
        }
        self.0.find(host)
    }

    /// All routes: names, then wildcards, then the default, each in alphabetical order.
    #[must_use]
    pub fn routes(&self) -> Vec<&Route> {
        let mut routes: Vec<&Route> = self.0.values().map(AsRef::as_ref).collect();
        routes
            .sort_by_cached_key(|route| (std::cmp::Reverse(kind(&route.pattern)), route.pattern.to_string()));
        routes
    }

    fn insert(&mut self, route: Route) {
        let pattern = route.pattern.clone();
        self.0.insert(&pattern, Arc::new(route));
    }
}

impl Refusal {
    /// The connector that was refused.
    #[must_use]
    pub fn connector(&self) -> Uuid {
        match self {
            Self::NotGranted { connector, .. } | Self::Taken { connector, .. } => *connector,
        }
    }

    /// The tunnel that was refused.
    #[must_use]
    pub fn tunnel(&self) -> TunnelId {
        match self {
            Self::NotGranted { tunnel, .. } | Self::Taken { tunnel, .. } => *tunnel,
        }
    }

    /// What was refused.
    #[must_use]
    pub fn pattern(&self) -> &HostPattern {
        match self {
            Self::NotGranted { pattern, .. } | Self::Taken { pattern, .. } => pattern,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted { tunnel, connector, pattern } => write!(
                f,
                "`{pattern}` is not granted to tunnel {tunnel}, but its connector {connector} claims it; \
                 add it to `hostnames` of the tunnel to allow it"
            ),
            Self::Taken { tunnel, connector, pattern, holder } => write!(
                f,
                "`{pattern}` belongs to tunnel {holder}, but connector {connector} of tunnel {tunnel} claims it too; \
                 tunnel {holder} keeps it until its own rules drop it, or `adit tunnel release` takes it away"
            ),
        }
    }
}

fn kind(pattern: &HostPattern) -> u8 {
    match pattern {
        HostPattern::Any => 0,
        HostPattern::Wildcard(_) => 1,
        HostPattern::Exact(_) => 2,
    }
}

#[cfg(test)]
mod tests;
