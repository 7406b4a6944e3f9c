//! Fair shares of bounded tables: when a table is full, whoever has more than a fair share gives up the excess, and nobody
//! else loses anything. So one tunnel's traffic cannot push out what a table holds of another one.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

/// The largest number that each owner may keep so that all of them together keep at most `most` (max-min fairness).
/// [`usize::MAX`] where everything fits.
#[must_use]
pub fn level(mut shares: Vec<usize>, most: usize) -> usize {
    shares.sort_unstable();
    let (mut left, mut owners) = (most, shares.len());
    for share in shares {
        // There is at least this owner.
        let fair = left / owners.max(1);
        if share > fair {
            return fair;
        }
        left -= share;
        owners -= 1;
    }
    usize::MAX
}

/// Cuts a table down to at most `most` entries. Which entries an owner loses is arbitrary.
pub fn cut<K, V, S, O>(table: &mut HashMap<K, V, S>, most: usize, owner: impl Fn(&K, &V) -> O)
where
    K: Eq + Hash,
    S: BuildHasher,
    O: Eq + Hash,
{
    let mut quota = Quota::of(table.iter().map(|(key, value)| owner(key, value)), most);
    table.retain(|key, value| quota.takes(owner(key, value)));
}

/// Cuts a list down to at most `most` entries. What stands first in it stays longest.
pub fn cut_list<T, O: Eq + Hash>(list: &mut Vec<T>, most: usize, owner: impl Fn(&T) -> O) {
    let mut quota = Quota::of(list.iter().map(&owner), most);
    list.retain(|entry| quota.takes(owner(entry)));
}

/// How many more entries each owner may keep.
struct Quota<O> {
    level: usize,
    kept: HashMap<O, usize>,
}

impl<O: Eq + Hash> Quota<O> {
    fn of(owners: impl Iterator<Item = O>, most: usize) -> Self {
        let mut shares: HashMap<O, usize> = HashMap::new();
        for owner in owners {
            *shares.entry(owner).or_default() += 1;
        }
        Self { level: level(shares.into_values().collect(), most), kept: HashMap::new() }
    }

    fn takes(&mut self, owner: O) -> bool {
        let kept = self.kept.entry(owner).or_default();
        *kept = kept.saturating_add(1);
        *kept <= self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_less_than_a_fair_share_loses_nothing() {
        for (shares, most, expected) in [
            (vec![], 10, usize::MAX),
            (vec![3, 7], 10, usize::MAX),
            (vec![3, 8], 10, 7),
            (vec![100, 1, 1], 10, 8),
            (vec![100, 100], 10, 5),
            (vec![100, 100, 2], 12, 5),
            (vec![1, 1, 1], 2, 0),
        ] {
            assert_eq!(level(shares.clone(), most), expected, "{shares:?} in {most}");
        }
    }

    #[test]
    fn a_table_is_cut_to_its_bound_and_the_small_owner_keeps_all() {
        let mut table: HashMap<u32, char> = (0..1000).map(|key| (key, 'a')).collect();
        table.extend((1000..1010).map(|key| (key, 'b')));
        cut(&mut table, 500, |_, owner| *owner);
        let of = |wanted| table.values().filter(|owner| **owner == wanted).count();
        assert_eq!((of('a'), of('b')), (490, 10));
        let mut list: Vec<(u32, char)> = (0..100).map(|number| (number, 'a')).collect();
        list.push((100, 'b'));
        cut_list(&mut list, 11, |(_, owner)| *owner);
        assert_eq!(list.last(), Some(&(100, 'b')));
        assert_eq!(
            list.iter().map(|(number, _)| *number).take(10).collect::<Vec<_>>(),
            (0..10).collect::<Vec<_>>()
        );
    }
}
