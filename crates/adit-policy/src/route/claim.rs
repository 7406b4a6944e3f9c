//! From grants and claims to candidates: what each connector, or the grant alone, would like to have as a route.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Claimant, Owners, Refusal};
use crate::host::{HostPattern, MANAGEMENT_HOST, Specificity};
use crate::ingress::Claims;
use crate::limits::CLAIMED_HOSTS_MAX;
use crate::snapshot::{Snapshot, Tunnel, TunnelId};

/// Something that would like to be a route.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) tunnel: TunnelId,
    pub(super) pattern: HostPattern,
    /// How narrow the grant is that allows it.
    pub(super) grant: Specificity,
    pub(super) voice: Voice,
}

/// Who asks for the route.
#[derive(Clone, Copy, Debug)]
pub(super) enum Voice {
    /// A connector that has a rule for these names, or that has not said.
    Named(Uuid),
    /// A connector whose last rule answers everything.
    CatchAll(Uuid),
    /// Nobody: the names are granted.
    Grant,
}

/// What all of them would like, owners first and then in the order of arrival; and the claims that no grant covers.
pub(super) fn candidates(
    snapshot: &Snapshot,
    claimants: &[Claimant],
    owners: &Owners,
) -> (Vec<Candidate>, Vec<Refusal>) {
    let mut wishes = Wishes::default();
    for (pattern, owner) in owners.list() {
        if let Some(tunnel) = snapshot.tunnel(owner.tunnel) {
            wishes.push(tunnel, pattern, Voice::Grant);
        }
    }
    for claimant in claimants {
        if let Some(tunnel) = snapshot.tunnel(claimant.tunnel) {
            wishes.hear(tunnel, claimant);
        }
    }
    let seen: HashSet<TunnelId> = claimants.iter().map(|claimant| claimant.tunnel).collect();
    for tunnel in snapshot.tunnels() {
        wishes.add_granted(tunnel, seen.contains(&tunnel.id));
    }
    (wishes.candidates, wishes.refusals)
}

/// The patterns that a connector of a tunnel claims, as far as they are granted. `None`: it has not said.
pub(super) fn claimed(tunnel: &Tunnel, claims: Option<&Claims>) -> HashSet<HostPattern> {
    let mut wishes = Wishes::default();
    let claimant = Claimant { tunnel: tunnel.id, connector: Uuid::nil(), claims: claims.cloned() };
    wishes.hear(tunnel, &claimant);
    wishes.candidates.into_iter().map(|candidate| candidate.pattern).collect()
}

#[derive(Default)]
struct Wishes {
    candidates: Vec<Candidate>,
    refusals: Vec<Refusal>,
}

impl Wishes {
    fn hear(&mut self, tunnel: &Tunnel, claimant: &Claimant) {
        let connector = claimant.connector;
        let held = tunnel.held.as_ref().map(|held| &held.claims);
        let Some(claims) = held.or(claimant.claims.as_ref()) else {
            self.add_below(tunnel, &HostPattern::Any, Voice::Named(connector));
            return;
        };
        for pattern in claims.hosts.iter().take(CLAIMED_HOSTS_MAX) {
            if !self.add_below(tunnel, pattern, Voice::Named(connector)) {
                self.refusals.push(Refusal::NotGranted {
                    tunnel: tunnel.id,
                    connector,
                    pattern: pattern.clone(),
                });
            }
        }
        if claims.catch_all {
            self.add_below(tunnel, &HostPattern::Any, Voice::CatchAll(connector));
        }
    }

    /// Adds the granted part of a claim. Says whether there is one.
    fn add_below(&mut self, tunnel: &Tunnel, claim: &HostPattern, voice: Voice) -> bool {
        let mut granted_any = false;
        for granted in tunnel.grant.patterns() {
            let Some(pattern) = granted.intersection(claim).filter(|common| !is_reserved(common)) else {
                continue;
            };
            granted_any = true;
            if may_be_default(pattern, voice) {
                self.push(tunnel, pattern, voice);
            }
        }
        granted_any
    }

    /// Adds what is known even if no connector speaks for it: exact names always, wildcards of a tunnel never seen.
    fn add_granted(&mut self, tunnel: &Tunnel, seen: bool) {
        for pattern in tunnel.grant.patterns() {
            let known = match pattern {
                HostPattern::Exact(_) => !is_reserved(pattern),
                HostPattern::Wildcard(_) => !seen,
                HostPattern::Any => false,
            };
            if known {
                self.push(tunnel, pattern, Voice::Grant);
            }
        }
    }

    fn push(&mut self, tunnel: &Tunnel, pattern: &HostPattern, voice: Voice) {
        let Some(grant) = tunnel.grant.best_cover(pattern) else {
            return;
        };
        self.candidates.push(Candidate { tunnel: tunnel.id, pattern: pattern.clone(), grant, voice });
    }
}

/// Only a last rule that answers everything makes a tunnel the default.
fn may_be_default(pattern: &HostPattern, voice: Voice) -> bool {
    *pattern != HostPattern::Any || matches!(voice, Voice::CatchAll(_))
}

fn is_reserved(pattern: &HostPattern) -> bool {
    matches!(pattern, HostPattern::Exact(name) if name.as_str() == MANAGEMENT_HOST)
}
