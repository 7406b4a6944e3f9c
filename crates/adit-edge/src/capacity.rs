//! How many connections and requests there are, of all visitors and of each, and who has to go when there are too many.
//!
//! Idle connections go first, then new ones are refused. Tunnel connections and local endpoints are not counted: descriptors
//! are reserved for them ([`Caps::of_descriptors`]).

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use adit_policy::capacity::{Cancellations, Caps};
use adit_policy::limits::{CONNECTIONS_ON_TRIAL, SHED_AT_ONCE};
use adit_policy::policy::address::visitor;
use arc_swap::ArcSwap;
use tokio::sync::Notify;

/// A connection that is answering requests.
const BUSY: u64 = u64::MAX;

/// Why a connection or a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// There are too many connections, and none is idle.
    #[error("too many connections")]
    Connections,
    /// The visitor has too many connections, and none is idle.
    #[error("too many connections of one address")]
    ConnectionsOfAddress,
    /// There are too many requests in flight.
    #[error("too many requests in flight")]
    Requests,
    /// The visitor has too many requests in flight.
    #[error("too many requests of one address in flight")]
    RequestsOfAddress,
    /// The visitor cancels most of its requests.
    #[error("most requests of the address are cancelled")]
    Cancelling,
}

impl Refused {
    /// The stable word for metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsOfAddress => "connections_of_address",
            Self::Requests => "requests",
            Self::RequestsOfAddress => "requests_of_address",
            Self::Cancelling => "cancelling",
        }
    }
}

/// The counters of an edge.
#[derive(Debug)]
pub struct Capacity {
    caps: ArcSwap<Caps>,
    start: Instant,
    connections: AtomicUsize,
    on_trial: AtomicUsize,
    requests: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, Arc<Address>>>,
    slots: Mutex<HashMap<u64, Arc<Shared>>>,
    next: AtomicU64,
}

/// One visitor: an address, or the /64 of IPv6.
#[derive(Debug)]
pub(crate) struct Address {
    ip: IpAddr,
    connections: AtomicUsize,
    requests: AtomicUsize,
    cancellations: Mutex<Cancellations>,
}

/// What the worker of a connection and those who look for room share.
#[derive(Debug)]
struct Shared {
    /// Milliseconds since the start of the counters when its last request ended, or [`BUSY`].
    idle_since: AtomicU64,
    /// Whether it was told to go.
    leaves: AtomicBool,
    told: Notify,
    address: Mutex<Option<Arc<Address>>>,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            caps: ArcSwap::default(),
            start: Instant::now(),
            connections: AtomicUsize::new(0),
            on_trial: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            addresses: Mutex::default(),
            slots: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Capacity {
    /// Puts other caps in force. Connections and requests that are there stay.
    pub fn set(&self, caps: Caps) {
        self.caps.store(Arc::new(caps));
    }

    /// Takes a connection in. Above the cap, idle connections are told to go; where none is idle, a few connections may
    /// still say that they are tunnels ([`Slot::is_on_trial`]).
    ///
    /// # Errors
    /// [`Refused::Connections`].
    pub(crate) fn connect(self: &Arc<Self>) -> Result<Slot, Refused> {
        let count = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let on_trial = count > self.caps.load().connections && self.shed(None) == 0;
        if on_trial && self.on_trial.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_ON_TRIAL {
            self.on_trial.fetch_sub(1, Ordering::Relaxed);
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::Connections);
        }
        let shared = Arc::new(Shared {
            idle_since: AtomicU64::new(self.now()),
            leaves: AtomicBool::new(false),
            told: Notify::new(),
            address: Mutex::default(),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.slots).insert(id, shared.clone());
        Ok(Slot { capacity: self.clone(), shared, id, on_trial })
    }

    /// Tells idle connections to go, the oldest first: of one visitor, or of all. Returns how many there were.
    fn shed(&self, of: Option<&Arc<Address>>) -> usize {
        let slots = lock(&self.slots);
        let mut idle: Vec<(u64, &Arc<Shared>)> = slots
            .values()
            .filter(|slot| !slot.leaves.load(Ordering::Relaxed) && slot.is_of(of))
            .map(|slot| (slot.idle_since.load(Ordering::Relaxed), slot))
            .filter(|(since, _)| *since != BUSY)
            .collect();
        let many = if of.is_some() { 1 } else { SHED_AT_ONCE };
        if idle.len() > many {
            idle.select_nth_unstable_by_key(many, |(since, _)| *since);
            idle.truncate(many);
        }
        for (_, slot) in &idle {
            slot.leaves.store(true, Ordering::Relaxed);
            slot.told.notify_one();
        }
        idle.len()
    }

    /// Counts a request until the guard is dropped. `known` is the visitor of the connection, unless a trusted proxy
    /// speaks for another one.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) fn request(
        self: &Arc<Self>,
        known: Option<Arc<Address>>,
        ip: IpAddr,
    ) -> Result<RequestSlot, Refused> {
        let caps = self.caps.load();
        let address = known.filter(|known| known.ip == visitor(ip)).unwrap_or_else(|| self.address(ip));
        let all = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let own = address.requests.fetch_add(1, Ordering::Relaxed) + 1;
        // The guard takes back what was counted, also for a request that is refused.
        let slot = RequestSlot { capacity: self.clone(), address };
        if own > caps.requests_per_address {
            return Err(Refused::RequestsOfAddress);
        }
        if all > caps.requests { Err(Refused::Requests) } else { Ok(slot) }
    }

