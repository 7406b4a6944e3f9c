//! What a connector knows of itself, for its local endpoints: connections, version of its rules, the last bad file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use adit_tunnel::Protocol;

/// The version of rules that no edge pushed.
pub(crate) const NOT_PUSHED: i32 = -1;

/// The state of a connector.
#[derive(Debug)]
pub struct Status {
    links: Mutex<BTreeMap<u8, LinkStatus>>,
    /// Version of the rules that an edge pushed; −1 for rules of one's own.
    version: AtomicI32,
    fault: Mutex<Option<String>>,
    /// What the configuration warns of.
    notes: Mutex<Vec<String>>,
    draining: AtomicBool,
}

/// One registered connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Its transport.
    pub protocol: Protocol,
    /// The edge's address.
    pub edge: SocketAddr,
    /// Whether that edge holds rules for the tunnel.
    pub managed: bool,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            links: Mutex::default(),
            version: AtomicI32::new(NOT_PUSHED),
            fault: Mutex::default(),
            notes: Mutex::default(),
            draining: AtomicBool::new(false),
        }
    }
}

impl Status {
    /// The registered connections, by index.
    #[must_use]
    pub fn links(&self) -> BTreeMap<u8, LinkStatus> {
        self.lock().clone()
    }

    /// How many connections serve: the registered ones, and none once the drain has begun, whatever still finishes.
    #[must_use]
    pub fn ready(&self) -> usize {
        if self.draining.load(Ordering::Relaxed) { 0 } else { self.lock().len() }
    }

    /// Whether an edge that is connected holds rules for the tunnel.
    pub(crate) fn is_managed(&self) -> bool {
        self.lock().values().any(|link| link.managed)
    }

    /// Notes that the drain has begun.
    pub fn start_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Version of the rules that an edge pushed; −1 for rules of one's own.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.version.load(Ordering::Relaxed)
    }

    /// Why the last change of the rules was refused; `None` when it was good.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the configuration in force warns of: keys without effect, for example.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what the configuration in force warns of.
    pub fn set_notes(&self, notes: Vec<String>) {
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;
    }

    /// Notes the outcome of a change of the rules.
    pub fn changed(&self, fault: Option<String>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    pub(crate) fn set_version(&self, version: i32) {
        self.version.store(version, Ordering::Relaxed);
    }

    pub(crate) fn connected(&self, index: u8, link: LinkStatus) {
        self.lock().insert(index, link);
    }

    pub(crate) fn disconnected(&self, index: u8) {
        self.lock().remove(&index);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u8, LinkStatus>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
