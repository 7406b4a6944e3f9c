//! Is the peer still there? One flag per connection, fed by the data path itself.
//!
//! A killed connector says nothing: its UDP port is closed, the idle time-out runs for 5 s. Both ends probe every
//! second, so a connection that heard nothing for [`SUSPECT_AFTER`] is very likely dead. New requests then avoid it and
//! waiting repeatable ones leave it; it is trusted again with the first packet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::watch;

use crate::limits::{HEALTH_INTERVAL, SUSPECT_AFTER};

/// The flag and its waiters.
#[derive(Debug)]
pub(super) struct Health {
    /// What `waiters` say, to be read for every request and every connection without a lock.
    suspect: AtomicBool,
    waiters: watch::Sender<bool>,
}

impl Default for Health {
    fn default() -> Self {
        Self { suspect: AtomicBool::new(false), waiters: watch::Sender::new(false) }
    }
}

impl Health {
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// A closed connection stays suspect for ever.
    pub(super) fn mark_closed(&self) {
        self.set(true);
    }

    pub(super) fn set(&self, suspect: bool) {
        self.suspect.store(suspect, Ordering::Relaxed);
        self.waiters.send_if_modified(|now| std::mem::replace(now, suspect) != suspect);
    }

    /// Resolves when the peer is suspect.
    pub(super) async fn suspected(&self) {
        let mut watcher = self.waiters.subscribe();
        // The sender lives in the same connection as this future's guard, so the channel cannot close first.
        drop(watcher.wait_for(|suspect| *suspect).await);
    }

    /// Compares the datagram counter with the clock until the connection ends.
    pub(super) async fn watch_quic(&self, connection: &quinn::Connection) {
        let mut silence = Silence::new(Instant::now());
        let mut tick = tokio::time::interval(HEALTH_INTERVAL);
        loop {
            tokio::select! {
                _ = connection.closed() => return,
                _ = tick.tick() => {}
            }
            let heard = connection.stats().udp_rx.datagrams;
            self.set(silence.observe(heard, Instant::now()));
        }
    }
}

/// How long a counter has stood still.
#[derive(Debug)]
struct Silence {
    heard: u64,
    since: Instant,
}

impl Silence {
    fn new(now: Instant) -> Self {
        Self { heard: 0, since: now }
    }

    /// Takes the counter's new value; tells whether the silence lasts too long.
    fn observe(&mut self, heard: u64, now: Instant) -> bool {
        if heard != self.heard {
            self.heard = heard;
            self.since = now;
        }
        now.duration_since(self.since) >= SUSPECT_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn silence_is_counted_from_the_last_packet() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        assert!(!silence.observe(1, start + Duration::from_secs(1)));
        assert!(!silence.observe(1, start + Duration::from_secs(3)));
        assert!(silence.observe(1, start + Duration::from_secs(4)));
        assert!(!silence.observe(2, start + Duration::from_secs(5)), "one packet restores trust");
    }
}
