//! Interim responses (RFC 9110, section 15.2) on their way to the client, and clients that wait for one before they send a body.
//!
//! They are told while the request's own task runs, and written by whoever drives the client's connection in that task, so a queue without
//! a wake-up is enough.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use adit_http::hop;
use adit_policy::limits::CONTINUE_WAIT;
use adit_tunnel::edge::InterimSink;
use http::{HeaderMap, StatusCode, header};
use tokio::time::{Sleep, sleep};

/// An interim response.
pub(crate) type InterimHead = (StatusCode, HeaderMap);

/// The interim responses to one request at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interim(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether `heads` has some; asked far more often than there are any.
    has_heads: AtomicBool,
    heads: Mutex<Vec<InterimHead>>,
    /// The origin wants the body.
    continued: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// Whether 100 is told like the others. The library for HTTP/1 writes it by itself once the body is read.
    tells_continue: bool,
}

impl Interim {
    /// One whose client is told 100 by us.
    pub(crate) fn telling_continue() -> Self {
        Self(Arc::new(State { tells_continue: true, ..State::default() }))
    }

    /// Begins with another request: forgets what was left of the one before.
    pub(crate) fn begin(&self) {
        self.0.continued.store(false, Ordering::Relaxed);
        if self.0.has_heads.swap(false, Ordering::Relaxed) {
            locked(&self.0.heads).clear();
        }
    }

    /// What is to be written now, in order.
    pub(crate) fn take(&self) -> Vec<InterimHead> {
        if !self.0.has_heads.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        std::mem::take(&mut locked(&self.0.heads))
    }

    fn push(&self, status: StatusCode, headers: HeaderMap) {
        locked(&self.0.heads).push((status, headers));
        self.0.has_heads.store(true, Ordering::Relaxed);
    }

    fn poll_continued(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.continued.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        *locked(&self.0.waker) = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl InterimSink for Interim {
    fn interim(&self, status: StatusCode, mut headers: HeaderMap) {
        if status == StatusCode::CONTINUE {
            self.0.continued.store(true, Ordering::Relaxed);
            locked(&self.0.waker).take().into_iter().for_each(Waker::wake);
            return;
        }
        hop::strip(&mut headers);
        // It has no body (RFC 9110, section 8.6).
        headers.remove(header::CONTENT_LENGTH);
        self.push(status, headers);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body that its client sends once it has been told 100, or has waited for a while (RFC 9110, section 10.1.1). It is read when the origin has
/// said 100, and after [`CONTINUE_WAIT`] in any case: an origin may never say it.
#[derive(Debug)]
pub(crate) struct Expectation {
    interim: Interim,
    timer: Pin<Box<Sleep>>,
}

impl Expectation {
    pub(crate) fn new(interim: Interim) -> Self {
        Self { interim, timer: Box::pin(sleep(CONTINUE_WAIT)) }
    }

    /// Ready once the body is to be read.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.interim.poll_continued(cx).is_pending() && self.timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if self.interim.0.tells_continue {
            self.interim.push(StatusCode::CONTINUE, HeaderMap::new());
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn interim_responses_come_in_order_and_belong_to_their_request() {
        let interim = Interim::default();
        let mut hints = HeaderMap::new();
        hints.insert("link", HeaderValue::from_static("</a.css>; rel=preload"));
        hints.insert("connection", HeaderValue::from_static("close"));
        hints.insert("content-length", HeaderValue::from_static("5"));
        interim.interim(StatusCode::PROCESSING, HeaderMap::new());
        interim.interim(StatusCode::EARLY_HINTS, hints);
        let heads = interim.take();
        assert_eq!(heads.iter().map(|(status, _)| status.as_u16()).collect::<Vec<_>>(), [102, 103]);
        let names: Vec<&str> = heads[1].1.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["link"]);
        interim.interim(StatusCode::EARLY_HINTS, HeaderMap::new());
        interim.begin();
        assert!(interim.take().is_empty(), "another request's");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_the_origin_but_not_for_ever() {
        let interim = Interim::telling_continue();
        let mut expectation = Expectation::new(interim.clone());
        let mut waiting = Box::pin(std::future::poll_fn(move |cx| expectation.poll(cx)));
        assert!(futures_now(&mut waiting).is_pending());
        interim.interim(StatusCode::CONTINUE, HeaderMap::new());
        waiting.await;
        assert_eq!(interim.take().len(), 1);
        let mut expectation = Expectation::new(Interim::default());
        let begun = tokio::time::Instant::now();
        std::future::poll_fn(move |cx| expectation.poll(cx)).await;
        assert_eq!(begun.elapsed(), CONTINUE_WAIT);
    }

    fn futures_now<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }
}
