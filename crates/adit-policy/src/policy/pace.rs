//! How slow a client may be: the `min-rate` key, and the measurement that decides it.
//!
//! Only the time counts during which we wait for the client. An origin or a tunnel that is slow never makes a client slow.

use std::fmt;
use std::time::{Duration, Instant};

/// The slowest transfer that is accepted from a client, per direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes per second of a request body; zero for no minimum.
    pub request: u64,
    /// Bytes per second of a response; zero for no minimum.
    pub response: u64,
    /// Waiting time over which the rate is measured.
    pub window: Duration,
    /// Waiting time that the first measurement has in addition to its window.
    pub grace: Duration,
}

impl MinRate {
    /// No minimum in either direction.
    pub const OFF: Self =
        Self { request: 0, response: 0, window: Duration::from_secs(30), grace: Duration::ZERO };
}

/// 500 bytes per second, as Apache's `mod_reqtimeout`. A window of 30 s forgives the steps in which a kernel reports
/// progress (64 KiB); with 15 s of grace a silent client is ended after 45 s, where nginx allows 60 s.
impl Default for MinRate {
    fn default() -> Self {
        Self { request: 500, response: 500, window: Duration::from_secs(30), grace: Duration::from_secs(15) }
    }
}

impl fmt::Display for MinRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.request == 0 && self.response == 0 {
            return f.write_str("off");
        }
        let (window, grace) = (self.window.as_secs_f64(), self.grace.as_secs_f64());
        write!(
            f,
            "request {} B/s, response {} B/s, over {window}s after {grace}s",
            self.request, self.response
        )
    }
}

/// Waits below this do not count, and neither do the bytes that end them.
const MOMENT: Duration = Duration::from_millis(1);

/// What a client did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// It transferred less than the minimum rate (bytes per second).
    Rate(u64),
    /// It transferred nothing for this long (`timeouts.idle`).
    Idle(Duration),
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(rate) => write!(f, "the client was slower than {rate} B/s (`min-rate`)"),
            Self::Idle(time) => write!(f, "the client was idle for {time:?} (`timeouts.idle`)"),
        }
    }
}

/// Measures one direction of one transfer.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Bytes per second; zero for no minimum.
    rate: u64,
    window: Duration,
    idle: Option<Duration>,
    /// The waiting time that the present measurement has.
    length: Duration,
    /// What of it is over.
    waited: Duration,
    /// Bytes within it.
    moved: u64,
    /// Waiting time since the last byte.
    silent: Duration,
    /// Up to when the present wait is counted; `None` while the client waits for us.
    since: Option<Instant>,
    /// When the wait for the next byte began.
    began: Option<Instant>,
}

impl Pace {
    /// Measures against `rate` bytes per second, and against silence of `idle`.
    #[must_use]
    pub fn new(rate: u64, rule: &MinRate, idle: Option<Duration>) -> Self {
        Self {
            rate,
            window: rule.window,
            idle,
            length: rule.window + rule.grace,
            waited: Duration::ZERO,
            moved: 0,
            silent: Duration::ZERO,
            since: None,
            began: None,
        }
    }

