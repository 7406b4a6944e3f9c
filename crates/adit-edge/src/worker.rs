//! What belongs to one worker: its number, its lane of the access log, its request ids.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use adit_telemetry::access_log::Lane;

use crate::Edge;

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
    ids: Ids,
}

impl Worker {
    pub(crate) fn new(edge: Arc<Edge>, index: usize, count: usize) -> Self {
        let lane = edge.access_log.lane();
        Self { edge, index, count, lane, ids: Ids::default() }
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
