//! From candidates to the table: the narrower grant goes first, then the earlier claim.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use uuid::Uuid;

use super::claim::{Candidate, Voice, candidates};
use super::{Claimant, Refusal, Route, RouteTable};
use crate::host::{HostPattern, Hostname, Specificity};
use crate::snapshot::{Snapshot, TunnelId};

pub(super) fn build(snapshot: &Snapshot, claimants: &[Claimant]) -> (RouteTable, Vec<Refusal>) {
    let (mut candidates, mut refusals) = candidates(snapshot, claimants);
    // The sort is stable: among equal grants the order of arrival stays.
    candidates.sort_by_key(|candidate| Reverse(candidate.grant));
    let mut builder = Builder::default();
    for candidate in candidates {
        builder.add(candidate, &mut refusals);
    }
    (builder.finish(), refusals)
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
}

impl Builder {
    fn add(&mut self, candidate: Candidate, refusals: &mut Vec<Refusal>) {
        let holder = self.holder(&candidate).filter(|holder| *holder != candidate.tunnel);
        match holder {
            Some(holder) => refuse(candidate, holder, refusals),
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
        let mut rest = match pattern {
            HostPattern::Any => return None,
            HostPattern::Wildcard(name) | HostPattern::Exact(name) => name.as_str(),
        };
        while let Some((_, parent)) = rest.split_once('.') {
            let wildcard = Hostname::parse(parent).ok().map(HostPattern::Wildcard)?;
            if let Some(held) = self.held.get(&wildcard) {
                return Some(held);
            }
            rest = parent;
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

    fn finish(self) -> RouteTable {
        let mut table = RouteTable::default();
        for (pattern, held) in self.held {
            // A rule for the name beats a rule for everything, also between replicas of one tunnel.
            let connectors = if held.named.is_empty() { held.catch_all } else { held.named };
            table.insert(Route { tunnel: held.tunnel, pattern, connectors });
        }
        table
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

/// Says it once for each connector and pattern. A grant that nobody uses has nobody to tell.
fn refuse(candidate: Candidate, holder: TunnelId, refusals: &mut Vec<Refusal>) {
    let (Voice::Named(connector) | Voice::CatchAll(connector)) = candidate.voice else {
        return;
    };
    let refusal = Refusal::Taken { tunnel: candidate.tunnel, connector, pattern: candidate.pattern, holder };
    if !refusals.contains(&refusal) {
        refusals.push(refusal);
    }
}
