//! Where rate limits keep their visitors: as the library wants it, and bounded over all rules together.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use adit_policy::limits::LIMIT_KEYS_MAX;
use adit_policy::shares;
use adit_policy::snapshot::TunnelId;
use governor::nanos::Nanos;
use governor::state::StateStore;

/// Parts of the table, so that two workers rarely wait for each other.
const SHARDS: usize = 8;

/// What is known of one visitor of one rule.
#[derive(Clone, Copy, Debug)]
struct Debt {
    /// When the visitor will owe nothing, in nanoseconds since the table was made.
    free_from: u64,
    /// Whose rule it is: tunnels share the room of the table.
    tunnel: TunnelId,
}

type Shard = HashMap<u64, Debt>;

/// All visitors of all rules.
#[derive(Debug)]
pub(super) struct Visitors {
    shards: [Mutex<Shard>; SHARDS],
    start: Instant,
    keys: RandomState,
}

impl Default for Visitors {
    fn default() -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, start: Instant::now(), keys: RandomState::new() }
    }
}

impl Visitors {
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        // The remainder is always an index.
        let shard = self.shards.get(key as usize % SHARDS).unwrap_or(&self.shards[0]);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whoever owes nothing is as good as absent; if most owe something, tunnels give up what they have beyond their fair
    /// share: a flood must not grow the table, nor make it forget the visitors of another tunnel, and sweeping it must be rare.
    fn make_room(&self, shard: &mut Shard) {
        if shard.len() < LIMIT_KEYS_MAX / SHARDS {
            return;
        }
        let now = self.now();
        shard.retain(|_, debt| debt.free_from > now);
        shares::cut(shard, LIMIT_KEYS_MAX / SHARDS / 4 * 3, |_, debt| debt.tunnel);
    }
}

/// The part of one rule.
#[derive(Debug)]
pub(super) struct Store {
    visitors: Arc<Visitors>,
    /// Tells its visitors from those of other rules.
    rule: u64,
    tunnel: TunnelId,
    /// When the rule's own time begins, on the table's clock.
    start: u64,
}

impl Store {
    pub(super) fn new(visitors: Arc<Visitors>, tunnel: TunnelId) -> Self {
        let start = visitors.now();
        Self { rule: visitors.keys.hash_one((start, tunnel)), tunnel, start, visitors }
    }
}

impl StateStore for Store {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let key = self.visitors.keys.hash_one((self.rule, key));
        let mut shard = self.visitors.shard(key);
        let known = shard.get(&key).map(|debt| Nanos::from(debt.free_from.saturating_sub(self.start)));
        let (outcome, free_from) = measure(known)?;
        if known.is_none() {
            self.visitors.make_room(&mut shard);
        }
        let free_from = u64::try_from(Duration::from(free_from).as_nanos()).unwrap_or(u64::MAX);
        let free_from = free_from.saturating_add(self.start);
        shard.insert(key, Debt { free_from, tunnel: self.tunnel });
        Ok(outcome)
    }
}
