//! The fetch itself: a task of its own, so that it goes on when whoever began it has left. It confirms, keeps or passes.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use adit_cache::{Fill, Head, Kind, Meta, Object, Store};
use adit_http::body::declared_length;
use adit_policy::cache::freshness::Arrival;
use adit_policy::cache::range::content_range;
use adit_policy::cache::storable::{Asker, Refused, Storable, freshen, storable};
use adit_policy::cache::vary::Selecting;
use adit_tunnel::edge::ResponseBody;
use adit_wire::names;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;
use tokio::sync::oneshot;

use super::Asked;
use super::ask::{Ask, Target, variant};
use super::flight::{Flight, Flights, Landing, Varies};
use crate::act::Onward;
use crate::forward::Outbound;
use crate::rescue::Problem;
use crate::upstream;

/// What a fetch has come to, for whoever began it.
pub(super) enum Lead {
    /// It is kept, or just being so.
    Kept {
        object: Arc<Object>,
        /// What the origin has answered.
        asked: StatusCode,
    },
    /// It is not kept.
    Passed(Box<Response<ResponseBody>>, Refused),
    /// There is no answer.
    Failed(Problem),
}

/// A fetch.
pub(super) struct Fetch {
    pub(super) onward: Rc<Onward>,
    pub(super) outbound: Outbound,
    pub(super) store: Arc<Store>,
    pub(super) ask: Rc<Ask>,
    pub(super) target: Target,
    /// The key that was looked for.
    pub(super) key: String,
    /// What is to be confirmed.
    pub(super) stored: Option<Arc<Object>>,
}

type Leader = Option<oneshot::Sender<(Lead, Asked)>>;

/// Statuses that a stale answer is better than (RFC 5861, section 4).
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

impl Fetch {
    /// Runs it to its end.
    pub(super) async fn run(mut self, flight: Flight, leader: Leader) {
        let (asked, sequence) = (SystemTime::now(), self.store.sequence());
        let mut session = None;
        let note = |asked: &Arc<_>| session = Some(Arc::clone(asked));
        let answer = upstream::send(&self.onward, &mut self.outbound, note).await;
        let answer = answer.and_then(|answer| Problem::of_home(&answer).map_or(Ok(answer), Err));
        match answer {
            Ok(answer) => {
                let arrived = Arrived { asked, came: SystemTime::now(), sequence, session };
                self.take(answer, arrived, &flight, leader).await;
            }
            Err(problem) => fail(problem, session, &flight, leader),
        }
        self.flights().end(flight);
    }

    fn flights(&self) -> &Flights {
        &self.onward.request().edge().flights
    }

    async fn take(&self, answer: Response<ResponseBody>, arrived: Arrived, flight: &Flight, leader: Leader) {
        let is_gated = answer.headers().contains_key(names::GATED);
        if answer.status() == StatusCode::NOT_MODIFIED
            && let Some(stored) = &self.stored
        {
            if is_gated {
                return self.confirm_for_one(stored, arrived, flight, leader);
            }
            let object = self.confirm(stored, answer.headers(), &arrived).await;
            flight.land(Landing::Kept(object.clone(), self.varies(&self.target.key, arrived.came).await));
            return lead(leader, Lead::Kept { object, asked: StatusCode::NOT_MODIFIED }, arrived.session);
        }
        // A failure does not take the place of what it would have confirmed.
        let is_worse = self.stored.is_some() && is_failure(answer.status()) && !is_gated;
        let decided = match (is_gated, is_worse) {
            (true, _) => Err(Refused::Gated),
            (false, true) => Err(Refused::Status),
            (false, false) => self.decide(&answer, &arrived),
        };
        match decided {
            Ok(storable) => self.keep(answer, storable, arrived, flight, leader).await,
            Err(why) => {
                if !is_worse {
                    self.flights().note(self.ask.place.tunnel, &self.key, false);
                    self.store.remove(&self.key);
                }
                flight.land(Landing::Alone);
                lead(leader, Lead::Passed(Box::new(answer), why), arrived.session);
            }
        }
    }

    /// What is stored is good for whom the connector has admitted, and for nobody else.
    fn confirm_for_one(&self, stored: &Arc<Object>, arrived: Arrived, flight: &Flight, leader: Leader) {
        self.store.remove(&stored.meta.key);
        flight.land(Landing::Alone);
        lead(leader, Lead::Kept { object: stored.clone(), asked: StatusCode::NOT_MODIFIED }, arrived.session);
    }

