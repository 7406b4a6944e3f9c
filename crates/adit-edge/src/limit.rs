//! Third stage: does the visitor ask too often, or too much at once? Leaves [`Admitted`]. It counts before the cache, so that
//! what is kept does not hide a flood.
//!
//! Rates are GCRA: a steady pace, and a burst that is answered at once. All rules together remember a bounded number of
//! visitors.

mod store;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use adit_policy::cache::key::cookies;
use adit_policy::policy::address::visitor;
use adit_policy::policy::limit::{Concurrency, LimitKey, RateLimit};
use adit_policy::shares;
use adit_policy::snapshot::TunnelId;
use governor::clock::{Clock as _, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName};

use crate::guard::{Arrival, Permitted};
use crate::rescue::Problem;
use crate::route::Routed;
use crate::tls::Identity;
use store::{Store, Visitors};

/// Maximum number of rules with a counter table. Above that, tunnels give up what they have beyond their fair share, and those
/// rules begin anew; only a tunnel whose configuration changes constantly reaches this.
const RULES_MAX: usize = 20_000;

/// The proof that a request was counted.
pub(crate) struct Admitted<A = Routed> {
    arrival: A,
    ticket: Option<Ticket>,
}

impl<A> Admitted<A> {
    /// Takes what counts the request as running; it is held as long as the request runs.
    pub(crate) fn take_ticket(&mut self) -> Option<Ticket> {
        self.ticket.take()
    }

    /// The request or stream, for the next stage.
    pub(crate) fn into_arrival(self) -> A {
        self.arrival
    }
}

impl<A> Deref for Admitted<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.arrival
    }
}

/// What a visitor is told who asks too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// Requests that are answered at once.
    pub(crate) limit: u32,
    /// Seconds until the next one is.
    pub(crate) wait: u64,
}

/// Counts a request or a stream, which has no fields. There is no other way to make an [`Admitted`].
///
/// # Errors
/// [`Problem::TooOften`] and [`Problem::TooMuch`].
pub(crate) fn admit<A: Arrival>(
    permitted: Permitted<A>,
    headers: &HeaderMap,
) -> Result<Admitted<A>, Problem> {
    let arrival = permitted.into_arrival();
    let (edge, settings) = (arrival.request().edge(), arrival.settings());
    let limits = &edge.limits;
    let who = |key: &LimitKey| limits.number(key, &arrival, headers);
    if let Some(rule) = &settings.rate_limit
        && let Err(exceeded) = limits.check(&rule_id(&arrival), rule, who(&rule.key))
    {
        edge.metrics.denied("rate_limited");
        return Err(Problem::TooOften(exceeded));
    }
    let ticket = match &settings.concurrency {
        Some(rule) => Some(limits.enter(&rule_id(&arrival), rule, who(&rule.key)).ok_or_else(|| {
            edge.metrics.denied("too_many_at_once");
            Problem::TooMuch
        })?),
        None => None,
    };
    Ok(Admitted { arrival, ticket })
}

/// What tells a rule's counters from those of others: its tunnel, and the name and path that it is for. So visitors of one
/// tunnel are never counted by what another one says, nor against its limits.
type RuleId = (TunnelId, Arc<str>);

fn rule_id(arrival: &impl Arrival) -> RuleId {
    (arrival.tunnel(), arrival.settings().scope.clone())
}

type Gcra = RateLimiter<u64, Store, MonotonicClock, NoOpMiddleware<Instant>>;

/// All rules.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// By tunnel, and by what the rule is said about and the rule itself: two connectors of a tunnel may say different ones.
    tables: RwLock<HashMap<(TunnelId, u64), Arc<Gcra>>>,
    visitors: Arc<Visitors>,
    running: Arc<Mutex<HashMap<u64, u32>>>,
    keys: RandomState,
}

impl Limits {
    fn check(&self, id: &RuleId, rule: &RateLimit, who: u64) -> Result<(), Exceeded> {
        let table = self.table(id, rule);
        table.check_key(&who).map_err(|until| {
            let wait = until.wait_time_from(MonotonicClock.now());
            Exceeded { limit: rule.burst.saturating_add(1), wait: wait.as_secs() + 1 }
        })
    }

    fn table(&self, (tunnel, scope): &RuleId, rule: &RateLimit) -> Arc<Gcra> {
        let key = (*tunnel, self.keys.hash_one((scope, rule)));
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(&key) {
            return table.clone();
        }
        drop(tables);
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if tables.len() >= RULES_MAX {
            shares::cut(&mut tables, RULES_MAX / 2, |(tunnel, _), _| *tunnel);
        }
        tables.entry(key).or_insert_with(|| Arc::new(self.gcra(rule, *tunnel))).clone()
    }

    fn gcra(&self, rule: &RateLimit, tunnel: TunnelId) -> Gcra {
        let burst = NonZeroU32::MIN.saturating_add(rule.burst);
        let pace = rule.rate.per / rule.rate.count.max(1);
        let quota = Quota::with_period(pace).unwrap_or(Quota::per_second(NonZeroU32::MAX));
        RateLimiter::new(quota.allow_burst(burst), Store::new(self.visitors.clone(), tunnel), MonotonicClock)
    }

    /// One more request at the same time; `None` if there are enough.
    fn enter(&self, id: &RuleId, rule: &Concurrency, who: u64) -> Option<Ticket> {
        let key = self.keys.hash_one((id, who));
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(key).or_insert(0);
        if *count >= rule.requests {
            return None;
        }
        *count += 1;
        Some(Ticket { running: self.running.clone(), key })
    }

