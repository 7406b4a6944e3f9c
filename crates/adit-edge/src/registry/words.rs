//! What connectors say about requests for their names, and what comes of it together with the operator's word.

use std::collections::HashMap;
use std::sync::Arc;

use adit_policy::host::HostMap;
use adit_policy::ingress::RuleOrder;
use adit_policy::policy::{Layer, Layers, Policies};
use adit_policy::route::{Claimant, Route, RouteTable};
use adit_policy::snapshot::{Snapshot, Tunnel, TunnelId};
use uuid::Uuid;

/// What a connector says about its rules.
#[derive(Clone, Debug, Default)]
pub struct Word {
    /// How requests are to be treated.
    pub layers: Layers,
    /// Which rule gets a request.
    pub order: Arc<RuleOrder>,
}

/// What each connector said.
#[derive(Debug, Default)]
pub(super) struct Words(HashMap<Uuid, Word>);

impl Words {
    pub(super) fn hear(&mut self, connector: Uuid, word: Word) {
        self.0.insert(connector, word);
    }

    /// Forgets those who claim nothing any more.
    pub(super) fn keep(&mut self, claimants: &[Claimant]) {
        self.0.retain(|connector, _| claimants.iter().any(|claimant| claimant.connector == *connector));
    }

    /// How requests are treated. A connector is heard about the names that it has, and about no others.
    pub(super) fn policies(
        &self,
        snapshot: &Snapshot,
        routes: &RouteTable,
        claimants: &[Claimant],
    ) -> Policies {
        let mut heard = Layers::default();
        let mut speakers: HostMap<TunnelId> = HostMap::default();
        let mut silent: Vec<&Route> = Vec::new();
        for route in routes.routes() {
            match self.about(snapshot, route, claimants) {
                Some(layer) => {
                    heard.add_shared(&route.pattern, layer);
                    speakers.insert(&route.pattern, route.tunnel);
                }
                None => silent.push(route),
            }
        }
        // What one tunnel says about `*.example` is not about the names below it that are another tunnel's.
        let nothing = Arc::new(Layer::default());
        for route in silent {
            if speakers.cover(&route.pattern).is_some_and(|speaker| *speaker != route.tunnel) {
                heard.add_shared(&route.pattern, nothing.clone());
            }
        }
        Policies::of(snapshot.defaults(), &heard, snapshot.layers())
    }

    /// The word about a route: that of the held configuration, else that of the connector that came last.
    fn about(&self, snapshot: &Snapshot, route: &Route, claimants: &[Claimant]) -> Option<Arc<Layer>> {
        let held = snapshot.tunnel(route.tunnel).and_then(|tunnel| tunnel.held.as_ref());
        if let Some(layer) = held.and_then(|held| held.layers.find(&route.pattern)) {
            return Some(layer.clone());
        }
        let serves = |claimant: &&Claimant| {
            let named = route.connectors.is_empty() || route.connectors.contains(&claimant.connector);
            claimant.tunnel == route.tunnel && named
        };
        let mut latest_first = claimants.iter().rev().filter(serves);
        latest_first
            .find_map(|claimant| self.0.get(&claimant.connector)?.layers.find(&route.pattern).cloned())
    }

    /// The rules that look at paths, by tunnel: those that the edge holds, and those of connectors.
    pub(super) fn orders(
        &self,
        snapshot: &Snapshot,
        claimants: &[Claimant],
    ) -> HashMap<TunnelId, Vec<Arc<RuleOrder>>> {
        let of_tunnel = |tunnel: &Tunnel| Some((tunnel.id, tunnel.held.as_ref()?.order.clone()));
        let held = snapshot.tunnels().iter().filter_map(of_tunnel);
        let own = claimants
            .iter()
            .filter_map(|claimant| Some((claimant.tunnel, self.0.get(&claimant.connector)?.order.clone())));
        let mut orders: HashMap<TunnelId, Vec<Arc<RuleOrder>>> = HashMap::new();
        for (tunnel, order) in held.chain(own).filter(|(_, order)| !order.ignores_paths()) {
            orders.entry(tunnel).or_default().push(order);
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use adit_policy::grant::Grant;
    use adit_policy::host::{HostPattern, Hostname};
    use adit_policy::ingress::Claims;
    use adit_policy::policy::{Patch, Voice};
    use adit_policy::route::Owners;
    use adit_policy::snapshot::{HttpMode, Tunnel, TunnelSecret};

    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    fn tunnel(id: u128, grant: &[&str]) -> Tunnel {
        Tunnel {
            id: TunnelId(Uuid::from_u128(id)),
            name: id.to_string(),
            secret: TunnelSecret::new(vec![1; 32]),
            account_tag: None,
            grant: Grant::new(grant.iter().map(|text| pattern(text))),
            held: None,
        }
    }

    #[test]
    fn a_word_is_about_the_names_of_its_own_tunnel() {
        let tunnels = vec![tunnel(1, &["*.x", "*"]), tunnel(2, &["v.x", "*.deep.x", "w.example"])];
        let snapshot = Snapshot::new(Hostname::parse("x").unwrap(), HttpMode::Redirect, tunnels);
        let claimant = |id: u128, hosts: &[&str]| Claimant {
            tunnel: TunnelId(Uuid::from_u128(id)),
            connector: Uuid::from_u128(id),
            claims: Some(Claims::new(hosts.iter().map(|text| pattern(text)), true)),
        };
        let claimants = [claimant(1, &["*.x"]), claimant(2, &["v.x", "*.deep.x"])];
        let (routes, _) = RouteTable::build(&snapshot, &claimants, &Owners::default());
        let mut words = Words::default();
        let mut loud = Layers::default();
        let word = Patch { body_limit: Some(Some(1)), ..Patch::default() };
        for about in ["*", "*.x"] {
            loud.add(&pattern(about), Layer { base: word.clone(), paths: Vec::new() });
        }
        words.hear(Uuid::from_u128(1), Word { layers: loud, ..Word::default() });
        let policies = words.policies(&snapshot, &routes, &claimants);
        for (host, heard) in [
            ("e.x", true),
            ("other.example", true),
            ("v.x", false),
            ("a.deep.x", false),
            ("w.example", false),
        ] {
            let said = policies
                .find(host)
                .is_some_and(|policy| policy.base.said.iter().any(|(_, voice)| *voice == Voice::Connector));
            assert_eq!(said, heard, "{host}");
        }
    }
}
