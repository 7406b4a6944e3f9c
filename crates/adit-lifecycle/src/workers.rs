//! One thread per core, each with a runtime of its own: a request stays on its thread, and nothing is shared by locks.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::{broadcast, watch};
use tokio::task::LocalSet;

/// More threads than this gain nothing for a proxy and cost memory.
const WORKERS_MAX: usize = 8;

/// Which of the threads this is.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    /// From 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

/// The running threads.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    panicked: watch::Receiver<Option<WorkerPanicked>>,
}

/// A worker's own loop panicked, not only a task on it; the panic is in the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("worker thread {0} panicked")]
pub struct WorkerPanicked(String);

impl Workers {
    /// Starts the threads. `body` runs on each; its tasks end with it.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn spawn<F, Fut>(name: &str, count: usize, body: F) -> io::Result<Self>
    where
        F: Fn(Worker) -> Fut + Send + Clone + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let (tell, panicked) = watch::channel(None);
        // Nothing starts until everything can: a thread whose gate is dropped ends.
        let (gate, _) = broadcast::channel::<()>(1);
        let spawn = |index| {
            let (body, worker) = (body.clone(), Worker { index, count });
            let (tell, mut gate, name) = (tell.clone(), gate.subscribe(), format!("{name}-{index}"));
            let runtime = Builder::new_current_thread().enable_all().build()?;
            std::thread::Builder::new().name(name.clone()).spawn(move || {
                if gate.blocking_recv().is_err() {
                    return;
                }
                let run = || LocalSet::new().block_on(&runtime, body(worker));
                if catch_unwind(AssertUnwindSafe(run)).is_err() {
                    tell.send_replace(Some(WorkerPanicked(name)));
                }
            })
        };
        let threads = (0..count).map(spawn).collect::<io::Result<_>>()?;
        drop(gate.send(()));
        Ok(Self { threads, panicked })
    }

    /// Resolves when a worker panicked; never otherwise.
    pub fn failed(&self) -> impl Future<Output = WorkerPanicked> + use<> {
        let mut panicked = self.panicked.clone();
        async move {
            match panicked.wait_for(Option::is_some).await.map(|panicked| panicked.clone()) {
                Ok(Some(panicked)) => panicked,
                _ => std::future::pending().await,
            }
        }
    }

    /// Waits for all threads. Call it where blocking is allowed.
    ///
    /// # Errors
    /// When one panicked.
    pub fn join(self) -> Result<(), WorkerPanicked> {
        for thread in self.threads {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            thread.join().map_err(|_| WorkerPanicked(name))?;
        }
        self.panicked.borrow().clone().map_or(Ok(()), Err)
    }
}

/// A thread per core, within reason.
#[must_use]
pub fn default_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_worker_runs_its_body_with_local_tasks() {
        let sum = Arc::new(AtomicUsize::new(0));
        let seen = sum.clone();
        let workers = Workers::spawn("test", 3, move |worker| {
            let seen = seen.clone();
            async move {
                let local = tokio::task::spawn_local(async move { worker.index + 1 });
                seen.fetch_add(local.await.unwrap(), Ordering::Relaxed);
            }
        });
        workers.unwrap().join().unwrap();
        assert_eq!(sum.load(Ordering::Relaxed), 6);
    }

    #[tokio::test]
    async fn a_panic_surfaces_at_once() {
        let workers = Workers::spawn("test", 1, |_| async { panic!("on purpose") }).unwrap();
        assert_eq!(workers.failed().await.to_string(), "worker thread test-0 panicked");
        assert_eq!(workers.join().unwrap_err().to_string(), "worker thread test-0 panicked");
    }
}
