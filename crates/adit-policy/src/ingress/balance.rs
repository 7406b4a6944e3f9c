//! Several origins for one rule: who gets the next request, and how each is checked.

use std::fmt;
use std::time::Duration;

/// How requests are spread over the origins of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest running requests.
    LeastRequests,
    /// The same visitor address goes to the same origin, as long as that one is up.
    Sticky,
}

impl Balance {
    /// Every way, with its word in the configuration.
    pub const WORDS: [(&str, Self); 3] = [
        ("round-robin", Self::RoundRobin),
        ("least-requests", Self::LeastRequests),
        ("sticky", Self::Sticky),
    ];
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS.iter().find(|(_, way)| way == self).map_or("", |(word, _)| word);
        f.write_str(word)
    }
}

/// Regular checks of each origin of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Path that is asked for with GET; an answer below 400 is good. `None`: to connect is enough.
    pub path: Option<String>,
    /// Pause between two checks. 10 s.
    pub interval: Duration,
    /// Time for one check. 5 s.
    pub timeout: Duration,
    /// Failures in a row until an origin is down. 2.
    pub fall: u32,
    /// Good checks in a row until it is up again. 1.
    pub rise: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: None,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            fall: 2,
            rise: 1,
        }
    }
}

/// The order in which origins are asked: those that are up first, in the way's own order; the others after them, because
/// a check may be wrong. `running` and `up` are asked by index; `turn` counts requests; `visitor` is the visitor's
/// address as text.
#[must_use]
pub fn order(
    balance: Balance,
    count: usize,
    turn: usize,
    visitor: &[u8],
    running: impl Fn(usize) -> usize,
    up: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).map(|index| (index + turn) % count.max(1)).collect();
    match balance {
        Balance::RoundRobin => {}
        Balance::LeastRequests => order.sort_by_key(|index| running(*index)),
        Balance::Sticky => order.sort_by_key(|index| std::cmp::Reverse(weight(visitor, *index))),
    }
    order.sort_by_key(|index| !up(*index));
    order
}

/// Rendezvous hashing (Thaler, Ravishankar 1998): an origin that goes away moves only its own visitors. FNV-1a, with a
/// finish that spreads the last bytes.
fn weight(visitor: &[u8], index: usize) -> u64 {
    let bytes = visitor.iter().copied().chain(index.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_UP: fn(usize) -> bool = |_| true;

    #[test]
    fn round_robin_takes_turns() {
        let first = |turn| order(Balance::RoundRobin, 3, turn, b"", |_| 0, ALL_UP)[0];
        assert_eq!([first(0), first(1), first(2), first(3)], [0, 1, 2, 0]);
    }

    #[test]
    fn least_requests_takes_the_idlest_and_turns_between_equals() {
        let running = [3, 1, 1];
        let first = |turn| order(Balance::LeastRequests, 3, turn, b"", |index| running[index], ALL_UP)[0];
        assert_eq!([first(0), first(2)], [1, 2]);
    }

    #[test]
    fn sticky_keeps_visitors_and_moves_only_those_of_a_lost_origin() {
        let first = |visitor: &str, down: Option<usize>| {
            order(Balance::Sticky, 4, visitor.len(), visitor.as_bytes(), |_| 0, |index| Some(index) != down)
                [0]
        };
        let mut shares = [0; 4];
        for number in 0..1000 {
            let visitor = format!("192.0.2.{number}");
            let home = first(&visitor, None);
            shares[home] += 1;
            let other = (home + 1) % 4;
            assert_eq!(first(&visitor, Some(other)), home);
            assert_ne!(first(&visitor, Some(home)), home);
        }
        assert!(shares.iter().all(|share| (200..300).contains(share)), "{shares:?}");
    }

    #[test]
    fn origins_that_are_down_come_last_but_come() {
        assert_eq!(order(Balance::RoundRobin, 3, 0, b"", |_| 0, |index| index == 2), [2, 0, 1]);
        assert!(order(Balance::Sticky, 0, 5, b"x", |_| 0, ALL_UP).is_empty());
    }
}
