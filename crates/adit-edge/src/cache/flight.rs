//! One fetch at a time for each key: whoever comes first leads, the others follow.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use adit_cache::Object;
use adit_policy::cache::vary::Selecting;
use adit_policy::limits::{FETCHES_MAX, FETCHES_OF_TUNNEL};
use adit_policy::shares;
use adit_policy::snapshot::TunnelId;
use tokio::sync::watch;

use crate::rescue::Problem;

/// For how long nobody waits for what was not kept the last time (Varnish: hit-for-miss).
const ALONE_FOR: Duration = Duration::from_secs(30);
/// Keys of which that is remembered.
const ALONE_MAX: usize = 8_192;

/// What responses under a key vary with, and since when that is known.
pub(crate) type Varies = (Arc<Selecting>, SystemTime);

/// What a fetch has come to, for those who follow.
#[derive(Clone, Debug)]
pub(crate) enum Landing {
    /// It is kept, or just being so. Where it varies: with what, and since when that is known.
    Kept(Arc<Object>, Option<Varies>),
    /// It is not kept: everybody fetches for himself.
    Alone,
    /// It has failed.
    Failed(Arc<Problem>),
}

/// All fetches that are under way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    state: Mutex<State>,
    keys: RandomState,
    running: Arc<Mutex<Running>>,
}

/// How many fetches run.
#[derive(Debug, Default)]
struct Running {
    all: usize,
    of: HashMap<TunnelId, usize>,
}

/// One fetch that runs; it counts until it is dropped.
#[derive(Debug)]
struct Counted {
    running: Arc<Mutex<Running>>,
    tunnel: TunnelId,
}

