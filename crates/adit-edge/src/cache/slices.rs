//! Large things in slices: each is fetched, kept and confirmed by itself, and an answer is put together from those that it
//! needs. Whoever seeks in a film fetches what he sees of it.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::SystemTime;

use adit_cache::{Broken, Head, Object};
use adit_policy::cache::range::Wanted;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue, LAST_MODIFIED};
use http::request::Parts;
use tokio::sync::mpsc;

use super::ask::Target;
use super::search::{Got, Search};
use super::serve::{self, Kept, KeptBody};
use super::{Said, said};
use crate::rescue::Problem;

/// Parts of the body that wait for the visitor.
const WAITING: usize = 2;

/// A body as it is put together.
pub(crate) type Joined = mpsc::Receiver<Result<Bytes, Broken>>;

/// Answers a request out of slices. Where the origin knows no parts, it is kept whole.
///
/// # Errors
/// What the first fetch has come to.
pub(super) async fn answer(request: &Parts, search: &mut Search<'_>, size: u64) -> Result<Said, Problem> {
    let ask = search.ask.clone();
    // The end of something is unknown until its first slice is there.
    let index = match ask.range {
        Some(Wanted::Between(first, _) | Wanted::From(first)) => first / size,
        Some(Wanted::Last(_)) | None => 0,
    };
    let got = search.get(&Target::slice(&ask, size, index)).await?;
    let Got::Object(slice, status) = got else { return Ok(said(request, &ask, got)) };
    let Some((head, length)) = slice.meta.head().and_then(|head| Some((whole(head), head.part?.2))) else {
        return Ok(said(request, &ask, Got::Object(slice, status)));
    };
    if validators(&head) == (None, None) {
        // Nothing would tell slices of two versions apart.
        let got = search.get(&Target::whole(&ask)).await?;
        return Ok(said(request, &ask, got));
    }
    let now = SystemTime::now();
    let (response, wanted) = serve::head(request, &ask, (&slice, &head), Some(length), (status, now));
    let body = match wanted {
        None => KeptBody::Empty,
        Some((from, end)) => {
            let end = end.unwrap_or(length);
            let (sender, joined) = mpsc::channel(WAITING);
            let join = Join { search: owned(search), first: (index, slice), size, sender };
            drop(tokio::task::spawn_local(join.run(from, end)));
            KeptBody::Slices(joined, end - from)
        }
    };
    Ok(Said::Kept(Box::new(Kept { response: response.map(|()| body), status })))
}

/// The head of the whole, by that of a slice.
fn whole(slice: &Head) -> Head {
    let mut head = Head { status: StatusCode::OK, part: None, ..slice.clone() };
    head.headers.remove(CONTENT_RANGE);
    head.headers.remove(CONTENT_LENGTH);
    head
}

/// The same search for somebody who outlives the request's own.
fn owned(search: &Search<'_>) -> Search<'static> {
    let head = (search.head)();
    Search {
        onward: search.onward.clone(),
        ask: search.ask.clone(),
        store: search.store.clone(),
        head: Box::new(move || head.clone()),
        asked: None,
        problem: None,
    }
}

/// Puts a body together.
struct Join {
    search: Search<'static>,
    /// The slice that the head was made of.
    first: (u64, Arc<Object>),
    size: u64,
    sender: mpsc::Sender<Result<Bytes, Broken>>,
}

impl Join {
    async fn run(mut self, from: u64, end: u64) {
        let mut at = from;
        while at < end {
            let index = at / self.size;
            let start = index * self.size;
            let until = end.min(start + self.size);
            let Some(slice) = self.slice(index).await else {
                // There is no head left to say so in.
                drop(self.sender.send(Err(Broken)).await);
                return;
            };
            if !self.pour(&slice, at - start, until - start).await {
                return;
            }
            at = until;
        }
    }

    /// A slice of the same thing as the first one.
    async fn slice(&mut self, index: u64) -> Option<Arc<Object>> {
        let (known, first) = &self.first;
        if index == *known {
            return Some(first.clone());
        }
        let target = Target::slice(&self.search.ask, self.size, index);
        let Ok(Got::Object(slice, _)) = self.search.get(&target).await else { return None };
        let (known, first) = &self.first;
        if is_same(first, &slice) {
            return Some(slice);
        }
        // One of them is of an earlier version: both are looked for anew the next time.
        for index in [*known, index] {
            self.search.store.remove(&Target::slice(&self.search.ask, self.size, index).key);
        }
        None
    }

    /// `false`: it is over.
    async fn pour(&self, slice: &Object, first: u64, end: u64) -> bool {
        let mut reader = slice.read(first, Some(end));
        while let Some(part) = poll_fn(|cx| reader.poll_next(cx)).await {
            let broken = part.is_err();
            if self.sender.send(part).await.is_err() || broken {
                return false;
            }
        }
        true
    }
}

/// What tells versions apart.
fn validators(head: &Head) -> (Option<&HeaderValue>, Option<&HeaderValue>) {
    (head.headers.get(ETAG), head.headers.get(LAST_MODIFIED))
}

/// Whether two slices are of the same thing.
fn is_same(one: &Object, other: &Object) -> bool {
    match (one.meta.head(), other.meta.head()) {
        (Some(one), Some(other)) => {
            let length = |head: &Head| head.part.map(|part| part.2);
            length(one) == length(other) && validators(one) == validators(other)
        }
        _ => false,
    }
}