    /// Who is counted, at which name, as a number that nobody outside can aim at.
    fn number(&self, key: &LimitKey, arrival: &impl Arrival, headers: &HeaderMap) -> u64 {
        let (host, request) = (arrival.counted_as(), arrival.request());
        let value = match key {
            LimitKey::Address => None,
            LimitKey::All => return self.keys.hash_one(host),
            LimitKey::Header(name) => value_of(headers, name),
            LimitKey::Cookie(name) => {
                cookies(headers, |known| known == name.as_str()).next().map(str::as_bytes)
            }
            LimitKey::Identity => request.identity().map(Identity::fingerprint),
        };
        match value {
            Some(value) => self.keys.hash_one((host, "value", value)),
            None => self.keys.hash_one((host, visitor(request.client.ip))),
        }
    }
}

fn value_of<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    headers.get(name).map(http::HeaderValue::as_bytes).filter(|value| !value.is_empty())
}

/// Counts one running request until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    running: Arc<Mutex<HashMap<u64, u32>>>,
    key: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use adit_policy::limits::LIMIT_KEYS_MAX;
    use adit_policy::policy::Patch;
    use adit_policy::policy::limit::Rate;
    use http::Method;

    use super::*;
    use crate::context::fixture::{routed, snapshot, worker};
    use crate::guard::guard;

    #[test]
    fn a_request_leaves_the_third_stage_with_its_ticket() {
        let one = Concurrency { requests: 1, key: LimitKey::Address };
        let worker = worker(snapshot(Patch { concurrency: Some(Some(one)), ..Patch::default() }));
        let ask = || {
            let routed = routed(&worker, "192.0.2.1", "http://a.x.example/").unwrap();
            admit(guard(routed, &Method::GET).unwrap(), &HeaderMap::new())
        };
        let mut first = ask().unwrap();
        let ticket = first.take_ticket();
        assert!(ticket.is_some() && matches!(ask(), Err(Problem::TooMuch)));
        drop(ticket);
        assert!(ask().is_ok(), "the first one has ended");
    }

    fn id(tunnel: u128, scope: &str) -> RuleId {
        (TunnelId(uuid::Uuid::from_u128(tunnel)), scope.into())
    }

    fn rule(count: u32, seconds: u64, burst: u32) -> RateLimit {
        let rate = Rate { count, per: Duration::from_secs(seconds) };
        RateLimit { rate, burst, key: LimitKey::Address }
    }

    #[test]
    fn a_burst_is_answered_at_once_and_then_the_pace_holds() {
        let (limits, settings) = (Limits::default(), id(1, ""));
        let slow = rule(1, 3600, 4);
        let answered = (0..10).filter(|_| limits.check(&settings, &slow, 1).is_ok()).count();
        assert_eq!(answered, 5, "one, and four more");
        let exceeded = limits.check(&settings, &slow, 1).unwrap_err();
        assert_eq!(exceeded.limit, 5);
        assert!((3590..=3601).contains(&exceeded.wait), "{exceeded:?}");
        assert!(limits.check(&settings, &slow, 2).is_ok(), "another visitor");
        assert!(limits.check(&id(1, "other"), &slow, 1).is_ok(), "another name");
        assert!(limits.check(&id(2, ""), &slow, 1).is_ok(), "another tunnel");
    }

    #[test]
    fn a_million_addresses_are_bounded() {
        let (limits, settings) = (Limits::default(), id(1, ""));
        let slow = rule(1, 3600, 0);
        for address in 0..1_000_000 {
            assert!(limits.check(&settings, &slow, limits.keys.hash_one(address)).is_ok());
        }
        assert!(limits.visitors.count() <= LIMIT_KEYS_MAX, "{}", limits.visitors.count());
        let other = id(1, "other");
        assert!(limits.check(&other, &slow, 1).is_ok());
        assert!(limits.check(&other, &slow, 1).is_err(), "another rule counts although the table is full");
    }

    #[test]
    fn the_flood_of_one_tunnel_makes_nobody_forget_the_visitors_of_another_one() {
        let limits = Limits::default();
        let slow = rule(1, 3600, 0);
        for visitor in 0..1000 {
            assert!(limits.check(&id(2, ""), &slow, visitor).is_ok());
        }
        for visitor in 0..(2 * LIMIT_KEYS_MAX as u64) {
            assert!(limits.check(&id(1, ""), &slow, visitor).is_ok());
        }
        let rules = (0..=RULES_MAX).map(|number| id(1, &number.to_string()));
        rules.for_each(|rule| assert!(limits.check(&rule, &slow, 1).is_ok()));
        assert!(limits.tables.read().unwrap().len() <= RULES_MAX);
        let counted = (0..1000).filter(|visitor| limits.check(&id(2, ""), &slow, *visitor).is_err()).count();
        assert_eq!(counted, 1000);
    }

    #[test]
    fn what_runs_at_the_same_time_is_counted() {
        let (limits, settings) = (Limits::default(), id(1, ""));
        let two = Concurrency { requests: 2, key: LimitKey::Address };
        let first = limits.enter(&settings, &two, 1);
        let second = limits.enter(&settings, &two, 1);
        assert!(first.is_some() && second.is_some() && limits.enter(&settings, &two, 1).is_none());
        assert!(limits.enter(&settings, &two, 2).is_some());
        drop(first);
        assert!(limits.enter(&settings, &two, 1).is_some());
        drop(second);
        assert!(limits.running.lock().unwrap().is_empty(), "nothing is kept");
    }
}
