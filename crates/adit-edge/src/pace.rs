//! Visitors who are slower than the policy allows (`min-rate`, `timeouts.idle`) are ended here.
//!
//! The libraries do not poll a body whose reader is stalled, so nothing inside of it could notice. The task around it does:
//! one per connection on HTTP/1.1, one per stream on HTTP/2 and HTTP/3. It looks at what the body of the answer has given
//! ([`Watch`]), or on HTTP/1.1 at what the socket has taken ([`Outlet`]).

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use adit_policy::limits::{FORGIVEN_MAX, SLOW_WAIT, UNTAKEN_MAX};
use adit_policy::policy::Settings;
use adit_policy::policy::pace::{MinRate, Pace, Slow};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use crate::capacity::Traffic;

/// Whether a message is a stream that may be silent for as long as it likes: events, or gRPC.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let begins =
        |prefix: &[u8]| kind.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    begins(b"text/event-stream") || begins(b"application/grpc")
}

/// The rate that holds for a message.
fn rate_of(rate: u64, is_stream: bool) -> u64 {
    if is_stream { 0 } else { rate }
}

thread_local! {
    /// The watch of the task that is being polled.
    static CURRENT: RefCell<Option<Rc<Watch>>> = const { RefCell::new(None) };
}

/// What one task knows about the visitor whom it serves.
pub(crate) struct Watch {
    traffic: Rc<Traffic>,
    response: RefCell<Measure>,
    /// What the socket has taken, where that is what counts.
    outlet: Option<Arc<Taken>>,
    /// Why the visitor was given up.
    slow: Cell<Option<Slow>>,
}

/// A measurement that looks at its connection before it finds somebody slow.
struct Measure {
    pace: Pace,
    rule: MinRate,
    /// What the connection had moved when the measurement began.
    moved_before: u64,
    forgiven: u32,
}

impl Measure {
    fn new(rate: u64, rule: MinRate, idle: Option<Duration>, traffic: &Traffic) -> Self {
        let pace = Pace::new(rate, &rule, idle);
        Self { pace, rule, moved_before: traffic.moved.get(), forgiven: 0 }
    }

    /// Judges the visitor. A stream whose connection moves may only wait for its turn on a slow line, and is forgiven a few
    /// times.
    fn check(&mut self, traffic: &Traffic, now: Instant) -> Option<Slow> {
        let found = self.pace.check(now);
        let Some(Slow::Rate(rate)) = found else { return found };
        let moved = traffic.moved.get();
        let enough = (rate as f64 * self.rule.window.as_secs_f64()) as u64;
        let moves = moved.saturating_sub(self.moved_before) >= enough;
        self.moved_before = moved;
        if moves && self.forgiven < FORGIVEN_MAX {
            self.forgiven += 1;
            return None;
        }
        found
    }
}

impl Watch {
    /// Watches the bodies of one stream.
    pub(crate) fn of_stream(traffic: Rc<Traffic>) -> Rc<Self> {
        Self::new(traffic, None)
    }

    fn new(traffic: Rc<Traffic>, outlet: Option<Arc<Taken>>) -> Rc<Self> {
        let rule = MinRate::default();
        let measure = Measure::new(rule.response, rule, None, &traffic);
        Rc::new(Self { response: measure.into(), traffic, outlet, slow: Cell::new(None) })
    }

    /// The watch of the running task.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Another request begins, which on HTTP/1.1 has the watch of the one before.
    pub(crate) fn begin(&self) {
        self.slow.set(None);
    }

    /// What holds for the response that is about to be sent.
    pub(crate) fn expect(&self, settings: &Settings, is_stream: bool, is_upgraded: bool) {
        let rate = rate_of(settings.min_rate.response, is_stream || is_upgraded);
        let idle = settings.timeouts.idle.filter(|_| !is_upgraded);
        self.response.replace(Measure::new(rate, settings.min_rate, idle, &self.traffic));
    }