    fn address(&self, ip: IpAddr) -> Arc<Address> {
        let ip = visitor(ip);
        let new = || {
            Arc::new(Address {
                ip,
                connections: AtomicUsize::new(0),
                requests: AtomicUsize::new(0),
                cancellations: Mutex::new(Cancellations::of_address()),
            })
        };
        lock(&self.addresses).entry(ip).or_insert_with(new).clone()
    }

    /// Forgets a visitor that has nothing here any more, unless it has cancelled too much lately.
    fn release(&self, address: &Arc<Address>) {
        let mut addresses = lock(&self.addresses);
        if address.is_forgotten(Instant::now()) {
            addresses.remove(&address.ip);
        }
    }

    /// Forgets visitors whose cancelled requests do not count any more.
    pub(crate) fn sweep(&self, now: Instant) {
        lock(&self.addresses).retain(|_, address| !address.is_forgotten(now));
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(BUSY - 1)
    }
}

impl Address {
    fn is_forgotten(&self, now: Instant) -> bool {
        let is_used = self.connections.load(Ordering::Relaxed) + self.requests.load(Ordering::Relaxed) > 0;
        !is_used && !lock(&self.cancellations).is_recent(now)
    }
}

impl Shared {
    fn is_of(&self, of: Option<&Arc<Address>>) -> bool {
        of.is_none_or(|of| lock(&self.address).as_ref().is_some_and(|own| Arc::ptr_eq(own, of)))
    }
}

/// Counts a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    capacity: Arc<Capacity>,
    shared: Arc<Shared>,
    id: u64,
    on_trial: bool,
}

impl Slot {
    /// Whether the connection is above the cap, and may stay only if it is a tunnel.
    pub(crate) fn is_on_trial(&self) -> bool {
        self.on_trial
    }

    /// Counts the connection for a visitor. At its cap, an idle connection of its own is told to go.
    ///
    /// # Errors
    /// [`Refused::ConnectionsOfAddress`] or [`Refused::Cancelling`].
    pub(crate) fn assign(&self, ip: IpAddr) -> Result<(), Refused> {
        let address = self.capacity.address(ip);
        let count = address.connections.fetch_add(1, Ordering::Relaxed) + 1;
        *lock(&self.shared.address) = Some(address.clone());
        if lock(&address.cancellations).is_exceeded(Instant::now()) {
            return Err(Refused::Cancelling);
        }
        // The new one is idle too, and must not be told to go itself.
        let since = self.shared.idle_since.swap(BUSY, Ordering::Relaxed);
        let is_full = count > self.capacity.caps.load().connections_per_address
            && self.capacity.shed(Some(&address)) == 0;
        self.shared.idle_since.store(since, Ordering::Relaxed);
        if is_full { Err(Refused::ConnectionsOfAddress) } else { Ok(()) }
    }

    fn address(&self) -> Option<Arc<Address>> {
        lock(&self.shared.address).clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.capacity.slots).remove(&self.id);
        self.capacity.connections.fetch_sub(1, Ordering::Relaxed);
        if self.on_trial {
            self.capacity.on_trial.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(address) = lock(&self.shared.address).take() {
            address.connections.fetch_sub(1, Ordering::Relaxed);
            self.capacity.release(&address);
        }
    }
}

