//! The validated, immutable whole that the edge works from. A request sees exactly one.

mod secret;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::grant::Grant;
use crate::host::Hostname;
use crate::host_policy::HostPolicies;
use crate::ingress::{Claims, RuleOrder};
use crate::policy::rules::RuleList;
use crate::policy::{Layer, Layers};
use crate::port::Port;
use crate::quick::QuickTunnels;
use crate::shutoff::Shutoff;
use crate::trust::Trust;

pub use secret::{AcceptedSecret, TunnelSecret};

/// The identity of a tunnel. It never changes, whatever machine its connectors run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelId(pub Uuid);

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// What the plain HTTP listener does with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpMode {
    /// Answers with a redirect to HTTPS.
    #[default]
    Redirect,
    /// Serves it, for an edge behind a platform that ends TLS.
    Serve,
}

/// A named identity that connectors run and host names belong to.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// Its identity on the wire.
    pub id: TunnelId,
    /// Its name for people.
    pub name: String,
    /// What its connectors prove themselves with.
    pub secret: TunnelSecret,
    /// The account that its credentials name. `None` accepts any.
    pub account_tag: Option<String>,
    /// What it may claim.
    pub grant: Grant,
    /// The configuration of its connectors, where the edge holds it; they keep none of their own then.
    pub held: Option<Held>,
}

/// A configuration that the edge holds and pushes (cloudflared: "remotely managed").
#[derive(Clone, Debug)]
pub struct Held {
    /// As it travels.
    pub json: Arc<[u8]>,
    /// What its rules claim.
    pub claims: Claims,
    /// Its rules, and what they say about requests.
    pub rules: Arc<RuleList>,
    /// Which of its rules gets a request.
    pub order: Arc<RuleOrder>,
}

/// Claims and rules follow from what travels.
impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

/// The validated whole.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Host names live under it.
    pub domain: Hostname,
    /// What the plain HTTP listener does.
    pub http_mode: HttpMode,
    tunnels: Vec<Tunnel>,
    ports: Vec<Port>,
    quick: Option<QuickTunnels>,
    hosts: Arc<HostPolicies>,
    layers: Arc<(Layer, Layers)>,
    trust: Option<Arc<Trust>>,
    shutoff: Arc<Shutoff>,
    by_id: HashMap<TunnelId, usize>,
    by_name: HashMap<String, usize>,
}

impl Snapshot {
    /// A whole of these tunnels. Where an id or a name occurs twice, the first one is found by it.
    #[must_use]
    pub fn new(domain: Hostname, http_mode: HttpMode, tunnels: Vec<Tunnel>) -> Self {
        let mut by_id = HashMap::with_capacity(tunnels.len());
        let mut by_name = HashMap::with_capacity(tunnels.len());
        for (index, tunnel) in tunnels.iter().enumerate() {
            by_id.entry(tunnel.id).or_insert(index);
            by_name.entry(tunnel.name.clone()).or_insert(index);
        }
        let (ports, quick, trust) = (Vec::new(), None, None);
        let (hosts, layers, shutoff) = (Arc::default(), Arc::default(), Arc::default());
        Self { domain, http_mode, tunnels, ports, quick, hosts, layers, trust, shutoff, by_id, by_name }
    }

    /// The same with ports that lead into tunnels without HTTP.
    #[must_use]
    pub fn with_ports(mut self, ports: Vec<Port>) -> Self {
        self.ports = ports;
        self
    }

    /// The same with quick tunnels for some.
    #[must_use]
    pub fn with_quick(mut self, quick: Option<QuickTunnels>) -> Self {
        self.quick = quick;
        self
    }

    /// Who gets quick tunnels; `None` for nobody.
    #[must_use]
    pub fn quick(&self) -> Option<&QuickTunnels> {
        self.quick.as_ref()
    }

    /// The same with policies for requests: of all names, and of some.
    #[must_use]
    pub fn with_layers(mut self, defaults: Layer, hostnames: Layers) -> Self {
        self.layers = Arc::new((defaults, hostnames));
        self
    }

    /// What the operator says about requests for all names.
    #[must_use]
    pub fn defaults(&self) -> &Layer {
        &self.layers.0
    }

    /// What the operator says about requests for some names.
    #[must_use]
    pub fn layers(&self) -> &Layers {
        &self.layers.1
    }

    /// The same with policies for names.
    #[must_use]
    pub fn with_hosts(mut self, hosts: HostPolicies) -> Self {
        self.hosts = Arc::new(hosts);
        self
    }

    /// The same behind proxies whose word counts.
    #[must_use]
    pub fn with_trust(mut self, trust: Option<Trust>) -> Self {
        self.trust = trust.map(Arc::new);
        self
    }

    /// The same with more tunnels. Where a name or an id is taken, the one that was there is found by it.
    #[must_use]
    pub fn with_more(&self, tunnels: impl IntoIterator<Item = Tunnel>) -> Self {
        let all = self.tunnels.iter().cloned().chain(tunnels).collect();
        let Self { ports, quick, hosts, layers, trust, shutoff, .. } = self.clone();
        Self {
            ports,
            quick,
            hosts,
            layers,
            trust,
            shutoff,
            ..Self::new(self.domain.clone(), self.http_mode, all)
        }
    }

    /// The same with names that are shut off.
    #[must_use]
    pub fn with_shutoff(mut self, shutoff: Shutoff) -> Self {
        self.shutoff = Arc::new(shutoff);
        self
    }

    /// Names that are shut off.
    #[must_use]
    pub fn shutoff(&self) -> &Shutoff {
        &self.shutoff
    }

    /// How TLS is done for names.
    #[must_use]
    pub fn hosts(&self) -> &HostPolicies {
        &self.hosts
    }

    /// Proxies whose word counts; `None` for nobody.
    #[must_use]
    pub fn trust(&self) -> Option<&Trust> {
        self.trust.as_deref()
    }

    /// The ports that lead into tunnels without HTTP.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// The tunnels, in the order of the configuration.
    #[must_use]
    pub fn tunnels(&self) -> &[Tunnel] {
        &self.tunnels
    }

    /// The tunnel of this identity.
    #[must_use]
    pub fn tunnel(&self, id: TunnelId) -> Option<&Tunnel> {
        self.by_id.get(&id).and_then(|&index| self.tunnels.get(index))
    }

    /// The tunnel of this name.
    #[must_use]
    pub fn tunnel_by_name(&self, name: &str) -> Option<&Tunnel> {
        self.by_name.get(name).and_then(|&index| self.tunnels.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(id: u128, name: &str) -> Tunnel {
        Tunnel {
            id: TunnelId(Uuid::from_u128(id)),
            name: name.to_owned(),
            secret: TunnelSecret::new(vec![1; 32]),
            account_tag: None,
            grant: Grant::default(),
            held: None,
        }
    }

    #[test]
    fn tunnels_are_found_by_id_and_name() {
        let domain = Hostname::parse("home.example").unwrap();
        let snapshot =
            Snapshot::new(domain, HttpMode::Redirect, vec![tunnel(1, "a"), tunnel(2, "b"), tunnel(2, "c")]);
        assert_eq!(snapshot.tunnel(TunnelId(Uuid::from_u128(2))).unwrap().name, "b");
        assert_eq!(snapshot.tunnel_by_name("c").unwrap().id, TunnelId(Uuid::from_u128(2)));
        assert!(snapshot.tunnel(TunnelId(Uuid::from_u128(3))).is_none());
        assert!(snapshot.tunnel_by_name("d").is_none());
        assert_eq!(snapshot.tunnels().len(), 3);
    }
}
