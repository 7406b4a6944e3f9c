//! Draining has three roles: who triggers it, who watches for it, and who holds it up while work is in flight.

use std::sync::Arc;

use tokio::sync::watch;

/// Starts the drain and waits for its end.
#[derive(Debug)]
pub struct DrainTrigger {
    start: watch::Sender<bool>,
    blockers: Arc<watch::Sender<usize>>,
}

/// Sees the drain begin, and makes blockers. Watching alone holds nothing up.
#[derive(Clone, Debug)]
pub struct DrainWatcher {
    started: watch::Receiver<bool>,
    blockers: Arc<watch::Sender<usize>>,
}

/// Holds the drain up for as long as it lives.
#[derive(Debug)]
pub struct DrainBlocker(Arc<watch::Sender<usize>>);

/// A drain and its first watcher.
#[must_use]
pub fn channel() -> (DrainTrigger, DrainWatcher) {
    let (start, started) = watch::channel(false);
    let blockers = Arc::new(watch::Sender::new(0));
    (DrainTrigger { start, blockers: blockers.clone() }, DrainWatcher { started, blockers })
}

impl DrainTrigger {
    /// Tells every watcher to take no new work.
    pub fn start(&self) {
        self.start.send_replace(true);
    }

    /// Resolves when no blocker is left.
    pub async fn finished(&self) {
        // The sender is ours, so the channel does not close.
        drop(self.blockers.subscribe().wait_for(|count| *count == 0).await);
    }
}

impl DrainWatcher {
    /// Resolves when the drain begins. Without its trigger it never does.
    pub async fn draining(&self) {
        let mut started = self.started.clone();
        if started.wait_for(|started| *started).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.started.borrow()
    }

    /// Holds the drain up until the blocker is dropped.
    #[must_use]
    pub fn block(&self) -> DrainBlocker {
        self.blockers.send_modify(|count| *count += 1);
        DrainBlocker(self.blockers.clone())
    }
}

impl Drop for DrainBlocker {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_ends_with_its_last_blocker() {
        let (trigger, watcher) = channel();
        let (first, second) = (watcher.block(), watcher.block());
        assert!(!watcher.is_draining());
        trigger.start();
        watcher.draining().await;
        let mut finished = std::pin::pin!(trigger.finished());
        drop(first);
        assert!(futures_util::poll!(finished.as_mut()).is_pending());
        drop(second);
        finished.await;
    }

    #[tokio::test]
    async fn watching_holds_nothing_up() {
        let (trigger, _watcher) = channel();
        trigger.start();
        trigger.finished().await;
    }
}
