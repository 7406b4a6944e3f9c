//! What is on disk: how large each is and when it was used last. About 50 bytes for each.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;

/// Parts of it, so that two workers rarely wait for each other.
const SHARDS: usize = 16;
/// Of so many, the one that was used longest ago goes first.
const SAMPLE: usize = 8;
/// Sizes are counted in blocks, as disks do.
const BLOCK: u64 = 4096;

/// A key as a number, in two halves.
pub(crate) type Number = [u64; 2];

/// What is known of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    blocks: u32,
    /// Seconds since the epoch.
    used: u32,
}

#[derive(Debug)]
pub(crate) struct Index {
    shards: [Mutex<IndexMap<Number, Entry>>; SHARDS],
    bytes: AtomicU64,
    random: RandomState,
    draws: AtomicU64,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            bytes: AtomicU64::new(0),
            random: RandomState::new(),
            draws: AtomicU64::new(0),
        }
    }
}

impl Index {
    fn shard(&self, number: Number) -> MutexGuard<'_, IndexMap<Number, Entry>> {
        lock(self.shards.get(number[0] as usize % SHARDS).unwrap_or(&self.shards[0]))
    }

    /// Whether one is there; it counts as used.
    pub(crate) fn find(&self, number: Number, now: u32) -> bool {
        let mut shard = self.shard(number);
        let Some(entry) = shard.get_mut(&number) else { return false };
        entry.used = entry.used.max(now);
        true
    }

    pub(crate) fn insert(&self, number: Number, size: u64, used: u32) {
        let blocks = u32::try_from(size.div_ceil(BLOCK)).unwrap_or(u32::MAX);
        let before = self.shard(number).insert(number, Entry { blocks, used });
        self.bytes.fetch_add(u64::from(blocks) * BLOCK, Ordering::Relaxed);
        self.forget(before);
    }

    pub(crate) fn remove(&self, number: Number) -> bool {
        let before = self.shard(number).swap_remove(&number);
        self.forget(before);
        before.is_some()
    }

    fn forget(&self, entry: Option<Entry>) {
        let bytes = entry.map_or(0, |entry| u64::from(entry.blocks) * BLOCK);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes out those that have to go for `most` bytes, up to a number at once.
    pub(crate) fn evict(&self, most: u64, at_once: usize) -> Vec<Number> {
        let mut gone = Vec::new();
        while self.bytes() > most && gone.len() < at_once {
            let Some(number) = self.oldest_of_some() else { break };
            self.remove(number);
            gone.push(number);
        }
        gone
    }

    fn oldest_of_some(&self) -> Option<Number> {
        let drawn = (0..SAMPLE).filter_map(|_| self.draw());
        drawn.min_by_key(|(_, entry)| entry.used).map(|(number, _)| number)
    }

    fn draw(&self) -> Option<(Number, Entry)> {
        let random = self.random.hash_one(self.draws.fetch_add(1, Ordering::Relaxed)) as usize / 2;
        // From a random part on, the first one that has something.
        (0..SHARDS).find_map(|step| {
            let shard = lock(self.shards.get((random + step) % SHARDS)?);
            let at = (random / SHARDS).checked_rem(shard.len())?;
            shard.get_index(at).map(|(number, entry)| (*number, *entry))
        })
    }

    /// Takes out those that nobody has used since.
    pub(crate) fn unused_since(&self, limit: u32) -> Vec<Number> {
        let mut gone = Vec::new();
        for shard in &self.shards {
            let old = lock(shard);
            gone.extend(old.iter().filter(|(_, entry)| entry.used < limit).map(|(number, _)| *number));
        }
        gone.retain(|number| self.remove(*number));
        gone
    }

    pub(crate) fn numbers(&self) -> Vec<Number> {
        self.shards.iter().flat_map(|shard| lock(shard).keys().copied().collect::<Vec<_>>()).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn lock(shard: &Mutex<IndexMap<Number, Entry>>) -> MutexGuard<'_, IndexMap<Number, Entry>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_and_the_least_used_go_first() {
        let index = Index::default();
        for number in 0..1000_u64 {
            index.insert([number, 0], 4096, number as u32);
        }
        assert_eq!((index.count(), index.bytes()), (1000, 1000 * 4096));
        let gone = index.evict(500 * 4096, usize::MAX);
        assert_eq!((gone.len(), index.bytes()), (500, 500 * 4096));
        let old = gone.iter().filter(|number| number[0] < 500).count();
        assert!(old > 400, "{old} of 500 were old");
        index.insert(gone[0], 1, 5);
        index.insert(gone[0], 10_000, 5);
        assert_eq!(index.bytes(), 500 * 4096 + 3 * 4096, "counted once");
    }

    #[test]
    fn what_nobody_uses_goes() {
        let index = Index::default();
        index.insert([1, 0], 1, 10);
        index.insert([2, 0], 1, 10);
        assert!(index.find([2, 0], 20));
        assert_eq!(index.unused_since(15), [[1, 0]]);
        assert!(!index.find([1, 0], 30));
        assert!(index.evict(0, usize::MAX).len() == 1 && index.count() == 0 && index.bytes() == 0);
    }
}