    /// Whether it can ever find a client slow.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.rate == 0 && self.idle.is_none()
    }

    /// From now on we wait for the client, unless we do already.
    pub fn wait(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.began.get_or_insert(now);
    }

    /// From now on the client waits for us.
    pub fn rest(&mut self, now: Instant) {
        self.count(now);
        (self.since, self.began) = (None, None);
    }

    /// The client has taken or given bytes.
    pub fn moved(&mut self, bytes: u64, now: Instant) {
        let Some(began) = self.began.filter(|_| bytes > 0) else { return };
        // What is taken at once went into buffers, and says nothing about the client.
        if now.saturating_duration_since(began) >= MOMENT {
            self.count(now);
            self.moved = self.moved.saturating_add(bytes);
        }
        self.silent = Duration::ZERO;
        (self.since, self.began) = (Some(now), Some(now));
    }

    /// Whether we wait for the client.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// For how long we have waited for the next byte, without a break.
    #[must_use]
    pub fn waits_for(&self, now: Instant) -> Duration {
        self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began))
    }

    /// Forgets the present measurement: it was not the client's fault.
    pub fn forgive(&mut self, now: Instant) {
        self.count(now);
        (self.waited, self.moved, self.silent) = (Duration::ZERO, 0, Duration::ZERO);
    }

    /// Judges the client, and begins the next measurement when the present one is over.
    pub fn check(&mut self, now: Instant) -> Option<Slow> {
        self.count(now);
        if let Some(idle) = self.idle.filter(|idle| self.silent >= *idle) {
            return Some(Slow::Idle(idle));
        }
        if self.waited < self.length {
            return None;
        }
        let wanted = self.window.as_secs_f64() * self.rate as f64;
        let is_slow = self.rate > 0 && (self.moved as f64) < wanted;
        (self.length, self.waited, self.moved) = (self.window, Duration::ZERO, 0);
        is_slow.then_some(Slow::Rate(self.rate))
    }

    /// When [`Pace::check`] may find something, if the client moves no byte until then. `None` while it waits for us.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let since = self.since?;
        let measured = (self.rate > 0).then(|| self.length.saturating_sub(self.waited));
        let idle = self.idle.map(|idle| idle.saturating_sub(self.silent));
        measured.into_iter().chain(idle).min().map(|left| since + left)
    }

    fn count(&mut self, now: Instant) {
        if let Some(since) = &mut self.since {
            let passed = now.saturating_duration_since(*since);
            *since = now;
            self.waited += passed;
            self.silent += passed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: MinRate = MinRate {
        request: 100,
        response: 100,
        window: Duration::from_secs(10),
        grace: Duration::from_secs(5),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Moves `bytes` every `every` seconds; says when the client is found slow within ten minutes.
    fn ended(bytes: u64, every: u64, idle: Option<Duration>) -> Option<(u64, Slow)> {
        let start = Instant::now();
        let mut pace = Pace::new(RULE.request, &RULE, idle);
        pace.wait(start);
        for second in 1..=600 {
            let now = start + seconds(second);
            if let Some(slow) = pace.check(now) {
                return Some((second, slow));
            }
            if second % every == 0 {
                pace.moved(bytes, now);
            }
        }
        None
    }

    #[test]
    fn a_trickle_ends_after_the_first_measurement_and_a_slow_line_goes_on() {
        for (bytes, every, expected) in [
            (0, 1, Some((15, Slow::Rate(100)))),
            (1, 2, Some((15, Slow::Rate(100)))),
            (50, 1, Some((15, Slow::Rate(100)))),
            (101, 1, None),
            (1_100, 9, None),
            (20_000, 1, None),
        ] {
            assert_eq!(ended(bytes, every, None), expected, "{bytes} bytes every {every} s");
        }
    }

    #[test]
    fn a_client_that_becomes_slow_is_found_in_the_window_after() {
        let start = Instant::now();
        let mut pace = Pace::new(100, &RULE, None);
        pace.wait(start);
        pace.moved(1_000_000, start + seconds(1));
        assert_eq!(pace.check(start + seconds(15)), None, "a burst counts for its own measurement");
        assert_eq!(pace.deadline(), Some(start + seconds(25)));
        assert_eq!(pace.check(start + seconds(24)), None);
        assert_eq!(pace.check(start + seconds(25)), Some(Slow::Rate(100)));
    }

    #[test]
    fn silence_ends_it_as_soon_as_is_said() {
        assert_eq!(ended(0, 1, Some(seconds(3))), Some((3, Slow::Idle(seconds(3)))));
        assert_eq!(ended(1, 5, Some(seconds(7))), Some((15, Slow::Rate(100))), "the rate counts as well");
        assert_eq!(ended(300, 2, Some(seconds(3))), None);
    }

    #[test]
    fn time_that_we_need_does_not_count() {
        let start = Instant::now();
        let mut pace = Pace::new(100, &RULE, Some(seconds(20)));
        for round in 0..1_000 {
            let now = start + seconds(round * 61);
            pace.wait(now);
            pace.moved(10, now + Duration::from_millis(50));
            assert_eq!(pace.check(now + Duration::from_millis(50)), None, "round {round}");
            // The origin takes a minute for each piece.
            pace.rest(now + Duration::from_millis(50));
            assert_eq!(pace.deadline(), None);
        }
        pace.wait(start);
        pace.forgive(start + seconds(100_000));
        assert_eq!(pace.check(start + seconds(100_000)), None);
    }

    #[test]
    fn without_a_minimum_nobody_is_slow() {
        let mut pace = Pace::new(0, &MinRate::OFF, None);
        assert!(pace.is_off());
        let start = Instant::now();
        pace.wait(start);
        assert_eq!(pace.deadline(), None);
        assert_eq!(pace.check(start + seconds(1_000_000)), None);
    }
}
