//! Who keeps a name that several tunnels may claim: the one that claimed it first, also while it is away.
//!
//! An owner loses a name when its own rules drop it, when its grant does not hold the name any longer, when it is deleted, or
//! when the operator releases it. Another tunnel's claim does not take it, unless the operator granted the name more narrowly.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::claim::claimed;
use super::{Claimant, RouteTable};
use crate::host::{HostPattern, Specificity};
use crate::limits::OWNED_NAMES_MAX;
use crate::snapshot::{Snapshot, TunnelId};

/// One name's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// Whether the tunnel has connectors with other rules, which do not name it. Then the silence of one that comes back says
    /// nothing: the one that names it may just be away.
    pub mixed: bool,
    /// The connector whose word made it so, where all others named it until then. Not remembered over a restart of the edge.
    pub mixed_by: Option<Uuid>,
}

impl Owner {
    /// A tunnel whose connectors all name it, or, if it is mixed, some of them.
    #[must_use]
    pub fn new(tunnel: TunnelId, mixed: bool) -> Self {
        Self { tunnel, mixed, mixed_by: None }
    }

    /// Takes in whether all connectors of the tunnel name it, by the word of this one.
    fn hear(&mut self, is_mixed: bool, connector: Uuid) {
        self.mixed_by = match (is_mixed, self.mixed) {
            (true, true) => self.mixed_by,
            (true, false) => Some(connector),
            (false, _) => None,
        };
        self.mixed = is_mixed;
    }
}

/// The owners of names that are granted by a wildcard. A name that is granted by itself belongs to one tunnel anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners(HashMap<HostPattern, Owner>);

impl Owners {
    /// These owners, as they were remembered.
    #[must_use]
    pub fn of(owners: impl IntoIterator<Item = (HostPattern, Owner)>) -> Self {
        Self(owners.into_iter().collect())
    }

    /// The owner of a pattern.
    #[must_use]
    pub fn find(&self, pattern: &HostPattern) -> Option<TunnelId> {
        self.0.get(pattern).map(|owner| owner.tunnel)
    }

    /// All of them, in alphabetical order.
    #[must_use]
    pub fn list(&self) -> Vec<(&HostPattern, Owner)> {
        let mut all: Vec<_> = self.0.iter().map(|(pattern, owner)| (pattern, *owner)).collect();
        all.sort_by_cached_key(|(pattern, _)| pattern.to_string());
        all
    }

    /// What a tunnel owns, in alphabetical order.
    #[must_use]
    pub fn of_tunnel(&self, tunnel: TunnelId) -> Vec<&HostPattern> {
        let own = self.list().into_iter().filter(|(_, owner)| owner.tunnel == tunnel);
        own.map(|(pattern, _)| pattern).collect()
    }

    /// Drops what the operator's word has ended: tunnels that are gone, names that are not granted any longer, and names that
    /// the rules which the edge holds for a tunnel do not have.
    pub fn renew(&mut self, snapshot: &Snapshot) {
        let held: HashMap<TunnelId, HashSet<HostPattern>> = snapshot
            .tunnels()
            .iter()
            .filter(|tunnel| tunnel.held.is_some())
            .map(|tunnel| (tunnel.id, claimed(tunnel, None)))
            .collect();
        self.0.retain(|pattern, owner| {
            let granted = snapshot.tunnel(owner.tunnel).is_some_and(|tunnel| tunnel.grant.covers(pattern));
            granted && held.get(&owner.tunnel).is_none_or(|names| names.contains(pattern))
        });
    }

    /// Drops what a tunnel's own rules do not name any longer. Called when this connector of it has said what it serves;
    /// `before` is what it had said until then, and `claimants` has the new word.
    pub fn hear(
        &mut self,
        snapshot: &Snapshot,
        (tunnel, connector): (TunnelId, Uuid),
        before: Option<&Claimant>,
        claimants: &[Claimant],
    ) {
        let Some(tunnel) = snapshot.tunnel(tunnel) else { return };
        let of = |claimant: &Claimant| claimed(tunnel, claimant.claims.as_ref());
        let has_said = |claimant: &&Claimant| has_said(snapshot, claimant);
        let before = before.filter(has_said).map(of).unwrap_or_default();
        let own = claimants.iter().filter(|claimant| claimant.tunnel == tunnel.id).filter(has_said);
        let now: Vec<HashSet<HostPattern>> = own.map(of).collect();
        self.0.retain(|pattern, owner| {
            if owner.tunnel != tunnel.id {
                return true;
            }
            let naming = now.iter().filter(|names| names.contains(pattern)).count();
            if naming > 0 {
                owner.hear(naming < now.len(), connector);
                return true;
            }
            owner.mixed && !before.contains(pattern)
        });
    }