    /// Ready when the visitor's socket has taken most of what it was given: what it has not is held by the library.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.outlet {
            Some(outlet) if outlet.queued.load(Ordering::Relaxed) >= UNTAKEN_MAX => {
                *outlet.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// A body has given bytes to the library.
    pub(crate) fn queued(&self, bytes: usize) {
        if let Some(outlet) = &self.outlet {
            outlet.queued.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Whether the body of the answer says how far the visitor is.
    fn is_by_body(&self) -> bool {
        self.outlet.is_none()
    }

    /// The visitor has taken what the body gave; now it waits for us.
    pub(crate) fn taken(&self, bytes: u64) -> bool {
        if !self.is_by_body() {
            return false;
        }
        let now = Instant::now();
        let pace = &mut self.response.borrow_mut().pace;
        let was_slow = pace.waits_for(now) > SLOW_WAIT;
        pace.moved(bytes, now);
        pace.rest(now);
        self.traffic.moved.set(self.traffic.moved.get() + bytes);
        was_slow
    }

    /// The body has given something to the visitor.
    pub(crate) fn given(&self) {
        if self.is_by_body() {
            self.response.borrow_mut().pace.wait(Instant::now());
        }
    }

    /// Why the visitor was given up.
    pub(crate) fn slow(&self) -> Option<Slow> {
        self.slow.get()
    }

    fn look_at_outlet(&self) {
        let Some(outlet) = &self.outlet else { return };
        let pace = &mut self.response.borrow_mut().pace;
        let is_blocked = outlet.is_blocked.load(Ordering::Relaxed);
        let bytes = outlet.bytes.swap(0, Ordering::Relaxed);
        if !is_blocked && !pace.is_waiting() {
            return;
        }
        let now = Instant::now();
        pace.moved(bytes, now);
        if is_blocked { pace.wait(now) } else { pace.rest(now) }
    }
}

/// Ends a task whose visitor is slow.
pub(crate) struct Guard {
    watch: Rc<Watch>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Guard {
    pub(crate) fn new(watch: Rc<Watch>) -> Self {
        Self { watch, timer: None }
    }

    /// Polls what is watched. `None`: the visitor is slow, and what is watched is to be dropped.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        inner: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Option<T>> {
        let outer = CURRENT.replace(Some(self.watch.clone()));
        let polled = inner(cx);
        CURRENT.set(outer);
        if let Poll::Ready(done) = polled {
            return Poll::Ready(Some(done));
        }
        self.watch.look_at_outlet();
        self.poll_slow(cx).map(|()| None)
    }

    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut measure = self.watch.response.borrow_mut();
        let found = poll_measure(&mut measure, &mut self.timer, cx, &self.watch.traffic, |_| false);
        found.map(|slow| self.watch.slow.set(Some(slow)))
    }
}

/// Waits for the end of a measurement. The timer is left alone while it fires early enough: most transfers end before.
fn poll_measure(
    measure: &mut Measure,
    timer: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
    traffic: &Traffic,
    is_ours: impl Fn(&Traffic) -> bool,
) -> Poll<Slow> {
    loop {
        let Some(deadline) = measure.pace.deadline() else { return Poll::Pending };
        let sleep = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
        if sleep.is_elapsed() || sleep.deadline() > deadline.into() {
            sleep.as_mut().reset(deadline.into());
        }
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let now = Instant::now();
        if is_ours(traffic) {
            measure.pace.forgive(now);
        }
        if let Some(slow) = measure.check(traffic, now) {
            return Poll::Ready(slow);
        }
    }
}

/// Measures how fast a visitor sends the body of a request.
pub(crate) struct Intake {
    measure: Measure,
    timer: Option<Pin<Box<Sleep>>>,
    traffic: Rc<Traffic>,
    watch: Rc<Watch>,
    is_waiting: bool,
}

impl Intake {
    /// For a request with this head; `None` where nothing is measured.
    pub(crate) fn of(watch: &Rc<Watch>, settings: &Settings, headers: &HeaderMap) -> Option<Self> {
        let rate = rate_of(settings.min_rate.request, is_stream(headers));
        let traffic = watch.traffic.clone();
        let measure = Measure::new(rate, settings.min_rate, settings.timeouts.idle, &traffic);
        if measure.pace.is_off() {
            return None;
        }
        traffic.uploads.set(traffic.uploads.get() + 1);
        Some(Self { measure, timer: None, traffic, watch: watch.clone(), is_waiting: false })
    }

    /// Something has come.
    pub(crate) fn came(&mut self, bytes: u64) {
        if self.is_waiting {
            let now = Instant::now();
            self.measure.pace.moved(bytes, now);
            self.measure.pace.rest(now);
            self.traffic.moved.set(self.traffic.moved.get() + bytes);
            self.set_waiting(false);
        }
    }

    /// Nothing has come yet; ready once the visitor is too slow. While another upload of the connection waits for its
    /// origin, the visitor may have no window to send in, and is not judged.
    pub(crate) fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<Slow> {
        if !self.is_waiting {
            self.set_waiting(true);
            self.measure.pace.wait(Instant::now());
        }
        let is_ours = |traffic: &Traffic| traffic.uploads.get() > traffic.waiting.get();
        let found = poll_measure(&mut self.measure, &mut self.timer, cx, &self.traffic, is_ours);
        found.map(|slow| {
            self.watch.slow.set(Some(slow));
            slow
        })
    }

    fn set_waiting(&mut self, is: bool) {
        let waiting = self.traffic.waiting.get();
        self.traffic.waiting.set(if is { waiting + 1 } else { waiting - 1 });
        self.is_waiting = is;
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if self.is_waiting {
            self.set_waiting(false);
        }
        self.traffic.uploads.set(self.traffic.uploads.get() - 1);
    }
}

/// What a socket has taken. Shared with the library's half of the stream, which must be able to leave the thread.
#[derive(Debug, Default)]
struct Taken {
    bytes: AtomicU64,
    is_blocked: AtomicBool,
    /// Bytes of bodies that the library has and the socket has not.
    queued: AtomicUsize,
    /// A body that waits for them to be taken.
    waiting: Mutex<Option<Waker>>,
}

impl Taken {
    /// The socket has taken bytes. Those of heads and of chunks' sizes are among them, so that fewer are counted as queued than
    /// are.
    fn taken(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.has_queued(self.queued.load(Ordering::Relaxed).saturating_sub(bytes));
    }

    fn has_queued(&self, bytes: usize) {
        let before = self.queued.swap(bytes, Ordering::Relaxed);
        if before >= UNTAKEN_MAX
            && let Some(waiting) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            waiting.wake();
        }
    }
}

/// A stream that tells whether its reader keeps up.
#[derive(Debug)]
pub(crate) struct Outlet<IO> {
    io: IO,
    taken: Arc<Taken>,
}

impl<IO> Outlet<IO> {
    /// The stream, and the watch over its reader.
    pub(crate) fn new(io: IO, traffic: Rc<Traffic>) -> (Self, Rc<Watch>) {
        let taken = Arc::<Taken>::default();
        (Self { io, taken: taken.clone() }, Watch::new(traffic, Some(taken)))
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.taken.taken(*bytes);
        }
        self.taken.is_blocked.store(written.is_pending(), Ordering::Relaxed);
        written
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Outlet<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Outlet<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_ready() {
            // The library flushes when it has nothing left.
            self.taken.has_queued(0);
        }
        self.taken.is_blocked.store(flushed.is_pending(), Ordering::Relaxed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.io).poll_shutdown(cx);
        self.taken.is_blocked.store(ended.is_pending(), Ordering::Relaxed);
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_grpc_are_streams() {
        for (kind, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", true),
            ("text/html", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, http::HeaderValue::from_static(kind))]);
            assert_eq!(is_stream(&headers), expected, "{kind}");
        }
        assert!(!is_stream(&HeaderMap::new()));
    }
}
