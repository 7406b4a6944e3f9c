//! What belongs to one worker: its number, its lane of the access log, its request ids.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Instant;

use adit_policy::limits::GONE_INTERVAL;
use adit_telemetry::access_log::Lane;
use adit_tunnel::edge::cut_stalled;
use adit_tunnel::limits::STALL_INTERVAL;

use crate::Edge;
use crate::gone::Sockets;

/// One worker.
pub(crate) struct Worker {
    /// The edge that it works for. What belongs to a request reaches the edge through its worker, so that workers do not
    /// share the count of references.
    pub(crate) edge: Arc<Edge>,
    /// Which one.
    pub(crate) index: usize,
    /// How many there are.
    pub(crate) count: usize,
    pub(crate) lane: Lane,
    /// The sockets of its visitors.
    pub(crate) sockets: Sockets,
    ids: Ids,
}

impl Worker {
    pub(crate) fn new(edge: Arc<Edge>, index: usize, count: usize) -> Self {
        let lane = edge.access_log.lane();
        Self { edge, index, count, lane, sockets: Sockets::default(), ids: Ids::default() }
    }

    /// Looks after what nobody else looks at: sockets of visitors that are gone, and responses that are stalled. Never
    /// resolves.
    pub(crate) async fn sweep(&self) {
        let mut swept = Instant::now();
        loop {
            tokio::time::sleep(STALL_INTERVAL).await;
            let now = Instant::now();
            cut_stalled(now);
            if now.saturating_duration_since(swept) >= GONE_INTERVAL {
                self.sockets.sweep();
                swept = now;
            }
        }
    }

    /// An id that no other request has, and that nobody can guess from another one.
    pub(crate) fn next_id(&self) -> u128 {
        self.ids.next()
    }
}

/// Request ids: a counter under a keyed hash. A system call for randomness would cost a third of a microsecond each.
#[derive(Default)]
struct Ids {
    keys: [RandomState; 2],
    counter: Cell<u64>,
}

impl Ids {
    fn next(&self) -> u128 {
        let number = self.counter.get();
        self.counter.set(number.wrapping_add(1));
        let [high, low] = self.keys.each_ref().map(|key| u128::from(key.hash_one(number)));
        high << 64 | low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_do_not_repeat_on_one_worker_or_between_two() {
        let workers = [Ids::default(), Ids::default()];
        let ids: HashSet<u128> = workers.iter().flat_map(|ids| (0..10_000).map(|_| ids.next())).collect();
        assert_eq!(ids.len(), 20_000);
    }
}
