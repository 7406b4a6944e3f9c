//! Where rate limits keep their visitors: as the library wants it, and bounded over all rules together.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use adit_policy::limits::LIMIT_KEYS_MAX;
use governor::nanos::Nanos;
use governor::state::StateStore;

/// Parts of the table, so that two workers rarely wait for each other.
const SHARDS: usize = 8;

/// Of each visitor of each rule: when he will owe nothing, in nanoseconds since the table was made.
#[derive(Debug)]
pub(super) struct Visitors {
    shards: [Mutex<HashMap<u64, u64>>; SHARDS],
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

    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, u64>> {
        // The remainder is always an index.
        let shard = self.shards.get(key as usize % SHARDS).unwrap_or(&self.shards[0]);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whoever owes nothing is as good as absent; if most owe something, half of them are forgotten: a flood must not grow
    /// the table, and sweeping it must be rare.
    fn make_room(&self, shard: &mut HashMap<u64, u64>) {
        let before = shard.len();
        if before < LIMIT_KEYS_MAX / SHARDS {
            return;
        }
        let now = self.now();
        shard.retain(|_, free_from| *free_from > now);
        if shard.len() > before / 2 {
            let mut index = 0;
            shard.retain(|_, _| {
                index += 1;
                index % 2 == 0
            });
        }
    }
}

/// The part of one rule.
#[derive(Debug)]
pub(super) struct Store {
    visitors: Arc<Visitors>,
    /// Tells its visitors from those of other rules.
    rule: u64,
    /// When the rule's own time begins, on the table's clock.
    start: u64,
}

impl Store {
    pub(super) fn new(visitors: Arc<Visitors>) -> Self {
        let start = visitors.now();
        Self { rule: visitors.keys.hash_one(start), start, visitors }
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
        let known = shard.get(&key).copied();
        let (outcome, free_from) = measure(known.map(|time| Nanos::from(time.saturating_sub(self.start))))?;
        if known.is_none() {
            self.visitors.make_room(&mut shard);
        }
        let free_from = u64::try_from(Duration::from(free_from).as_nanos()).unwrap_or(u64::MAX);
        shard.insert(key, free_from.saturating_add(self.start));
        Ok(outcome)
    }
}