impl Counted {
    /// `None`: there are enough. A tunnel always gets its own share, whatever others do.
    fn new(running: &Arc<Mutex<Running>>, tunnel: TunnelId) -> Option<Self> {
        let mut counts = running.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.of.get(&tunnel).copied().unwrap_or_default();
        if counts.all >= FETCHES_MAX && own >= FETCHES_OF_TUNNEL {
            return None;
        }
        counts.all += 1;
        counts.of.insert(tunnel, own + 1);
        drop(counts);
        Some(Self { running: running.clone(), tunnel })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        let own = counts.of.get(&self.tunnel).copied().unwrap_or_default();
        match own {
            0 | 1 => drop(counts.of.remove(&self.tunnel)),
            _ => drop(counts.of.insert(self.tunnel, own - 1)),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    flying: HashMap<u64, watch::Receiver<Option<Landing>>>,
    /// Since when, and whose.
    alone: HashMap<u64, (Instant, TunnelId)>,
}

/// Who a request is.
pub(crate) enum Boarded<F> {
    /// The one who fetches.
    Leads(Flight),
    /// One who waits for this.
    Follows(F),
    /// One too many: he asks for himself.
    Alone,
}

/// A fetch. Dropped without a word, its followers fetch for themselves.
#[derive(Debug)]
pub(crate) struct Flight {
    /// `None`: nobody follows.
    number: Option<u64>,
    landing: watch::Sender<Option<Landing>>,
    _running: Counted,
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leads, or follows.
    pub(super) fn board(
        &self,
        tunnel: TunnelId,
        key: &str,
    ) -> Boarded<impl Future<Output = Landing> + use<>> {
        let number = self.keys.hash_one(key);
        let mut state = self.lock();
        // One whose sender is gone was cut off: nobody would ever land.
        let flying = state.flying.get(&number).filter(|landing| landing.has_changed().is_ok());
        if let Some(landing) = flying {
            return Boarded::Follows(wait(landing.clone()));
        }
        let Some(counted) = Counted::new(&self.running, tunnel) else { return Boarded::Alone };
        let (landing, receiver) = watch::channel(None);
        state.flying.insert(number, receiver);
        Boarded::Leads(Flight { number: Some(number), landing, _running: counted })
    }

    /// A fetch that nobody follows.
    pub(super) fn board_alone<F>(&self, tunnel: TunnelId) -> Boarded<F> {
        let Some(counted) = Counted::new(&self.running, tunnel) else { return Boarded::Alone };
        let (landing, _) = watch::channel(None);
        Boarded::Leads(Flight { number: None, landing, _running: counted })
    }

    /// Whether nobody waits for others under this key.
    pub(super) fn is_alone(&self, key: &str) -> bool {
        let mut state = self.lock();
        if state.alone.is_empty() {
            return false;
        }
        let number = self.keys.hash_one(key);
        let since = state.alone.get(&number).copied();
        let still = since.is_some_and(|(since, _)| since.elapsed() < ALONE_FOR);
        if since.is_some() && !still {
            state.alone.remove(&number);
        }
        still
    }

    /// Remembers whether what is fetched under a key is kept.
    pub(super) fn note(&self, tunnel: TunnelId, key: &str, is_kept: bool) {
        let number = self.keys.hash_one(key);
        let mut state = self.lock();
        if is_kept {
            state.alone.remove(&number);
            return;
        }
        if state.alone.len() >= ALONE_MAX {
            state.alone.retain(|_, (since, _)| since.elapsed() < ALONE_FOR);
            shares::cut(&mut state.alone, ALONE_MAX / 4 * 3, |_, (_, tunnel)| *tunnel);
        }
        state.alone.insert(number, (Instant::now(), tunnel));
    }

    /// The fetch is over; the next request looks for itself.
    pub(super) fn end(&self, flight: Flight) {
        if let Some(number) = flight.number {
            self.lock().flying.remove(&number);
        }
    }
}

impl Flight {
    /// Tells the followers.
    pub(super) fn land(&self, landing: Landing) {
        self.landing.send_replace(Some(landing));
    }
}

async fn wait(mut landing: watch::Receiver<Option<Landing>>) -> Landing {
    match landing.wait_for(Option::is_some).await {
        Ok(landed) => landed.clone().unwrap_or(Landing::Alone),
        Err(_) => Landing::Alone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TunnelId = TunnelId(uuid::Uuid::from_u128(1));
    const B: TunnelId = TunnelId(uuid::Uuid::from_u128(2));

    #[test]
    fn there_are_only_so_many_and_one_that_was_cut_off_is_replaced() {
        let flights = Flights::default();
        let mut kept: Vec<Flight> = Vec::new();
        for number in 0..FETCHES_MAX {
            match flights.board(A, &number.to_string()) {
                Boarded::Leads(flight) => kept.push(flight),
                Boarded::Follows(_) | Boarded::Alone => panic!("{number}"),
            }
        }
        assert!(matches!(flights.board(A, "one more"), Boarded::Alone));
        assert!(matches!(flights.board(A, "0"), Boarded::Follows(_)), "whoever follows costs nothing");
        // A fetch whose task has died leaves its place.
        drop(kept.swap_remove(0));
        assert!(matches!(flights.board(A, "0"), Boarded::Leads(_)));
    }

    #[test]
    fn one_tunnel_takes_neither_the_fetches_nor_the_memory_of_another_one() {
        let flights = Flights::default();
        flights.note(B, "b", false);
        let mut kept: Vec<Flight> = Vec::new();
        for number in 0..2 * ALONE_MAX {
            if let Boarded::Leads(flight) = flights.board_alone::<()>(A) {
                kept.push(flight);
            }
            flights.note(A, &number.to_string(), false);
        }
        assert_eq!(kept.len(), FETCHES_MAX);
        assert!(flights.lock().alone.len() <= ALONE_MAX);
        assert!(flights.is_alone("b"));
        for number in 0..FETCHES_OF_TUNNEL {
            match flights.board(B, &format!("b{number}")) {
                Boarded::Leads(flight) => kept.push(flight),
                Boarded::Follows(_) | Boarded::Alone => panic!("{number}"),
            }
        }
        assert!(matches!(flights.board(B, "one more"), Boarded::Alone));
        kept.clear();
        assert!(flights.running.lock().unwrap().of.is_empty());
    }
}
