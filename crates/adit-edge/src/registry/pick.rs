//! Which connection gets a request: the least busy connector, and of its connections the one that costs least.
//!
//! Connectors are compared by requests in flight, and take turns when equal. The connections of one connector are filled
//! one after the other: one driver that flushes many requests at once costs less than several that flush few.

use std::sync::Arc;

use adit_policy::route::Route;
use uuid::Uuid;

use super::{Session, Speaker};
use crate::context::RequestContext;
use crate::worker::Worker;

/// Requests in flight until the next connection is taken: enough to flush together, few enough not to queue.
const FILL: usize = 32;
/// A connection of another worker costs a wake-up there: it must be this much less busy.
const OTHER_WORKER: usize = 8;

/// What a connection is chosen for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The request or stream.
    pub(super) request: &'a RequestContext,
    /// Whose rules judge it: only these connectors may have it.
    pub(super) speaker: Option<&'a Speaker>,
    /// Whether the connection has to carry UDP.
    pub(super) udp: bool,
    /// Connections that were asked already.
    pub(super) tried: &'a [Uuid],
}

/// The live connections of one connector.
#[derive(Debug)]
pub(super) struct Replica {
    connector: Uuid,
    sessions: Vec<Arc<Session>>,
}

/// Groups connections by connector, in order of arrival.
pub(super) fn add(replicas: &mut Vec<Replica>, session: &Arc<Session>) {
    match replicas.iter_mut().find(|replica| replica.connector == session.connector) {
        Some(replica) => replica.sessions.push(session.clone()),
        None => replicas.push(Replica { connector: session.connector, sessions: vec![session.clone()] }),
    }
}

/// The best connection for a route.
pub(super) fn pick<'r>(
    replicas: &'r [Replica],
    route: &Route,
    wanted: Wanted<'_>,
) -> Option<&'r Arc<Session>> {
    let may = |replica: &&Replica| {
        let claims = route.connectors.is_empty() || route.connectors.contains(&replica.connector);
        claims && wanted.speaker.is_none_or(|speaker| speaker.includes(replica.connector))
    };
    let turn = wanted.request.turn();
    let ranked = |(at, replica): (usize, &'r Replica)| {
        let (suspect, in_flight) = replica.load(wanted)?;
        Some(((replica.failed(wanted), suspect, in_flight, (at + turn) % replicas.len()), replica))
    };
    let candidates = replicas.iter().filter(may).enumerate().filter_map(ranked);
    let (_, replica) = candidates.min_by_key(|(rank, _)| *rank)?;
    replica.usable(wanted).min_by_key(|session| Load::of(session, &wanted.request.worker).rank())
}

impl Replica {
    fn usable<'r>(&'r self, wanted: Wanted<'_>) -> impl Iterator<Item = &'r Arc<Session>> {
        let Wanted { udp, tried, .. } = wanted;
        self.sessions.iter().filter(move |session| {
            session.is_configured()
                && !session.connection.is_draining()
                && !tried.contains(&session.id)
                && (!udp || session.connection.carries_udp())
        })
    }

    /// Whether one of its connections was tried in vain: if its process died, the others died with it.
    fn failed(&self, wanted: Wanted<'_>) -> bool {
        self.sessions.iter().any(|session| wanted.tried.contains(&session.id))
    }

    /// Whether all of its connections are suspect, and its requests in flight; `None` when it has no connection to offer.
    fn load(&self, wanted: Wanted<'_>) -> Option<(bool, usize)> {
        let loads = self
            .usable(wanted)
            .map(|session| (session.connection.is_suspect(), session.connection.in_flight()));
        loads.reduce(|(suspect, sum), (other, in_flight)| (suspect && other, sum + in_flight))
    }
}

/// What is looked at in a connection.
#[derive(Clone, Copy, Debug)]
struct Load {
    suspect: bool,
    in_flight: usize,
    /// Whether another worker owns it.
    away: bool,
    /// Whether it is not the one that this worker fills first: with each worker at another one, the connector's workers
    /// have equal parts too.
    second: bool,
}

impl Load {
    fn of(session: &Session, worker: &Worker) -> Self {
        Self {
            suspect: session.connection.is_suspect(),
            in_flight: session.connection.in_flight(),
            away: session.worker != worker.index,
            second: usize::from(session.index) % worker.count.max(1) != worker.index,
        }
    }

    fn rank(self) -> (bool, usize, bool, bool, usize) {
        let weight = if self.away { OTHER_WORKER } else { 0 };
        (self.suspect, (self.in_flight + weight) / FILL, self.away, self.second, self.in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(loads: &[Load]) -> usize {
        (0..loads.len()).min_by_key(|at| loads[*at].rank()).unwrap()
    }

    #[test]
    fn connections_are_filled_one_after_the_other() {
        let load = |in_flight, away, second| Load { suspect: false, in_flight, away, second };
        assert_eq!(
            best(&[load(0, false, true), load(20, false, false)]),
            1,
            "the first one, until it is full"
        );
        assert_eq!(best(&[load(0, false, true), load(FILL, false, false)]), 0, "then the next");
        assert_eq!(
            best(&[load(0, true, false), load(20, false, true)]),
            1,
            "one's own before another worker's"
        );
        assert_eq!(best(&[load(0, true, false), load(FILL, false, true)]), 0, "unless it is much busier");
        let suspect = Load { suspect: true, ..load(0, false, false) };
        assert_eq!(best(&[suspect, load(500, true, true)]), 1, "a suspect one last");
    }
}
