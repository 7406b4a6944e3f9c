//! The window of each stream between our own two ends: how far its sender may be ahead of its reader.
//!
//! The transports give every stream of a connection the same fixed window. One that is large enough for a fast reader lets
//! a few hundred readers that stopped hold hundreds of mebibytes, and use up the window that the whole connection shares.
//! So a stream begins with [`WINDOW_FIRST`], a reader that is fast gets more, and all windows together may only grow by
//! [`WINDOWS_GROWN_MAX`]. Updates travel on a stream of their own (`adit_wire::window`). cloudflared knows nothing of this and
//! keeps to the transport's windows.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use adit_wire::window::{UPDATE_LEN, Update};
use bytes::{Buf as _, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

use crate::limits::{STREAM_WINDOW, WINDOW_FAST, WINDOW_FIRST, WINDOW_SLOW, WINDOWS_GROWN_MAX};

/// Bytes by which all windows of this process are larger than the first one.
static GROWN: AtomicU64 = AtomicU64::new(0);

/// The windows of one connection, of the streams of both directions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How far we may send, for the streams that are near their first limit or beyond it. `None` once there are no more
    /// updates, and so no limits.
    limits: Mutex<Limits>,
    /// What the peer is to be told.
    due: Mutex<Vec<Update>>,
    told: Notify,
}

#[derive(Debug)]
struct Limits(Option<HashMap<u64, Arc<Limit>>>);

impl Default for Limits {
    fn default() -> Self {
        Self(Some(HashMap::new()))
    }
}

/// Payload bytes that may be sent on one stream since its start.
#[derive(Debug)]
struct Limit {
    bytes: AtomicU64,
    sender: AtomicWaker,
}

