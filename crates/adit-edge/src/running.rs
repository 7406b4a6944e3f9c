//! A request under way, counted for its connection and its visitor until it ends.

use std::net::IpAddr;
use std::rc::Rc;

use crate::capacity::{Busy, Refused, RequestSlot, Traffic};

/// A request under way. Dropped before its answer is whole, it counts as cancelled by the visitor.
pub(crate) struct Running {
    traffic: Rc<Traffic>,
    slot: RequestSlot,
    is_whole: bool,
    _busy: Busy,
}

impl Running {
    /// Counts a request of the visitor `ip` on a connection.
    ///
    /// # Errors
    /// [`Refused`] when there are too many.
    pub(crate) fn start(traffic: &Rc<Traffic>, ip: IpAddr) -> Result<Self, Refused> {
        let slot = traffic.request(ip)?;
        Ok(Self { traffic: traffic.clone(), slot, is_whole: false, _busy: traffic.busy() })
    }

    /// Its answer is being dropped, whole or not.
    pub(crate) fn ended(&mut self, is_whole: bool) {
        self.is_whole = is_whole;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.traffic.ended(&self.slot, !self.is_whole);
    }
}
