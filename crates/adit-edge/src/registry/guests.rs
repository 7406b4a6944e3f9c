//! Quick tunnels: tunnels that live only here, and only as long as somebody runs them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_policy::snapshot::{Snapshot, Tunnel};

use super::{Registry, State};

/// A quick tunnel without a connection is forgotten after this: a laptop may change its network.
const ABSENCE_MAX: Duration = Duration::from_secs(10 * 60);

/// A quick tunnel.
#[derive(Debug)]
pub(super) struct Guest {
    tunnel: Tunnel,
    seen: Instant,
}

/// There are as many quick tunnels as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {0} quick tunnels already; try again later")]
pub struct Full(usize);

impl Registry {
    /// Takes a quick tunnel in.
    ///
    /// # Errors
    /// [`Full`] when there are too many.
    pub fn invite(&self, tunnel: Tunnel, limit: usize, now: Instant) -> Result<(), Full> {
        self.forget_guests(now);
        let mut state = self.lock();
        if state.guests.len() >= limit {
            return Err(Full(state.guests.len()));
        }
        state.guests.push(Guest { tunnel, seen: now });
        self.renew(state);
        Ok(())
    }

    /// Forgets quick tunnels that nobody has run for a while.
    pub fn forget_guests(&self, now: Instant) {
        let mut state = self.lock();
        let before = state.guests.len();
        state.forget_guests(now);
        if state.guests.len() < before {
            self.renew(state);
        }
    }
}

impl State {
    fn forget_guests(&mut self, now: Instant) {
        let sessions = &self.sessions;
        for guest in &mut self.guests {
            if sessions.iter().any(|session| session.tunnel == guest.tunnel.id) {
                guest.seen = now;
            }
        }
        self.guests.retain(|guest| now.duration_since(guest.seen) < ABSENCE_MAX);
    }

    /// The configuration with the quick tunnels in it.
    pub(super) fn with_guests(&self) -> Arc<Snapshot> {
        if self.guests.is_empty() {
            return self.base.clone();
        }
        let guests = self.guests.iter().map(|guest| guest.tunnel.clone());
        Arc::new(self.base.with_more(guests))
    }
}
