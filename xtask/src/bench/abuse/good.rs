//! The good visitor: one page after the other, each over a connection of its own, and what he noticed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use adit_testkit::visitor::{Visitor, empty, whole};
use http::{Method, StatusCode};

use super::attack::Target;

/// From one request to the next.
const EVERY: Duration = Duration::from_millis(50);
/// A page that takes longer has not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was asked, and how long each answer took.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) asked: usize,
    pub(super) served: usize,
    times: Vec<Duration>,
    /// When the last one came who was served quickly.
    quick: Option<Instant>,
}

impl Seen {
    /// Milliseconds; requests without an answer count with the whole patience.
    pub(super) fn percentile(&self, part: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let time = times.get(times.len().saturating_sub(1) * part / 100).copied().unwrap_or_default();
        time.as_secs_f64() * 1000.0
    }
}

/// A visitor who asks until he is dropped.
pub(super) struct Good {
    seen: Arc<Mutex<Seen>>,
    _runtime: tokio::runtime::Runtime,
}

impl Good {
    /// Begins to ask.
    pub(super) fn start(target: &Target) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        // One thread beside the attackers'.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("a runtime: {error}"));
        let visitor = target.good();
        let all = seen.clone();
        runtime.spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                ticks.tick().await;
                tokio::spawn(ask(visitor.clone(), all.clone()));
            }
        });
        Self { seen, _runtime: runtime }
    }

    /// What was seen since the last time.
    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long from now until somebody comes who is served quickly; `None` after `most`.
    pub(super) fn recovers(&self, most: Duration) -> Option<Duration> {
        let began = Instant::now();
        while began.elapsed() < most {
            super::pause(Duration::from_millis(20));
            let quick = self.seen.lock().unwrap_or_else(PoisonError::into_inner).quick;
            if let Some(after) = quick.and_then(|came| came.checked_duration_since(began)) {
                return Some(after);
            }
        }
        None
    }
}

async fn ask(visitor: Visitor, seen: Arc<Mutex<Seen>>) {
    let began = Instant::now();
    let request = visitor.request(Method::GET, "localhost", "/1k", empty());
    let asking = async { whole(visitor.send("localhost", request).await?).await };
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.asked += 1;
    match answer {
        Ok(Ok(answer)) if answer.status == StatusCode::OK => {
            seen.served += 1;
            seen.times.push(began.elapsed());
            if began.elapsed() < super::RECOVERED {
                seen.quick = Some(began);
            }
        }
        _ => seen.times.push(PATIENCE),
    }
}
