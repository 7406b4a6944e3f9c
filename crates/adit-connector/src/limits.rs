//! Caps on what an origin may do to the connector, with their units and reasons.

use std::time::Duration;

/// Interim responses (1xx) of one request. Servers send one or two (103, 102 every 20 s); each costs a message through the
/// tunnel, so a flood of them is an error of the origin.
pub(crate) const INTERIM_MAX: usize = 32;

/// Time from the first byte of an origin's head to its end, and for one chunk-size line or trailer section. What an origin
/// writes at all it writes at once; waiting for the first byte is not limited here.
pub(crate) const LINE_TIME: Duration = Duration::from_secs(10);