/// Counts a request until it is dropped.
#[derive(Debug)]
pub(crate) struct RequestSlot {
    capacity: Arc<Capacity>,
    address: Arc<Address>,
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.capacity.requests.fetch_sub(1, Ordering::Relaxed);
        if self.address.requests.fetch_sub(1, Ordering::Relaxed) == 1
            && self.address.connections.load(Ordering::Relaxed) == 0
        {
            self.capacity.release(&self.address);
        }
    }
}

/// What happens on one connection, for its own worker.
#[derive(Debug)]
pub(crate) struct Traffic {
    slot: Slot,
    address: Option<Arc<Address>>,
    running: Cell<usize>,
    idle_since: Cell<Instant>,
    cancellations: std::cell::RefCell<Cancellations>,
    is_calmed: Cell<bool>,
    /// Bytes of bodies that the visitor has taken or given while we waited for it.
    pub(crate) moved: Cell<u64>,
    /// Uploads that are under way, and those of them that wait for the visitor.
    pub(crate) uploads: Cell<usize>,
    pub(crate) waiting: Cell<usize>,
}

impl Traffic {
    pub(crate) fn new(slot: Slot) -> Rc<Self> {
        Rc::new(Self {
            address: slot.address(),
            slot,
            running: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            cancellations: Cancellations::of_connection().into(),
            is_calmed: Cell::new(false),
            moved: Cell::new(0),
            uploads: Cell::new(0),
            waiting: Cell::new(0),
        })
    }

    /// Counts a request on this connection.
    ///
    /// # Errors
    /// [`Refused`] when there are too many.
    pub(crate) fn request(&self, ip: IpAddr) -> Result<RequestSlot, Refused> {
        self.slot.capacity.request(self.address.clone(), ip)
    }

    /// The connection is busy until the guard is dropped.
    pub(crate) fn busy(self: &Rc<Self>) -> Busy {
        if self.running.replace(self.running.get() + 1) == 0 {
            self.slot.shared.idle_since.store(BUSY, Ordering::Relaxed);
        }
        Busy(self.clone())
    }

    /// Since when nothing was asked; `None` while requests run.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.running.get() == 0).then(|| self.idle_since.get())
    }

    /// Resolves when the connection is to make room for others.
    pub(crate) async fn told_to_go(&self) {
        self.slot.shared.told.notified().await;
    }

    /// Counts a request that has ended. Where the visitor mostly cancels, the connection is to end.
    pub(crate) fn ended(&self, request: &RequestSlot, was_cancelled: bool) {
        let now = Instant::now();
        let by_connection = self.cancellations.borrow_mut().note(was_cancelled, now);
        if lock(&request.address.cancellations).note(was_cancelled, now) || by_connection {
            self.is_calmed.set(true);
            // Whoever drives the connection looks.
            self.slot.shared.told.notify_one();
        }
    }

    /// Whether the visitor has cancelled too many requests.
    pub(crate) fn is_calmed(&self) -> bool {
        self.is_calmed.get()
    }

    /// How long a connection without requests is kept.
    pub(crate) fn idle_limit(&self) -> std::time::Duration {
        self.slot.capacity.caps.load().idle
    }
}

/// A connection with a request under way.
#[derive(Debug)]
pub(crate) struct Busy(Rc<Traffic>);