impl Limit {
    fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::new(bytes), sender: AtomicWaker::new() })
    }

    fn raise(&self, bytes: u64) {
        self.bytes.fetch_max(bytes, Ordering::AcqRel);
        self.sender.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Windows {
    /// Carries updates in both directions until the stream ends. From then on nothing is limited here: the transport's
    /// windows remain.
    pub(crate) async fn run(self, reader: impl AsyncRead + Unpin, writer: impl AsyncWrite + Unpin) {
        // However it ends, the connection is about to end too, or the peer wants no more of this.
        tokio::select! {
            ended = self.take_updates(reader) => drop(ended),
            ended = self.send_updates(writer) => drop(ended),
        }
        let limits = lock(&self.0.limits).0.take();
        limits.into_iter().flatten().for_each(|(_, limit)| limit.raise(u64::MAX));
    }

    async fn take_updates(&self, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut buffer = BytesMut::with_capacity(UPDATE_LEN * 64);
        while reader.read_buf(&mut buffer).await? > 0 {
            while let Some(record) = buffer.first_chunk::<UPDATE_LEN>() {
                self.take(Update::decode(*record));
                buffer.advance(UPDATE_LEN);
            }
            buffer.reserve(UPDATE_LEN * 64);
        }
        Ok(())
    }

    /// An update for a stream that is not registered is for one that has ended.
    fn take(&self, update: Update) {
        let limits = lock(&self.0.limits);
        if let Some(limit) = limits.0.as_ref().and_then(|limits| limits.get(&update.stream)) {
            limit.raise(update.limit);
        }
    }

    async fn send_updates(&self, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut bytes = Vec::new();
        loop {
            let due = std::mem::take(&mut *lock(&self.0.due));
            if due.is_empty() {
                self.0.told.notified().await;
                continue;
            }
            bytes.clear();
            due.into_iter().for_each(|update| bytes.extend_from_slice(&update.encode()));
            writer.write_all(&bytes).await?;
            writer.flush().await?;
        }
    }

    fn tell(&self, update: Update) {
        lock(&self.0.due).push(update);
        self.0.told.notify_one();
    }

    fn register(&self, stream: u64) -> Arc<Limit> {
        match &mut lock(&self.0.limits).0 {
            Some(limits) => limits.entry(stream).or_insert_with(|| Limit::new(WINDOW_FIRST)).clone(),
            None => Limit::new(u64::MAX),
        }
    }

    fn forget(&self, stream: u64) {
        if let Some(limits) = &mut lock(&self.0.limits).0 {
            limits.remove(&stream);
        }
    }
}

/// The sending side of one stream.
#[derive(Debug)]
pub(crate) struct Outflow {
    windows: Option<Windows>,
    stream: u64,
    sent: u64,
    limit: Option<Arc<Limit>>,
}

impl Outflow {
    /// Returns the sending side of a stream; without `windows` it has no limit.
    pub(crate) fn new(windows: Option<&Windows>, stream: u64) -> Self {
        Self { windows: windows.cloned(), stream, sent: 0, limit: None }
    }

    /// Returns how many of the `wanted` bytes may be sent, at least one.
    pub(crate) fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<usize> {
        let Some(windows) = &self.windows else { return Poll::Ready(wanted) };
        // The peer sends no update before it has read half of the first window, so short bodies need no entry.
        if self.limit.is_none() && self.sent + (wanted as u64) < WINDOW_FIRST / 2 {
            return Poll::Ready(wanted);
        }
        let limit = self.limit.get_or_insert_with(|| windows.register(self.stream));
        let room =
            || limit.bytes.load(Ordering::Acquire).saturating_sub(self.sent).min(wanted as u64) as usize;
        if room() == 0 {
            limit.sender.register(cx.waker());
        }
        match room() {
            0 => Poll::Pending,
            room => Poll::Ready(room),
        }
    }

    /// Counts payload bytes that are about to be sent with the head, whatever the limit is. An update can only be lost while
    /// the stream is not known here, so it is made known before.
    pub(crate) fn with_head(mut self, bytes: usize) -> Self {
        if let (Some(windows), true) = (&self.windows, bytes as u64 >= WINDOW_FIRST / 2) {
            self.limit = Some(windows.register(self.stream));
        }
        self.sent(bytes);
        self
    }

    /// Counts payload bytes that were given to the transport.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }
}

impl Drop for Outflow {
    fn drop(&mut self) {
        if let (Some(windows), Some(_)) = (&self.windows, &self.limit) {
            windows.forget(self.stream);
        }
    }
}

/// The receiving side of one stream.
#[derive(Debug)]
pub(crate) struct Inflow {
    windows: Option<Windows>,
    stream: u64,
    consumed: u64,
    limit: u64,
    window: u64,
    /// When the last update was due.
    updated: Option<Instant>,
}

impl Inflow {
    /// Returns the receiving side of a stream; without `windows` nothing is told.
    pub(crate) fn new(windows: Option<&Windows>, stream: u64) -> Self {
        let windows = windows.cloned();
        Self { windows, stream, consumed: 0, limit: WINDOW_FIRST, window: WINDOW_FIRST, updated: None }
    }

    /// Counts payload bytes that the reader has taken, and lets the peer send on. `remaining` is what is still to come,
    /// where that is known.
    pub(crate) fn consumed(&mut self, bytes: usize, remaining: Option<u64>) {
        let Some(windows) = &self.windows else { return };
        self.consumed += bytes as u64;
        let ahead = self.limit.saturating_sub(self.consumed);
        if ahead > self.window / 2 || remaining.is_some_and(|left| left <= ahead) {
            return;
        }
        let now = Instant::now();
        let since = self.updated.replace(now).map(|before| now.saturating_duration_since(before));
        let next = next_window(self.window, since);
        if next <= self.window || grow(next - self.window) {
            give_back(self.window.saturating_sub(next));
            self.window = next;
        }
        if self.consumed + self.window > self.limit {
            self.limit = self.consumed + self.window;
            windows.tell(Update { stream: self.stream, limit: self.limit });
        }
    }
}

impl Drop for Inflow {
    fn drop(&mut self) {
        give_back(self.window - WINDOW_FIRST);
    }
}

fn grow(bytes: u64) -> bool {
    let grown = |all: u64| all.checked_add(bytes).filter(|all| *all <= WINDOWS_GROWN_MAX);
    GROWN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
}

fn give_back(bytes: u64) {
    if bytes > 0 {
        GROWN.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Returns the next window of a reader that took half of the present one in `since`. At [`WINDOW_FAST`] a window holds what
/// is read in twice that time, so a reader is not slowed down on paths with a round trip up to then.
fn next_window(window: u64, since: Option<Duration>) -> u64 {
    match since {
        Some(since) if since < WINDOW_FAST => (window * 2).min(STREAM_WINDOW.into()),
        Some(since) if since > WINDOW_SLOW => (window / 2).max(WINDOW_FIRST),
        _ => window,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn room(outflow: &mut Outflow, wanted: usize) -> Option<usize> {
        match outflow.poll_room(wanted, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(room) => Some(room),
            Poll::Pending => None,
        }
    }

    #[test]
    fn windows_follow_the_reader() {
        let millis = |number| Some(Duration::from_millis(number));
        let first = WINDOW_FIRST;
        assert_eq!(next_window(first, None), first, "nothing is known of the reader yet");
        assert_eq!(next_window(first, millis(1)), 2 * first);
        assert_eq!(next_window(STREAM_WINDOW.into(), millis(1)), u64::from(STREAM_WINDOW));
        assert_eq!(next_window(4 * first, millis(200)), 4 * first);
        assert_eq!(next_window(4 * first, millis(2_000)), 2 * first);
        assert_eq!(next_window(first, millis(2_000)), first);
    }

    #[test]
    fn a_sender_stops_at_the_first_window_and_goes_on_with_an_update() {
        let windows = Windows::default();
        let mut outflow = Outflow::new(Some(&windows), 4);
        let mut sent = 0;
        while let Some(bytes) = room(&mut outflow, 10_000) {
            outflow.sent(bytes);
            sent += bytes as u64;
        }
        assert_eq!(sent, WINDOW_FIRST);
        windows.take(Update { stream: 8, limit: 1 << 40 });
        assert_eq!(room(&mut outflow, 1), None, "that was for another stream");
        windows.take(Update { stream: 4, limit: WINDOW_FIRST + 7 });
        assert_eq!(room(&mut outflow, 10), Some(7));
        windows.take(Update { stream: 4, limit: 0 });
        assert_eq!(room(&mut outflow, 10), Some(7), "an older update takes nothing back");
        drop(outflow);
        assert!(lock(&windows.0.limits).0.as_ref().is_some_and(HashMap::is_empty));
    }

    #[test]
    fn an_update_for_what_came_with_the_head_is_not_lost() {
        let windows = Windows::default();
        let first = WINDOW_FIRST as usize / 2 + 1;
        let mut outflow = Outflow::new(Some(&windows), 4).with_head(first);
        windows.take(Update { stream: 4, limit: 2 * WINDOW_FIRST });
        assert_eq!(room(&mut outflow, 1 << 20), Some(2 * WINDOW_FIRST as usize - first));
        let mut beyond = Outflow::new(Some(&windows), 8).with_head(2 * WINDOW_FIRST as usize);
        assert_eq!(room(&mut beyond, 1), None);
    }

    #[test]
    fn a_short_body_leaves_no_trace() {
        let windows = Windows::default();
        let mut outflow = Outflow::new(Some(&windows), 4);
        assert_eq!(room(&mut outflow, 1024), Some(1024));
        assert!(lock(&windows.0.limits).0.as_ref().is_some_and(HashMap::is_empty));
    }

    #[test]
    fn a_reader_that_stops_is_told_no_more_than_it_has_read() {
        let windows = Windows::default();
        let mut inflow = Inflow::new(Some(&windows), 4);
        inflow.consumed(1000, None);
        assert!(lock(&windows.0.due).is_empty(), "most of the window is free");
        inflow.consumed(WINDOW_FIRST as usize / 2, Some(10));
        assert!(lock(&windows.0.due).is_empty(), "the rest fits");
        inflow.consumed(1, None);
        let due = lock(&windows.0.due).pop().unwrap();
        assert_eq!(due, Update { stream: 4, limit: WINDOW_FIRST / 2 + 1001 + WINDOW_FIRST });
    }

    #[tokio::test]
    async fn updates_pass_both_ways_and_their_end_lifts_the_limits() {
        let (here, there) = (Windows::default(), Windows::default());
        let (near, far) = tokio::io::duplex(64);
        let (read, write) = tokio::io::split(near);
        let here_runs = tokio::spawn(here.clone().run(read, write));
        let mut outflow = Outflow::new(Some(&here), 4);
        let full = room(&mut outflow, WINDOW_FIRST as usize).unwrap();
        outflow.sent(full);
        let (read, write) = tokio::io::split(far);
        let there_runs = tokio::spawn(there.clone().run(read, write));
        there.tell(Update { stream: 4, limit: WINDOW_FIRST + 5 });
        let opened = std::future::poll_fn(|cx| outflow.poll_room(100, cx)).await;
        assert_eq!(opened, 5);
        outflow.sent(5);
        there_runs.abort();
        drop(there_runs.await);
        let freed = std::future::poll_fn(|cx| outflow.poll_room(100, cx)).await;
        assert_eq!(freed, 100, "without updates the transport's own windows hold");
        here_runs.await.unwrap();
    }
}
