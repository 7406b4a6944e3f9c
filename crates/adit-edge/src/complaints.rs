//! Lines about what strangers did: a port that led nowhere, a header that nobody may send. Not too many of them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pause between two lines about what strangers did: they must not fill the log.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(1);

/// When the last such line was written.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<Option<Instant>>);

impl Complaints {
    /// Whether another line may be written now.
    pub(crate) fn may(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= COMPLAINT_PAUSE);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}
