//! What is done about stalled streams on connections that have only the transport's fixed windows, as cloudflared's have.
//!
//! Each such stream may hold the whole window of a stream while nobody takes its bytes. So that all of them together never
//! fill what the connection and the process have, only so many may be stalled at a time; beyond that, those that are stalled
//! for longest are cut. Streams of our own two ends hold little instead (see `window`).

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::body::Source;
use super::{Connection, InFlight};
use crate::StreamError;
use crate::limits::{
    SLOW_PIECE, SLOW_PIECE_TIME, STALL_TIME, STALLED_MAX, STALLED_PER_CONNECTION_MAX, STALLED_UPLOADS_MAX,
    WINDOW_FIRST,
};

/// Stalled responses of the process, on connections with fixed windows.
static STALLED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Responses that this thread reads, oldest first, on connections with fixed windows.
    static RESPONSES: RefCell<Vec<Weak<Response>>> = const { RefCell::new(Vec::new()) };
}

/// The stalled streams of one connection.
#[derive(Debug, Default)]
pub(super) struct Stalled {
    responses: AtomicUsize,
    uploads: Mutex<Vec<Arc<Notify>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The source of a response body that may be cut while its reader is stalled.
#[derive(Debug)]
pub(super) struct Response {
    state: Mutex<State>,
    connection: Connection,
    pub(super) is_quic: bool,
}

#[derive(Debug)]
struct State {
    /// `None` once it was cut, or is read to its end.
    source: Option<Source>,
    /// When the reader was given something that it has not come back for.
    given: Option<Instant>,
    is_counted: bool,
}

impl Response {
    /// Returns a source that may be cut, where windows are fixed and the body is larger than what may be held anyway.
    pub(super) fn watched(source: Source, remaining: Option<u64>, guard: &InFlight) -> Source {
        if guard.windows().is_some() || remaining.is_some_and(|length| length <= WINDOW_FIRST) {
            return source;
        }
        let is_quic = matches!(source, Source::Quic(_));
        let state = Mutex::new(State { source: Some(source), given: None, is_counted: false });
        let response = Arc::new(Self { state, connection: guard.0.clone(), is_quic });
        RESPONSES.with_borrow_mut(|all| all.push(Arc::downgrade(&response)));
        Source::Watched(response)
    }

    /// The next piece, as of the source. A reader that was slow gets a small one.
    pub(super) fn poll_data(
        &self,
        remaining: Option<u64>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let mut state = lock(&self.state);
        let was_slow =
            state.given.is_some_and(|given| now.saturating_duration_since(given) > SLOW_PIECE_TIME);
        let most = was_slow.then_some(SLOW_PIECE as u64);
        let room = [remaining, most].into_iter().flatten().min();
        let Some(source) = &mut state.source else {
            return Poll::Ready(Some(Err(StreamError::Stalled)));
        };
        let polled = source.poll_data(room, cx);
        state.given = polled.is_ready().then_some(now);
        polled
    }

    /// Takes the source out; it is not watched any longer.
    pub(super) fn take(&self) -> Option<Source> {
        lock(&self.state).source.take()
    }

    fn stalled_since(&self, now: Instant) -> Option<Instant> {
        lock(&self.state).given.filter(|given| now.saturating_duration_since(*given) > STALL_TIME)
    }

    fn count(&self, is_stalled: bool) {
        let was = std::mem::replace(&mut lock(&self.state).is_counted, is_stalled);
        let connection = &self.connection.0.stalled.responses;
        match (was, is_stalled) {
            (false, true) => {
                STALLED.fetch_add(1, Ordering::Relaxed);
                connection.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                STALLED.fetch_sub(1, Ordering::Relaxed);
                connection.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn is_too_many(&self) -> bool {
        STALLED.load(Ordering::Relaxed) > STALLED_MAX
            || self.connection.0.stalled.responses.load(Ordering::Relaxed) > STALLED_PER_CONNECTION_MAX
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        self.count(false);
    }
}

/// Looks for stalled responses among those that this thread reads, and cuts the oldest while there are too many. Call it a
/// few times a second on each thread that reads responses.
pub fn cut_stalled(now: Instant) {
    let mut stalled: Vec<(Instant, Arc<Response>)> = RESPONSES.with_borrow_mut(|all| {
        all.retain(|response| response.strong_count() > 0);
        let alive = all.iter().filter_map(Weak::upgrade);
        alive
            .filter_map(|response| {
                let since = response.stalled_since(now);
                response.count(since.is_some());
                Some((since?, response))
            })
            .collect()
    });
    stalled.sort_by_key(|(since, _)| *since);
    for (_, response) in stalled {
        if response.is_too_many() && response.take().is_some() {
            response.count(false);
            tracing::debug!("cut a response that was stalled for longest");
        }
    }
}

/// An upload was cut because its origin took nothing while others waited.
#[derive(Debug)]
pub(super) struct Cut;

/// Sends a part of an upload. While it waits for long it counts as stalled; when too many do, the oldest is cut.
pub(super) async fn unless_cut<T>(
    stalled: Option<&Stalled>,
    sending: impl Future<Output = T>,
) -> Result<T, Cut> {
    let Some(stalled) = stalled else { return Ok(sending.await) };
    let mut sending = std::pin::pin!(sending);
    if let Ok(sent) = timeout(STALL_TIME, &mut sending).await {
        return Ok(sent);
    }
    let place = Place::take(stalled);
    tokio::select! {
        biased;
        sent = sending => Ok(sent),
        () = place.cut.notified() => Err(Cut),
    }
}

/// A place among the stalled uploads of a connection.
struct Place<'a> {
    stalled: &'a Stalled,
    cut: Arc<Notify>,
}

impl<'a> Place<'a> {
    fn take(stalled: &'a Stalled) -> Self {
        let cut = Arc::new(Notify::new());
        let mut uploads = lock(&stalled.uploads);
        uploads.push(cut.clone());
        if uploads.len() > STALLED_UPLOADS_MAX
            && let Some(oldest) = uploads.first()
        {
            oldest.notify_one();
        }
        drop(uploads);
        Self { stalled, cut }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.stalled.uploads).retain(|cut| !Arc::ptr_eq(cut, &self.cut));
    }
}
