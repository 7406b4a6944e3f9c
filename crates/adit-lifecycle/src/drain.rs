//! Draining has three roles: who triggers it, who watches for it, and who holds it up while work is in flight.

use tokio::sync::{mpsc, watch};

/// Starts the drain and waits for its end.
#[derive(Debug)]
pub struct DrainTrigger {
    start: watch::Sender<bool>,
    finished: mpsc::Receiver<()>,
}

/// Sees the drain begin, and makes blockers.
#[derive(Clone, Debug)]
pub struct DrainWatcher {
    started: watch::Receiver<bool>,
    blocker: mpsc::Sender<()>,
}

/// Holds the drain up for as long as it lives.
#[derive(Clone, Debug)]
pub struct DrainBlocker(#[expect(dead_code, reason = "held for its drop")] mpsc::Sender<()>);

/// A drain and its first watcher.
#[must_use]
pub fn channel() -> (DrainTrigger, DrainWatcher) {
    let (start, started) = watch::channel(false);
    let (blocker, finished) = mpsc::channel(1);
    (DrainTrigger { start, finished }, DrainWatcher { started, blocker })
}

impl DrainTrigger {
    /// Tells every watcher to take no new work.
    pub fn start(&self) {
        self.start.send_replace(true);
    }

    /// Resolves when the last watcher and blocker is gone.
    pub async fn finished(&mut self) {
        // Nothing is ever sent: the channel only closes.
        while self.finished.recv().await.is_some() {}
    }
}

impl DrainWatcher {
    /// Resolves when the drain begins, or its trigger is gone.
    pub async fn draining(&self) {
        let mut started = self.started.clone();
        // A trigger that is gone cannot start; the process ends then anyway.
        drop(started.wait_for(|started| *started).await);
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.started.borrow()
    }

    /// Holds the drain up until the blocker is dropped.
    #[must_use]
    pub fn block(&self) -> DrainBlocker {
        DrainBlocker(self.blocker.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_ends_with_its_last_blocker() {
        let (mut trigger, watcher) = channel();
        let blocker = watcher.block();
        assert!(!watcher.is_draining());
        trigger.start();
        watcher.draining().await;
        drop(watcher);
        let mut finished = std::pin::pin!(trigger.finished());
        assert!(futures_util::poll!(finished.as_mut()).is_pending());
        drop(blocker);
        finished.await;
    }
}
