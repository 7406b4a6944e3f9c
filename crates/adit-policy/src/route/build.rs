//! From candidates to the table: the narrower grant goes first, then the earlier claim.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::claim::{Candidate, Voice, candidates};
use super::{Claimant, Owners, Refusal, Route, RouteTable};
use crate::host::{HostPattern, Specificity};
use crate::snapshot::{Snapshot, TunnelId};

pub(super) fn build(
    snapshot: &Snapshot,
    claimants: &[Claimant],
    owners: &Owners,
) -> (RouteTable, Vec<Refusal>) {
    let (mut candidates, refusals) = candidates(snapshot, claimants, owners);
    // The sort is stable: among equal grants owners stay first, then the order of arrival.
    candidates.sort_by_key(|candidate| Reverse(candidate.grant));
    let mut builder = Builder { refusals, ..Builder::default() };
    for candidate in candidates {
        builder.add(candidate);
    }
    builder.finish()
}

/// A route in the making.
struct Held {
    tunnel: TunnelId,
    grant: Specificity,
    named: Vec<Uuid>,
    catch_all: Vec<Uuid>,
}

#[derive(Default)]
struct Builder {
    held: HashMap<HostPattern, Held>,
    refusals: Vec<Refusal>,
    refused: HashSet<(Uuid, HostPattern)>,
}

impl Builder {
    fn add(&mut self, candidate: Candidate) {
        let holder = self.holder(&candidate).filter(|holder| *holder != candidate.tunnel);
        match holder {
            Some(holder) => self.refuse(candidate, holder),
            None => self.hold(candidate),
        }
    }

    /// The tunnel that has the names already: by the same pattern, or by a wider one that a narrower grant allows.
    fn holder(&self, candidate: &Candidate) -> Option<TunnelId> {
        if let Some(held) = self.held.get(&candidate.pattern) {
            return Some(held.tunnel);
        }
        let above = self.nearest_above(&candidate.pattern)?;
        (above.grant > candidate.grant).then_some(above.tunnel)
    }

    fn nearest_above(&self, pattern: &HostPattern) -> Option<&Held> {
        let mut parent = match pattern {
            HostPattern::Any => return None,
            HostPattern::Wildcard(name) | HostPattern::Exact(name) => name.parent(),
        };
        while let Some(suffix) = parent {
            parent = suffix.parent();
            if let Some(held) = self.held.get(&HostPattern::Wildcard(suffix)) {
                return Some(held);
            }
        }
        self.held.get(&HostPattern::Any)
    }

    fn hold(&mut self, candidate: Candidate) {
        let held = match self.held.entry(candidate.pattern) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Held::new(candidate.tunnel, candidate.grant)),
        };
        held.hear(candidate.voice);
    }

    /// Says it once for each connector and pattern. A grant that nobody uses has nobody to tell.
    fn refuse(&mut self, candidate: Candidate, holder: TunnelId) {
        let Candidate { tunnel, pattern, voice, .. } = candidate;
        let (Voice::Named(connector) | Voice::CatchAll(connector)) = voice else {
            return;
        };
        if self.refused.insert((connector, pattern.clone())) {
            self.refusals.push(Refusal::Taken { tunnel, connector, pattern, holder });
        }
    }

    fn finish(self) -> (RouteTable, Vec<Refusal>) {
        let mut table = RouteTable::default();
        for (pattern, held) in self.held {
            // A rule for the name beats a rule for everything, also between replicas of one tunnel.
            let connectors = if held.named.is_empty() { held.catch_all } else { held.named };
            table.insert(Route { tunnel: held.tunnel, pattern, connectors });
        }
        (table, self.refusals)
    }
}

impl Held {
    fn new(tunnel: TunnelId, grant: Specificity) -> Self {
        Self { tunnel, grant, named: Vec::new(), catch_all: Vec::new() }
    }

    fn hear(&mut self, voice: Voice) {
        let (connectors, connector) = match voice {
            Voice::Named(connector) => (&mut self.named, connector),
            Voice::CatchAll(connector) => (&mut self.catch_all, connector),
            Voice::Grant => return,
        };
        if !connectors.contains(&connector) {
            connectors.push(connector);
        }
    }
}
