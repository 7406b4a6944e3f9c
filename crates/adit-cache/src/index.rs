//! What is on disk: how large each is and when it was used last. About 50 bytes for each.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use adit_policy::shares;
use indexmap::IndexMap;

/// Parts of it, so that two workers rarely wait for each other.
const SHARDS: usize = 16;
/// Of so many, the one that was used longest ago goes first.
const SAMPLE: usize = 8;
/// Sizes are counted in blocks, as disks do.
const BLOCK: u64 = 4096;

/// A key as a number, in two halves. The last two bytes stand for its owner.
pub(crate) type Number = [u64; 2];

/// Whose a number is: tunnels share the room.
type Owner = u16;

/// The number of an owner's key.
pub(crate) fn owned(number: Number, owner: u64) -> Number {
    let owner = owner & u64::from(Owner::MAX);
    [number[0], (number[1] & !u64::from(Owner::MAX)) | owner]
}

fn owner(number: Number) -> Owner {
    // The last two bytes, so it fits.
    (number[1] & u64::from(Owner::MAX)) as Owner
}

type Shard = HashMap<Owner, IndexMap<Number, Entry>>;

/// What is known of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    blocks: u32,
    /// Seconds since the epoch.
    used: u32,
}

#[derive(Debug)]
pub(crate) struct Index {
    shards: [Mutex<Shard>; SHARDS],
    bytes: AtomicU64,
    /// Blocks of each owner.
    owners: Mutex<HashMap<Owner, usize>>,
    random: RandomState,
    draws: AtomicU64,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            bytes: AtomicU64::new(0),
            owners: Mutex::default(),
            random: RandomState::new(),
            draws: AtomicU64::new(0),
        }
    }
}

impl Index {
    fn shard(&self, number: Number) -> MutexGuard<'_, Shard> {
        lock(self.shards.get(number[0] as usize % SHARDS).unwrap_or(&self.shards[0]))
    }

    /// Whether one is there; it counts as used.
    pub(crate) fn find(&self, number: Number, now: u32) -> bool {
        let mut shard = self.shard(number);
        let Some(entry) = shard.get_mut(&owner(number)).and_then(|own| own.get_mut(&number)) else {
            return false;
        };
        entry.used = entry.used.max(now);
        true
    }

    pub(crate) fn insert(&self, number: Number, size: u64, used: u32) {
        let blocks = u32::try_from(size.div_ceil(BLOCK)).unwrap_or(u32::MAX);
        let entry = Entry { blocks, used };
        let before = self.shard(number).entry(owner(number)).or_default().insert(number, entry);
        self.bytes.fetch_add(u64::from(blocks) * BLOCK, Ordering::Relaxed);
        *lock(&self.owners).entry(owner(number)).or_default() += blocks as usize;
        self.forget(number, before);
    }

    pub(crate) fn remove(&self, number: Number) -> bool {
        let before = self.take(number);
        self.forget(number, before);
        before.is_some()
    }

    fn take(&self, number: Number) -> Option<Entry> {
        let mut shard = self.shard(number);
        let own = shard.get_mut(&owner(number))?;
        let before = own.swap_remove(&number);
        if own.is_empty() {
            shard.remove(&owner(number));
        }
        before
    }

    fn forget(&self, number: Number, entry: Option<Entry>) {
        let Some(entry) = entry else { return };
        self.bytes.fetch_sub(u64::from(entry.blocks) * BLOCK, Ordering::Relaxed);
        let mut owners = lock(&self.owners);
        let left =
            owners.get(&owner(number)).map_or(0, |blocks| blocks.saturating_sub(entry.blocks as usize));
        match left {
            0 => owners.remove(&owner(number)),
            left => owners.insert(owner(number), left),
        };
    }

    /// Takes out those that have to go for `most` bytes, up to a number at once.
    pub(crate) fn evict(&self, most: u64, at_once: usize) -> Vec<Number> {
        let mut gone = Vec::new();
        while self.bytes() > most && gone.len() < at_once {
            let Some(number) = self.oldest_of_some(most) else { break };
            self.remove(number);
            gone.push(number);
        }
        gone
    }

    /// One that was not used for long, of an owner that has more than a fair share of the room.
    fn oldest_of_some(&self, most: u64) -> Option<Number> {
        let over = self.over(most);
        let drawn = (0..SAMPLE).filter_map(|_| self.draw(&over));
        drawn.min_by_key(|(_, entry)| entry.used).map(|(number, _)| number)
    }

    fn over(&self, most: u64) -> Vec<Owner> {
        let owners = lock(&self.owners);
        let room = usize::try_from(most / BLOCK).unwrap_or(usize::MAX);
        let level = shares::level(owners.values().copied().collect(), room);
        owners.iter().filter(|(_, blocks)| **blocks > level).map(|(owner, _)| *owner).collect()
    }

    fn draw(&self, owners: &[Owner]) -> Option<(Number, Entry)> {
        let random = self.random.hash_one(self.draws.fetch_add(1, Ordering::Relaxed)) as usize / 2;
        let owner = owners.get(random.checked_rem(owners.len())?)?;
        let random = random / owners.len();
        // From a random part on, the first one that has something.
        (0..SHARDS).find_map(|step| {
            let shard = lock(self.shards.get((random + step) % SHARDS)?);
            let own = shard.get(owner)?;
            let at = (random / SHARDS).checked_rem(own.len())?;
            own.get_index(at).map(|(number, entry)| (*number, *entry))
        })
    }

    /// Takes out those that nobody has used since.
    pub(crate) fn unused_since(&self, limit: u32) -> Vec<Number> {
        let mut gone = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let all = shard.values().flatten();
            gone.extend(all.filter(|(_, entry)| entry.used < limit).map(|(number, _)| *number));
        }
        gone.retain(|number| self.remove(*number));
        gone
    }

    pub(crate) fn numbers(&self) -> Vec<Number> {
        let of =
            |shard: &Mutex<Shard>| lock(shard).values().flat_map(IndexMap::keys).copied().collect::<Vec<_>>();
        self.shards.iter().flat_map(of).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).values().map(IndexMap::len).sum::<usize>()).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn an_owner_that_fills_the_disk_makes_room_out_of_what_is_its_own() {
        let index = Index::default();
        let mine = |number: u64| owned([number, 1 << 32], 1);
        for number in 0..100 {
            index.insert(mine(number), 4096, 1);
        }
        // A few large ones, all used after the others.
        for number in 0..50 {
            index.insert(owned([number << 20, 0], 2), 100 * 4096, 100);
            index.evict(1000 * 4096, usize::MAX);
        }
        assert!(index.bytes() <= 1000 * 4096);
        assert!((0..100).all(|number| index.find(mine(number), 2)));
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
