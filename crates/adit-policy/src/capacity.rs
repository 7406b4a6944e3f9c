//! How many connections and requests an edge holds at the same time, and when a client that cancels is ended.

use std::time::{Duration, Instant};

use crate::limits::{
    CANCEL_WINDOW, CANCELLED_OF_ADDRESS_MAX, CANCELLED_OF_CONNECTION_MAX, CONNECTIONS_MAX,
    DESCRIPTORS_RESERVED_MIN, IDLE_CONNECTION, REQUESTS_PER_CONNECTION, SHARE_OF_ADDRESS,
};

/// The caps that are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Connections of all visitors.
    pub connections: usize,
    /// Connections of one visitor ([`crate::policy::address::visitor`]).
    pub connections_per_address: usize,
    /// Requests in flight of all visitors.
    pub requests: usize,
    /// Requests in flight of one visitor.
    pub requests_per_address: usize,
    /// How long a connection without requests is kept.
    pub idle: Duration,
}

impl Caps {
    /// What a process with this many descriptors can hold. A quarter of them, 128 at least, is left to tunnel
    /// connections, local endpoints, files and the listeners.
    #[must_use]
    pub fn of_descriptors(descriptors: u64) -> Self {
        let all = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let reserved = (all / 4).max(DESCRIPTORS_RESERVED_MIN);
        Self::of_connections(all.saturating_sub(reserved).clamp(1, CONNECTIONS_MAX))
    }

    /// The same for another number of connections; the other caps follow from it.
    #[must_use]
    pub fn with_connections(self, connections: usize) -> Self {
        Self { idle: self.idle, ..Self::of_connections(connections) }
    }

    fn of_connections(connections: usize) -> Self {
        let requests = connections.saturating_mul(REQUESTS_PER_CONNECTION);
        Self {
            connections,
            connections_per_address: (connections / SHARE_OF_ADDRESS).max(1),
            requests,
            requests_per_address: (requests / SHARE_OF_ADDRESS).max(1),
            idle: IDLE_CONNECTION,
        }
    }
}

impl Default for Caps {
    fn default() -> Self {
        Self::of_connections(CONNECTIONS_MAX)
    }
}

/// Counts requests and those that were cancelled, to find a client that mostly cancels. Each cancelled request costs the
/// origin work that nobody reads, however it came about: by RST_STREAM, or by an error that made us reset the stream.
#[derive(Clone, Debug)]
pub struct Cancellations {
    most: u32,
    since: Option<Instant>,
    finished: u32,
    cancelled: u32,
}

impl Cancellations {
    /// For one connection.
    #[must_use]
    pub fn of_connection() -> Self {
        Self { most: CANCELLED_OF_CONNECTION_MAX, since: None, finished: 0, cancelled: 0 }
    }

    /// For all connections of one address.
    #[must_use]
    pub fn of_address() -> Self {
        Self { most: CANCELLED_OF_ADDRESS_MAX, ..Self::of_connection() }
    }

    /// Counts a request that has ended. Returns whether the client cancels too much: more than its allowance within the
    /// window, and more than it lets finish.
    pub fn note(&mut self, was_cancelled: bool, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= CANCEL_WINDOW) {
            (self.since, self.finished, self.cancelled) = (Some(now), 0, 0);
        }
        let counter = if was_cancelled { &mut self.cancelled } else { &mut self.finished };
        *counter = counter.saturating_add(1);
        was_cancelled && self.is_over()
    }

    /// Whether the client has cancelled anything within the present window.
    #[must_use]
    pub fn is_recent(&self, now: Instant) -> bool {
        let current = self.since.is_some_and(|since| now.saturating_duration_since(since) < CANCEL_WINDOW);
        current && self.cancelled > 0
    }

    /// Whether the client has cancelled too much within the present window.
    #[must_use]
    pub fn is_exceeded(&self, now: Instant) -> bool {
        self.is_recent(now) && self.is_over()
    }

    fn is_over(&self) -> bool {
        self.cancelled > self.most && self.cancelled > self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_follow_from_the_descriptors() {
        for (descriptors, connections, of_address, requests) in [
            (1_024, 768, 192, 1_536),
            (256, 128, 32, 256),
            (64, 1, 1, 2),
            (4_096, 3_072, 768, 6_144),
            (1 << 20, CONNECTIONS_MAX, CONNECTIONS_MAX / 4, CONNECTIONS_MAX * 2),
            (u64::MAX, CONNECTIONS_MAX, CONNECTIONS_MAX / 4, CONNECTIONS_MAX * 2),
        ] {
            let caps = Caps::of_descriptors(descriptors);
            assert_eq!(caps.connections, connections, "{descriptors}");
            assert_eq!(caps.connections_per_address, of_address, "{descriptors}");
            assert_eq!(caps.requests, requests, "{descriptors}");
        }
        let caps = Caps { idle: Duration::from_secs(5), ..Caps::default() }.with_connections(100);
        assert_eq!((caps.connections_per_address, caps.requests, caps.idle.as_secs()), (25, 200, 5));
    }

    #[test]
    fn who_mostly_cancels_is_found_and_a_browser_is_not() {
        let now = Instant::now();
        let mut flood = Cancellations::of_connection();
        let found = (1..=1_000).find(|_| flood.note(true, now));
        assert_eq!(found, Some(CANCELLED_OF_CONNECTION_MAX + 1));
        assert!(flood.is_exceeded(now) && !flood.is_exceeded(now + CANCEL_WINDOW));
        let mut browser = Cancellations::of_connection();
        // A film: every second request is cancelled by seeking, for hours.
        let seeks = (0..10_000).any(|at| {
            let now = now + Duration::from_millis(at * 20);
            browser.note(false, now) || browser.note(true, now)
        });
        assert!(!seeks);
        let mut slow = Cancellations::of_connection();
        assert!(!(0..10_000).any(|at| slow.note(true, now + Duration::from_secs(at))), "one a second");
    }
}