    fn decide(&self, answer: &Response<ResponseBody>, arrived: &Arrived) -> Result<Storable, Refused> {
        let arrival = Arrival {
            status: answer.status(),
            headers: answer.headers(),
            asked: arrived.asked,
            came: arrived.came,
        };
        // A part that nobody has asked for is a part of who knows what.
        let announced = declared_length(answer.headers());
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            let (first, end, _) = content_range(answer.headers()).ok_or(Refused::Partial)?;
            if self.target.range.is_none() || announced.is_some_and(|length| length != end - first) {
                return Err(Refused::Partial);
            }
        }
        let mut storable = storable(&self.asker(), &arrival, &self.ask.rule)?;
        if announced.is_some_and(|length| length > self.ask.rule.max_size) {
            return Err(Refused::Large);
        }
        // An origin that compresses without a word about it would have its answer given to those who cannot read it.
        if answer.headers().contains_key(CONTENT_ENCODING) {
            storable.selecting = storable.selecting.with(&Selecting { names: vec![ACCEPT_ENCODING] });
        }
        Ok(storable)
    }

    fn asker(&self) -> Asker<'_> {
        Asker { method: &Method::GET, headers: &self.ask.headers, identified: self.ask.identified }
    }

    /// What is stored is still good.
    async fn confirm(&self, stored: &Arc<Object>, headers: &HeaderMap, arrived: &Arrived) -> Arc<Object> {
        let Some(head) = stored.meta.head() else { return stored.clone() };
        let mut merged = head.headers.clone();
        freshen(&mut merged, headers);
        let arrival =
            Arrival { status: head.status, headers: &merged, asked: arrived.asked, came: arrived.came };
        let Ok(storable) = storable(&self.asker(), &arrival, &self.ask.rule) else {
            // It may not be kept any longer; this once it is still the answer.
            self.store.remove(&stored.meta.key);
            return stored.clone();
        };
        let head = Head { headers: merged, life: storable.life, ..head.clone() };
        let meta = Meta {
            kind: Kind::Response(head),
            came: arrived.came,
            sequence: arrived.sequence,
            ..stored.meta.clone()
        };
        self.store.confirm(stored, meta).await
    }

    async fn keep(
        &self,
        answer: Response<ResponseBody>,
        storable: Storable,
        arrived: Arrived,
        flight: &Flight,
        leader: Leader,
    ) {
        let (head, body) = answer.into_parts();
        let part = content_range(&head.headers).filter(|_| head.status == StatusCode::PARTIAL_CONTENT);
        // Asked for a part, some origins answer with all of it.
        let base = if part.is_some() { &self.target.key } else { &self.ask.key };
        let varies = self.vary(base, &storable.selecting, &arrived).await;
        let key = varies.as_ref().map(|(with, marker)| variant(base, with, *marker, &self.ask.headers));
        let kept = Head { status: head.status, headers: storable.headers, life: storable.life, part };
        let meta = Meta {
            key: key.unwrap_or_else(|| base.clone()),
            place: self.ask.place.clone(),
            kind: Kind::Response(kept),
            came: arrived.came,
            sequence: arrived.sequence,
        };
        self.flights().note(self.ask.place.tunnel, &self.key, true);
        let fill = self.store.fill(meta);
        let object = fill.object();
        flight.land(Landing::Kept(object.clone(), varies));
        lead(leader, Lead::Kept { object, asked: head.status }, arrived.session);
        self.pour(fill, body, part).await;
    }

    /// What responses under the key vary with, as far as is known.
    async fn varies(&self, base: &str, now: SystemTime) -> Option<Varies> {
        let found = self.store.find(base, now).await?;
        match &found.object.meta.kind {
            Kind::Varies(with) => Some((Arc::new(with.clone()), found.object.meta.came)),
            Kind::Response(_) => None,
        }
    }

    /// What responses vary with now that this one is there. It is stored first, so that the response is found.
    async fn vary(&self, base: &str, selecting: &Selecting, arrived: &Arrived) -> Option<Varies> {
        let known = self.varies(base, arrived.came).await;
        if selecting.names.is_empty() && known.is_none() {
            return None;
        }
        let all = known.as_ref().map_or_else(|| selecting.clone(), |(with, _)| selecting.after(with));
        if known.as_ref().is_some_and(|(with, _)| **with == all) {
            return known;
        }
        let marker = Meta {
            key: base.to_owned(),
            place: self.ask.place.clone(),
            kind: Kind::Varies(all.clone()),
            came: arrived.came,
            sequence: arrived.sequence,
        };
        self.store.vary(marker).await;
        Some((Arc::new(all), arrived.came))
    }

    async fn pour(&self, mut fill: Fill, mut body: ResponseBody, part: Option<(u64, u64, u64)>) {
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            // Dropped, it tells its readers.
            let Ok(frame) = frame else { return };
            let Ok(data) = frame.into_data() else { continue };
            if fill.is_kept() && fill.length() + data.len() as u64 > self.ask.rule.max_size {
                fill.pass();
            }
            if !fill.write(data).await {
                return;
            }
        }
        // Less or more than was said: who knows what it is.
        if part.is_none_or(|(first, end, _)| fill.length() == end - first) {
            drop(fill.finish().await);
        }
    }
}

/// How an answer came.
struct Arrived {
    asked: SystemTime,
    came: SystemTime,
    /// The last purge before it was asked for.
    sequence: u64,
    session: Asked,
}

/// Whoever began it may have left.
fn lead(leader: Leader, lead: Lead, session: Asked) {
    if let Some(leader) = leader {
        drop(leader.send((lead, session)));
    }
}

fn fail(problem: Problem, session: Asked, flight: &Flight, leader: Leader) {
    let problem = Arc::new(problem);
    flight.land(Landing::Failed(problem.clone()));
    lead(leader, Lead::Failed(Problem::Again(problem)), session);
}
