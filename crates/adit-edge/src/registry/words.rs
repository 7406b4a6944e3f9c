//! What connectors say about requests for their names, and what comes of it together with the operator's word.

use std::collections::HashMap;
use std::sync::Arc;

use adit_policy::policy::{Layer, Layers, Policies};
use adit_policy::route::{Claimant, Route, RouteTable};
use adit_policy::snapshot::Snapshot;
use uuid::Uuid;

/// What each connector said.
#[derive(Debug, Default)]
pub(super) struct Words(HashMap<Uuid, Arc<Layers>>);

impl Words {
    pub(super) fn hear(&mut self, connector: Uuid, layers: Layers) {
        self.0.insert(connector, Arc::new(layers));
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
        for route in routes.routes() {
            if let Some(layer) = self.about(snapshot, route, claimants) {
                heard.add_shared(&route.pattern, layer);
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
        latest_first.find_map(|claimant| self.0.get(&claimant.connector)?.find(&route.pattern).cloned())
    }
}
