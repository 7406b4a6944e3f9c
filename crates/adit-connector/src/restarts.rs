//! Orders to make a connection anew: whichever connection hears one first obeys it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Orders that wait. There are no more than a person types.
const WAITING_MAX: usize = 64;

/// The orders.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    waiting: Mutex<VecDeque<Duration>>,
    some: Notify,
}

impl Restarts {
    pub(crate) fn ask(&self, pause: Duration) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING_MAX {
            waiting.push_back(pause);
            self.some.notify_one();
        }
    }

    /// The next order: the pause before the new connection.
    pub(crate) async fn next(&self) -> Duration {
        loop {
            let some = self.some.notified();
            if let Some(pause) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                return pause;
            }
            some.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_order_is_obeyed_once() {
        let restarts = Restarts::default();
        restarts.ask(Duration::from_secs(1));
        restarts.ask(Duration::from_secs(2));
        let (first, second) = tokio::join!(restarts.next(), restarts.next());
        assert_eq!((first, second), (Duration::from_secs(1), Duration::from_secs(2)));
    }
}
