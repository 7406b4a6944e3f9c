//! When to ask for a certificate: pure arithmetic on Unix seconds.

use std::time::Duration;

/// Certificates that live shorter than this are renewed at half of their life, the others at two thirds.
const SHORT_LIVED: i64 = 10 * 24 * 3600;
/// Pauses after failures in a row. Authorities count failed proofs: Let's Encrypt takes five in an hour.
const PAUSES: [u64; 7] = [60, 5 * 60, 15 * 60, 3600, 2 * 3600, 4 * 3600, 6 * 3600];
/// The shortest pause after an authority has said that it was asked too often.
const RATE_LIMITED: u64 = 3600;

/// When to renew a certificate. `window` is what its authority suggests (RFC 9773); `random` spreads the moment, so that not
/// all edges of the world come at once.
#[must_use]
pub fn renew_at(not_before: i64, not_after: i64, window: Option<(i64, i64)>, random: u64) -> i64 {
    let spread =
        |span: i64| i64::try_from(random % u64::try_from(span.max(1)).unwrap_or(1)).unwrap_or_default();
    if let Some((start, end)) = window.filter(|(start, end)| start < end) {
        return start + spread(end - start);
    }
    let life = (not_after - not_before).max(0);
    let part = if life < SHORT_LIVED { life / 2 } else { life / 3 * 2 };
    not_before + part + spread(life / 20)
}

/// The pause after so many failures in a row; a fifth of it is by chance.
#[must_use]
pub fn pause_after(failures: u32, rate_limited: bool, random: u64) -> Duration {
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX).min(PAUSES.len() - 1);
    let seconds = PAUSES.get(index).copied().unwrap_or(RATE_LIMITED);
    let seconds = if rate_limited { seconds.max(RATE_LIMITED) } else { seconds };
    Duration::from_secs(seconds - seconds / 10 + random % (seconds / 5).max(1))
}

/// At most so many orders within a while: what stands between a mistake and the limits of an authority (Let's Encrypt: 300
/// orders in three hours).
#[derive(Clone, Debug)]
pub struct Guard {
    times: std::collections::VecDeque<i64>,
}

impl Guard {
    /// Orders within [`Guard::SPAN`].
    pub const ORDERS: usize = 100;
    /// Seconds.
    pub const SPAN: i64 = 3600;

    /// With nothing asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self { times: std::collections::VecDeque::new() }
    }

    /// Whether one more order may be made now; it is counted then.
    pub fn may(&mut self, now: i64) -> bool {
        // A clock that was moved back must not lock the door.
        self.times.retain(|time| (now - Self::SPAN..=now).contains(time));
        if self.times.len() >= Self::ORDERS {
            return false;
        }
        self.times.push_back(now);
        true
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    #[test]
    fn renewal_is_in_the_window_or_late_in_life() {
        for random in [0, 1, 12_345, u64::MAX] {
            let at = renew_at(0, 90 * DAY, Some((50 * DAY, 52 * DAY)), random);
            assert!((50 * DAY..52 * DAY).contains(&at), "{at}");
            let at = renew_at(0, 90 * DAY, None, random);
            assert!((60 * DAY..65 * DAY).contains(&at), "{at}");
            let at = renew_at(0, 6 * DAY, None, random);
            assert!((3 * DAY..4 * DAY).contains(&at), "{at}");
            // A window that makes no sense is none.
            assert!(renew_at(0, 90 * DAY, Some((9, 3)), random) >= 60 * DAY);
        }
    }

    #[test]
    fn pauses_grow_and_stop_growing() {
        let middle = |failures| pause_after(failures, false, 0).as_secs();
        assert!(middle(1) < middle(2) && middle(2) < middle(4) && middle(7) == middle(70));
        assert!(pause_after(1, true, 0).as_secs() >= 3000);
        assert!(pause_after(1, false, u64::MAX).as_secs() <= 66);
    }

    #[test]
    fn the_guard_counts_within_its_span() {
        let mut guard = Guard::new();
        assert_eq!((0..200).filter(|_| guard.may(1000)).count(), Guard::ORDERS);
        assert!(!guard.may(1000 + Guard::SPAN));
        assert!(guard.may(1001 + Guard::SPAN));
        assert!(guard.may(5), "the clock was moved back");
    }
}
