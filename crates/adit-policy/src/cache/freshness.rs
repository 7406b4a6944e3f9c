//! For how long a response is fresh, and how old it is (RFC 9111, section 4.2).

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{DATE, EXPIRES, HeaderMap, LAST_MODIFIED};

use super::directives::Directives;
use super::rule::CacheRule;
use super::time::{age_field, date, since};

/// The part of a document's age for which it is taken to stay as it is (RFC 9111, section 4.2.2).
const HEURISTIC_PART: u32 = 10;
/// A guess reaches no further than this.
const HEURISTIC_MAX: Duration = Duration::from_secs(24 * 3600);

/// What is known about the life of a stored response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// For how long it is fresh, from its making.
    pub fresh_for: Duration,
    /// Its age when it came.
    pub age_at_start: Duration,
    /// For how long after that it may be used while it is fetched anew (RFC 5861).
    pub while_revalidate: Option<Duration>,
    /// For how long after that it may be used when that fails (RFC 5861).
    pub if_error: Option<Duration>,
    /// Stale, it is not used without asking (`must-revalidate` and its kin).
    pub must_revalidate: bool,
    /// It is never used without asking (`no-cache`).
    pub always_ask: bool,
}

/// A response as the cache sees it come.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// When it was asked for.
    pub asked: SystemTime,
    /// When its head came.
    pub came: SystemTime,
}

/// Statuses that may be guessed at (RFC 9110, section 15.1).
#[must_use]
pub fn is_heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The age of a response when it came (RFC 9111, section 4.2.3).
#[must_use]
pub fn initial_age(arrival: &Arrival<'_>) -> Duration {
    let apparent = date(arrival.headers, &DATE).map_or(Duration::ZERO, |made| since(arrival.came, made));
    // Clocks of origins are off by some seconds; less than a second's delay is no age.
    let delay = Duration::from_secs(since(arrival.came, arrival.asked).as_secs());
    let corrected = age_field(arrival.headers) + delay;
    if apparent.as_secs() <= 1 { corrected } else { apparent.max(corrected) }
}

/// What a response and the operator's rule say about its life; `None` where neither says anything and it may not be guessed.
#[must_use]
pub fn life(arrival: &Arrival<'_>, said: &Directives, rule: &CacheRule) -> Option<Life> {
    let seconds = |number: Option<u64>| number.map(Duration::from_secs);
    let own = explicit(arrival, said).filter(|_| !rule.ignore.cache_control);
    let fresh_for = own
        .or_else(|| rule.ttl_of(arrival.status))
        .or_else(|| heuristic(arrival, said).filter(|_| !rule.ignore.cache_control));
    let obeyed = !rule.ignore.cache_control;
    Some(Life {
        fresh_for: fresh_for?,
        age_at_start: if obeyed { initial_age(arrival) } else { Duration::ZERO },
        while_revalidate: seconds(said.stale_while_revalidate).filter(|_| obeyed),
        if_error: seconds(said.stale_if_error).filter(|_| obeyed),
        must_revalidate: obeyed && said.forbids_stale(),
        always_ask: obeyed && said.no_cache,
    })
}

/// What a response says itself.
fn explicit(arrival: &Arrival<'_>, said: &Directives) -> Option<Duration> {
    if let Some(seconds) = said.s_maxage.or(said.max_age) {
        return Some(Duration::from_secs(seconds));
    }
    if said.no_cache {
        return Some(Duration::ZERO);
    }
    if said.targeted || !arrival.headers.contains_key(EXPIRES) {
        return None;
    }
    // An end that cannot be read is past (RFC 9111, section 5.3).
    let Some(end) = date(arrival.headers, &EXPIRES) else { return Some(Duration::ZERO) };
    let made = date(arrival.headers, &DATE).unwrap_or(arrival.came);
    Some(since(end, made))
}

fn heuristic(arrival: &Arrival<'_>, said: &Directives) -> Option<Duration> {
    if !is_heuristic(arrival.status) && !said.public {
        return None;
    }
    let changed = date(arrival.headers, &LAST_MODIFIED)?;
    let made = date(arrival.headers, &DATE).unwrap_or(arrival.came);
    Some((since(made, changed) / HEURISTIC_PART).min(HEURISTIC_MAX))
}

/// How a stored response may be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// As it is.
    Fresh,
    /// As it is, while it is fetched anew.
    WhileRevalidate,
    /// Once its origin has agreed.
    Ask,
}

impl Life {
    /// How old the response is, `passed` after it came.
    #[must_use]
    pub fn age(&self, passed: Duration) -> Duration {
        self.age_at_start + passed
    }

    /// How long it is fresh yet; negative once it is stale. Seconds.
    #[must_use]
    pub fn left(&self, passed: Duration) -> i64 {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        seconds(self.fresh_for).saturating_sub(seconds(self.age(passed)))
    }

    /// How it may be used, `passed` after it came, for a request that says `wanted`.
    #[must_use]
    pub fn use_at(&self, passed: Duration, wanted: &Directives, rule: &CacheRule) -> Use {
        let age = self.age(passed);
        let too_old = wanted.max_age.is_some_and(|most| age >= Duration::from_secs(most) || most == 0);
        if self.always_ask || wanted.no_cache || too_old {
            return Use::Ask;
        }
        let needed = Duration::from_secs(wanted.min_fresh.unwrap_or_default());
        if age + needed < self.fresh_for {
            return Use::Fresh;
        }
        let stale_for = age.saturating_sub(self.fresh_for);
        if self.must_revalidate || wanted.min_fresh.is_some() {
            return Use::Ask;
        }
        if wanted.max_stale.is_some_and(|most| stale_for <= Duration::from_secs(most)) {
            return Use::Fresh;
        }
        let window = self.while_revalidate.or_else(|| rule.stale.updating.then_some(rule.stale.for_at_most));
        match window.is_some_and(|window| stale_for < window) {
            true => Use::WhileRevalidate,
            false => Use::Ask,
        }
    }

    /// Whether it may be used although its origin cannot be asked (RFC 9111, section 4.2.4; RFC 5861, section 4).
    #[must_use]
    pub fn may_stand_in(&self, passed: Duration, wanted: &Directives, rule: &CacheRule) -> bool {
        let stale_for = self.age(passed).saturating_sub(self.fresh_for);
        if self.must_revalidate || self.always_ask || wanted.no_cache {
            return false;
        }
        let window = self.if_error.or(self.while_revalidate);
        let own = rule.stale.error.then_some(rule.stale.for_at_most);
        window.max(own).is_some_and(|window| stale_for <= window)
    }
}