    /// Drops what a connector named that was cut off, where another one has just come in its place and does not name it: the
    /// process was killed, and started again with other rules before the edge noticed. `claimants` are those that are left.
    pub fn succeed(&mut self, snapshot: &Snapshot, gone: &Claimant, successor: Uuid, claimants: &[Claimant]) {
        let Some(tunnel) = snapshot.tunnel(gone.tunnel) else { return };
        let of = |claimant: &Claimant| claimed(tunnel, claimant.claims.as_ref());
        let before = of(gone);
        let own = claimants.iter().filter(|claimant| claimant.tunnel == tunnel.id);
        let now: HashSet<HostPattern> =
            own.filter(|claimant| has_said(snapshot, claimant)).flat_map(of).collect();
        self.0.retain(|pattern, owner| {
            let is_dropped = owner.tunnel == tunnel.id
                && owner.mixed_by == Some(successor)
                && before.contains(pattern)
                && !now.contains(pattern);
            !is_dropped
        });
    }

    /// Takes in who has which name now, by the word of connectors that have said what they serve.
    pub fn note(&mut self, snapshot: &Snapshot, routes: &RouteTable, claimants: &[Claimant]) {
        let said = claimants.iter().filter(|claimant| has_said(snapshot, claimant));
        let said: HashSet<Uuid> = said.map(|claimant| claimant.connector).collect();
        for route in routes.routes() {
            let grant =
                snapshot.tunnel(route.tunnel).and_then(|tunnel| tunnel.grant.best_cover(&route.pattern));
            let known = self.find(&route.pattern);
            match grant {
                Some(Specificity::Exact) if known.is_some_and(|owner| owner != route.tunnel) => {
                    self.0.remove(&route.pattern);
                }
                None | Some(Specificity::Exact) => {}
                Some(_) if known == Some(route.tunnel) => {}
                Some(_) if route.connectors.iter().any(|connector| said.contains(connector)) => {
                    let owner = Owner::new(route.tunnel, false);
                    self.0.insert(route.pattern.clone(), owner);
                }
                // Nobody claims it now: it is only known.
                Some(_) => {}
            }
        }
        self.bound(routes);
    }

    /// A tunnel owns a bounded number of names; what it does not claim now goes first.
    fn bound(&mut self, routes: &RouteTable) {
        let mut counts: HashMap<TunnelId, usize> = HashMap::new();
        for owner in self.0.values() {
            *counts.entry(owner.tunnel).or_default() += 1;
        }
        counts.retain(|_, count| *count > OWNED_NAMES_MAX);
        if counts.is_empty() {
            return;
        }
        let claimed: HashSet<&HostPattern> = routes
            .routes()
            .into_iter()
            .filter(|route| !route.connectors.is_empty())
            .map(|route| &route.pattern)
            .collect();
        for with_claimed in [false, true] {
            self.0.retain(|pattern, owner| match counts.get_mut(&owner.tunnel) {
                Some(count) if *count > OWNED_NAMES_MAX && (with_claimed || !claimed.contains(pattern)) => {
                    *count -= 1;
                    false
                }
                _ => true,
            });
        }
    }

    /// Takes a name away from a tunnel, by the operator's word: it goes to the first other tunnel that claims it, or to
    /// whoever claims it next. Says whether the tunnel owned it.
    pub fn release(
        &mut self,
        snapshot: &Snapshot,
        tunnel: TunnelId,
        pattern: &HostPattern,
        claimants: &[Claimant],
    ) -> bool {
        if self.find(pattern) != Some(tunnel) {
            return false;
        }
        self.0.remove(pattern);
        let claims = |claimant: &&Claimant| {
            let other = snapshot.tunnel(claimant.tunnel).filter(|other| other.id != tunnel);
            other.is_some_and(|other| claimed(other, claimant.claims.as_ref()).contains(pattern))
        };
        if let Some(next) = claimants.iter().find(claims) {
            self.0.insert(pattern.clone(), Owner::new(next.tunnel, false));
        }
        true
    }
}

/// Whether it is known what a connector serves: it has said so, or the edge holds its rules.
fn has_said(snapshot: &Snapshot, claimant: &Claimant) -> bool {
    let is_held = || snapshot.tunnel(claimant.tunnel).is_some_and(|tunnel| tunnel.held.is_some());
    claimant.claims.is_some() || is_held()
}
