//! Finds what a request wants, or has it fetched, or waits for somebody who fetches it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use adit_cache::{Found, Kind, Object, Store};
use adit_policy::cache::freshness::Use;
use adit_policy::cache::status::{CacheStatus, Outcome};
use adit_tunnel::edge::ResponseBody;
use http::{Response, StatusCode};

use super::Asked;
use super::ask::{Ask, Target};
use super::fetch::{self, Fetch, Lead};
use super::flight::{Boarded, Flights, Landing};
use crate::act::Onward;
use crate::forward::Head;
use crate::rescue::Problem;

/// A variant may turn out to be another one, or be gone by the time: then it is looked for again, so often.
const TRIES: usize = 3;

/// What was found, or has come.
pub(super) enum Got {
    Object(Arc<Object>, CacheStatus),
    /// The origin has answered, and it is not kept.
    Passed(Box<Response<ResponseBody>>, CacheStatus),
    /// Whoever wants it has to ask for himself.
    Nothing(CacheStatus),
}

/// Makes the request to the origin, without what a target adds. It is made once something has to be fetched.
pub(super) type MakeHead<'a> = Box<dyn Fn() -> Head + 'a>;

pub(super) struct Search<'a> {
    pub(super) onward: Rc<Onward>,
    pub(super) ask: Rc<Ask>,
    pub(super) store: Arc<Store>,
    pub(super) head: MakeHead<'a>,
    /// The tunnel connection that was asked.
    pub(super) asked: Asked,
    /// What something stale stands in for.
    pub(super) problem: Option<Problem>,
}