impl Drop for Busy {
    fn drop(&mut self) {
        let traffic = &self.0;
        let left = traffic.running.get() - 1;
        traffic.running.set(left);
        if left == 0 {
            traffic.idle_since.set(Instant::now());
            traffic.slot.shared.idle_since.store(traffic.slot.capacity.now(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use adit_policy::limits::{CANCELLED_OF_ADDRESS_MAX, CANCELLED_OF_CONNECTION_MAX};

    use super::*;

    fn capacity(connections: usize, of_address: usize) -> Arc<Capacity> {
        let capacity = Arc::new(Capacity::default());
        capacity.set(Caps {
            connections,
            connections_per_address: of_address,
            requests: 4,
            requests_per_address: 2,
            idle: Duration::from_secs(60),
        });
        capacity
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn is_told(traffic: &Traffic) -> bool {
        traffic.slot.shared.leaves.load(Ordering::Relaxed)
    }

    #[test]
    fn above_the_cap_the_oldest_idle_connection_goes_and_busy_ones_stay() {
        let capacity = capacity(3, 10);
        let held: Vec<Rc<Traffic>> = (0..3).map(|_| Traffic::new(capacity.connect().unwrap())).collect();
        let _busy = held[0].busy();
        let more = capacity.connect().unwrap();
        assert!(!more.is_on_trial(), "two idle ones make room");
        assert_eq!(held.iter().map(|held| is_told(held)).collect::<Vec<_>>(), [false, true, true]);
        // Those that were told are not told again: nobody else is idle.
        let _also_busy = Traffic::new(more).busy();
        assert!(capacity.connect().unwrap().is_on_trial());
    }

    #[test]
    fn without_idle_connections_new_ones_are_refused_until_one_ends() {
        let capacity = capacity(2, 10);
        let held: Vec<Rc<Traffic>> = (0..2).map(|_| Traffic::new(capacity.connect().unwrap())).collect();
        let mut busy: Vec<Busy> = held.iter().map(Traffic::busy).collect();
        let mut trial = Vec::new();
        for _ in 0..CONNECTIONS_ON_TRIAL {
            let traffic = Traffic::new(capacity.connect().unwrap());
            busy.push(traffic.busy());
            trial.push(traffic);
        }
        assert!(trial.iter().all(|traffic| traffic.slot.is_on_trial()));
        assert_eq!(capacity.connect().err(), Some(Refused::Connections));
        drop((busy, trial, held));
        assert!(!capacity.connect().unwrap().is_on_trial());
        assert_eq!(capacity.connections.load(Ordering::Relaxed), 0, "everything is given back");
    }

    #[test]
    fn one_address_cannot_take_the_place_of_others() {
        let capacity = capacity(100, 2);
        let connect = |last| {
            let slot = capacity.connect().unwrap();
            slot.assign(ip(last)).map(|()| Traffic::new(slot))
        };
        let held = [connect(1).unwrap(), connect(1).unwrap()];
        let busy = [held[0].busy(), held[1].busy()];
        assert_eq!(connect(1).err(), Some(Refused::ConnectionsOfAddress));
        assert!(connect(2).is_ok());
        drop(busy);
        assert!(connect(1).is_ok(), "an idle one of its own goes");
        assert_eq!(held.iter().filter(|held| is_told(held)).count(), 1);
        drop(held);
        assert!(lock(&capacity.addresses).is_empty(), "nothing is kept");
        // A home has a /64.
        let homes = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let slots: Vec<Slot> = homes.iter().map(|_| capacity.connect().unwrap()).collect();
        slots.iter().for_each(|slot| slot.shared.idle_since.store(BUSY, Ordering::Relaxed));
        let outcomes: Vec<bool> = slots.iter().zip(homes).map(|(slot, ip)| slot.assign(ip).is_ok()).collect();
        assert_eq!(outcomes, [true, true, false]);
    }

    #[test]
    fn requests_are_counted_by_the_visitor_whom_a_proxy_names() {
        let capacity = capacity(100, 100);
        let first = [capacity.request(None, ip(1)).unwrap(), capacity.request(None, ip(1)).unwrap()];
        assert_eq!(capacity.request(None, ip(1)).err(), Some(Refused::RequestsOfAddress));
        let _second = [capacity.request(None, ip(2)).unwrap(), capacity.request(None, ip(2)).unwrap()];
        assert_eq!(capacity.request(None, ip(3)).err(), Some(Refused::Requests));
        drop(first);
        assert!(capacity.request(None, ip(3)).is_ok());
    }

    #[test]
    fn who_cancels_is_remembered_after_the_connection() {
        let capacity = capacity(1000, 1000);
        let mut calmed = 0;
        for _ in 0..100 {
            let slot = capacity.connect().unwrap();
            if slot.assign(ip(1)).is_err() {
                break;
            }
            let traffic = Traffic::new(slot);
            while !traffic.is_calmed() {
                let request = traffic.request(ip(1)).unwrap();
                traffic.ended(&request, true);
            }
            calmed += 1;
        }
        let expected = CANCELLED_OF_ADDRESS_MAX.div_ceil(CANCELLED_OF_CONNECTION_MAX + 1);
        assert_eq!(calmed, expected, "connections of a hundred, then none");
        let slot = capacity.connect().unwrap();
        assert!(slot.assign(ip(2)).is_ok(), "others are not meant");
        capacity.sweep(Instant::now() + adit_policy::limits::CANCEL_WINDOW);
        assert!(!lock(&capacity.addresses).contains_key(&ip(1)));
    }
}