impl Search<'_> {
    /// Whether something is stored, fresh or not.
    pub(super) async fn has(&self, target: &Target) -> bool {
        self.look_up(target, SystemTime::now()).await.1.is_some()
    }

    /// Gets it.
    ///
    /// # Errors
    /// What the fetch has come to, where nothing stands in for it.
    pub(super) async fn get(&mut self, target: &Target) -> Result<Got, Problem> {
        for _ in 0..TRIES {
            if let Some(got) = self.once(target).await? {
                return Ok(got);
            }
        }
        Ok(Got::Nothing(CacheStatus::of(Outcome::Miss)))
    }

    /// One try; `None` when another one may do better.
    async fn once(&mut self, target: &Target) -> Result<Option<Got>, Problem> {
        let now = SystemTime::now();
        let (key, found) = self.look_up(target, now).await;
        let Some(found) = found else {
            if self.ask.wanted.only_if_cached {
                return Err(Problem::NotKept);
            }
            return self.fetch(target, key, None).await;
        };
        let object = found.object;
        let how = if found.purged { Use::Ask } else { self.ask.use_of(&object, now) };
        match how {
            Use::Fresh => Ok(Some(self.got(object, Outcome::Hit, now))),
            // It is stale, and nobody can be asked: now, and not after some time.
            _ if !self.is_home() && self.ask.may_stand_in(&object, now) => {
                Ok(Some(self.got(object, Outcome::Stale, now)))
            }
            Use::WhileRevalidate => {
                self.refresh(target, key, &object);
                Ok(Some(self.got(object, Outcome::Updating, now)))
            }
            Use::Ask if self.ask.wanted.only_if_cached => Err(Problem::NotKept),
            Use::Ask => self.fetch(target, key, Some(object)).await,
        }
    }

    /// The key under which it is or would be, and what is there.
    async fn look_up(&self, target: &Target, now: SystemTime) -> (String, Option<Found>) {
        let mut key = target.key.clone();
        let mut found = self.store.find(&key, now).await;
        let marker = found.as_ref().map(|found| found.object.clone());
        if let Some(object) = marker
            && let Kind::Varies(with) = &object.meta.kind
        {
            key = self.ask.variant(target, with, object.meta.came);
            found = self.store.find(&key, now).await;
        }
        (key, found.filter(|found| self.ask.may_have(target, &found.object)))
    }

    /// Whether a connection is there to ask.
    fn is_home(&self) -> bool {
        let request = self.onward.request();
        let view = request.edge().registry.view();
        let found = self.onward.reroute(&view);
        found.is_some_and(|(route, speaker)| {
            view.pick(&route, speaker.as_deref(), request, false, &[]).is_some()
        })
    }

    fn flights(&self) -> &Flights {
        &self.onward.request().edge().flights
    }

    fn got(&self, object: Arc<Object>, outcome: Outcome, now: SystemTime) -> Got {
        let status = self.ask.status_of(&object, outcome, now);
        Got::Object(object, status)
    }

    /// Fetches, or waits for somebody who does.
    async fn fetch(
        &mut self,
        target: &Target,
        key: String,
        stored: Option<Arc<Object>>,
    ) -> Result<Option<Got>, Problem> {
        let tunnel = self.ask.place.tunnel;
        let boarded = match self.ask.is_personal || self.flights().is_alone(&key) {
            true => self.flights().board_alone(tunnel),
            false => self.flights().board(tunnel, &key),
        };
        match boarded {
            Boarded::Leads(flight) => {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                let fetch = self.prepare(target, key, stored.clone());
                drop(tokio::task::spawn_local(fetch.run(flight, Some(sender))));
                let (lead, asked) = receiver.await.map_err(|_| Problem::NoConnection)?;
                self.asked = asked;
                self.land(lead, stored).map(Some)
            }
            Boarded::Alone => Ok(Some(self.alone(stored))),
            Boarded::Follows(landing) => {
                let patience = self.ask.rule.lock_timeout;
                let landed = tokio::time::timeout(patience, landing).await.unwrap_or(Landing::Alone);
                self.follow(target, landed, stored)
            }
        }
    }

    /// What the fetch of this request has come to.
    fn land(&mut self, lead: Lead, stored: Option<Arc<Object>>) -> Result<Got, Problem> {
        let now = SystemTime::now();
        match lead {
            Lead::Kept { object, asked } => {
                let outcome = match (asked, &stored) {
                    (StatusCode::NOT_MODIFIED, _) => Outcome::Revalidated,
                    (_, Some(_)) => Outcome::Expired,
                    (_, None) => Outcome::Miss,
                };
                let mut status = self.ask.status_of(&object, outcome, now);
                (status.forwarded_status, status.stored) = (Some(asked.as_u16()), true);
                Ok(Got::Object(object, status))
            }
            Lead::Passed(response, why) => {
                let is_failure = fetch::is_failure(response.status());
                if let Some(stored) = stored.filter(|stored| is_failure && self.ask.may_stand_in(stored, now))
                {
                    return Ok(self.got(stored, Outcome::Stale, now));
                }
                let mut status = CacheStatus::of(Outcome::Miss);
                (status.forwarded_status, status.detail) =
                    (Some(response.status().as_u16()), Some(why.word()));
                Ok(Got::Passed(response, status))
            }
            Lead::Failed(problem) => self.stand_in(stored, problem, now),
        }
    }

    /// What somebody else's fetch has come to.
    fn follow(
        &mut self,
        target: &Target,
        landed: Landing,
        stored: Option<Arc<Object>>,
    ) -> Result<Option<Got>, Problem> {
        let now = SystemTime::now();
        match landed {
            Landing::Kept(object, varies) if self.ask.is_for(target, &object, varies.as_ref()) => {
                let mut status = self.ask.status_of(&object, Outcome::Miss, now);
                status.collapsed = true;
                Ok(Some(Got::Object(object, status)))
            }
            Landing::Kept(..) => Ok(None),
            Landing::Failed(problem) => self.stand_in(stored, Problem::Again(problem), now).map(Some),
            Landing::Alone => Ok(Some(self.alone(stored))),
        }
    }

    /// Nobody is waited for: what is stored, if it may be used, or else everybody asks for himself.
    fn alone(&self, stored: Option<Arc<Object>>) -> Got {
        let now = SystemTime::now();
        match stored.filter(|stored| self.ask.may_stand_in(stored, now)) {
            Some(stored) => self.got(stored, Outcome::Updating, now),
            None => Got::Nothing(CacheStatus::of(Outcome::Miss)),
        }
    }

    fn stand_in(
        &mut self,
        stored: Option<Arc<Object>>,
        problem: Problem,
        now: SystemTime,
    ) -> Result<Got, Problem> {
        let allowed = problem.is_failure() && (!problem.is_slow() || self.ask.rule.stale.timeout);
        match stored.filter(|stored| allowed && self.ask.may_stand_in(stored, now)) {
            Some(stored) => {
                self.problem = Some(problem);
                Ok(self.got(stored, Outcome::Stale, now))
            }
            None => Err(problem),
        }
    }

    /// Fetches anew while what is stored is served.
    fn refresh(&self, target: &Target, key: String, stored: &Arc<Object>) {
        if self.ask.is_personal {
            return;
        }
        if let Boarded::Leads(flight) = self.flights().board(self.ask.place.tunnel, &key) {
            let fetch = self.prepare(target, key, Some(stored.clone()));
            drop(tokio::task::spawn_local(fetch.run(flight, None)));
        }
    }

    fn prepare(&self, target: &Target, key: String, stored: Option<Arc<Object>>) -> Fetch {
        Fetch {
            onward: self.onward.clone(),
            outbound: (self.head)().fetching(self.ask.questions(target, stored.as_deref())),
            store: self.store.clone(),
            ask: self.ask.clone(),
            target: target.clone(),
            key,
            stored,
        }
    }
}
