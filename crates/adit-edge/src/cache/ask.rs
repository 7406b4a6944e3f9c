//! What a request wants of the cache: under which key, how fresh, and whether it may have one at all.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adit_cache::{Head, Object, Place};
use adit_policy::cache::conditional::{CONDITIONS, questions, range_counts};
use adit_policy::cache::directives::Directives;
use adit_policy::cache::freshness::{Life, Use};
use adit_policy::cache::key::{Keyed, is_bypassed, key};
use adit_policy::cache::range::{Part, Wanted};
use adit_policy::cache::rule::CacheRule;
use adit_policy::cache::status::{CacheStatus, Outcome};
use adit_policy::cache::storable::may_look_up;
use adit_policy::cache::vary::Selecting;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, COOKIE, HeaderValue, IF_RANGE, RANGE, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};

use super::flight::Varies;
use crate::act::Onward;

/// Fields with which some origins can be told to answer something else than what was asked for. They are in no key, so they are
/// not sent where the answer may be kept.
const UNKEYED: [&str; 7] = [
    "x-original-url",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-host",
    "x-forwarded-scheme",
];

/// What is looked for, and fetched if it is not there.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Its key, without what it varies with.
    pub(super) key: String,
    /// What of it is asked for, as `Range` writes it; `None` for all.
    pub(super) range: Option<HeaderValue>,
}

impl Target {
    /// All of it.
    pub(super) fn whole(ask: &Ask) -> Self {
        Self { key: ask.key.clone(), range: None }
    }

    /// The part that the visitor wants.
    pub(super) fn part(ask: &Ask) -> Self {
        Self { key: part_key(&ask.key), range: ask.range_text.clone() }
    }

    /// A slice of it.
    pub(super) fn slice(ask: &Ask, size: u64, index: u64) -> Self {
        let first = size.saturating_mul(index);
        let last = first.saturating_add(size - 1);
        let range = HeaderValue::try_from(format!("bytes={first}-{last}")).ok();
        Self { key: slice_key(&ask.key, size, index), range }
    }
}

/// Where the one part that is stored of something is.
pub(super) fn part_key(key: &str) -> String {
    format!("{key}\n\npart")
}

/// Where a slice is.
pub(super) fn slice_key(key: &str, size: u64, index: u64) -> String {
    format!("{key}\n\n{size} {index}")
}

/// What is wanted.
pub(crate) struct Ask {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) rule: Arc<CacheRule>,
    pub(super) wanted: Directives,
    /// The part that is wanted of it.
    pub(super) range: Option<Wanted>,
    range_text: Option<HeaderValue>,
    /// Whether what is stored may be another thing than that of which the visitor has a part.
    if_range: HeaderMap,
    pub(super) is_head: bool,
    /// The origin knows who asks, so the answer may be for nobody else.
    pub(super) is_personal: bool,
    /// Whether the origin is told by the edge who asks.
    pub(super) identified: bool,
    /// The fields that the origin would get.
    pub(super) headers: HeaderMap,
}

impl Ask {
    /// `None`: the cache has nothing to do with it.
    pub(super) fn of(onward: &Onward, head: &Parts, rule: &Arc<CacheRule>) -> Option<Self> {
        let has_body = head.headers.contains_key(TRANSFER_ENCODING)
            || head.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
        if onward.is_ambiguous() || has_body || !may_look_up(&head.method, &head.headers) {
            return None;
        }
        let target = onward.request().path_and_query();
        let keyed = keyed(onward, target, &head.headers, rule);
        if is_bypassed(&keyed, &rule.bypass) {
            return None;
        }
        let wanted = match rule.ignore.cache_control {
            true => Directives::default(),
            false => Directives::of_request(&head.headers),
        };
        let names_him = rule.key.headers.contains(&AUTHORIZATION);
        let identified = onward.request().identity().is_some();
        let is_personal = identified || (head.headers.contains_key(AUTHORIZATION) && !names_him);
        Some(Self {
            key: key(&keyed, &rule.key),
            place: Place { host: onward.host().as_str().to_owned(), target: target.to_owned() },
            wanted,
            range: Wanted::of(&head.headers),
            range_text: head.headers.get(RANGE).cloned(),
            if_range: head.headers.get(IF_RANGE).map(|value| (IF_RANGE, value.clone())).into_iter().collect(),
            is_head: head.method == Method::HEAD,
            is_personal,
            identified,
            headers: sent(&head.headers, rule, !is_personal),
            rule: rule.clone(),
        })
    }

    /// The key of a variant. A change of what it varies with makes all earlier ones unreachable.
    pub(super) fn variant(&self, target: &Target, with: &Selecting, marker: SystemTime) -> String {
        variant(&target.key, with, marker, &self.headers)
    }

    /// Whether this request may have that.
    pub(super) fn may_have(&self, target: &Target, object: &Object) -> bool {
        let Some(head) = object.meta.head() else { return false };
        // A personal request gets what is said to be for everybody.
        let is_for_him = !self.is_personal || Directives::of_response(&head.headers).is_for_all();
        is_for_him && (target.range != self.range_text || self.is_within(head))
    }

    /// Whether a stored part has what the visitor wants of it.
    fn is_within(&self, head: &Head) -> bool {
        let (Some(range), Some((first, end, whole))) = (self.range, head.part) else { return true };
        let fits = match range.part_of(whole) {
            Part::Bytes(from, to) => first <= from && to <= end,
            Part::Nothing => true,
        };
        fits && range_counts(&self.if_range, &head.headers)
    }

    /// Whether what another request has fetched is for this one too.
    pub(super) fn is_for(&self, target: &Target, object: &Object, varies: Option<&Varies>) -> bool {
        let key = match varies {
            None => &target.key,
            Some((with, marker)) => &self.variant(target, with, *marker),
        };
        object.meta.key == *key && self.may_have(target, object)
    }

    pub(super) fn use_of(&self, object: &Object, now: SystemTime) -> Use {
        life(object).use_at(passed(object, now), &self.wanted, &self.rule)
    }

    pub(super) fn may_stand_in(&self, object: &Object, now: SystemTime) -> bool {
        life(object).may_stand_in(passed(object, now), &self.wanted, &self.rule)
    }

    pub(super) fn status_of(&self, object: &Object, outcome: Outcome, now: SystemTime) -> CacheStatus {
        CacheStatus { ttl: Some(life(object).left(passed(object, now))), ..CacheStatus::of(outcome) }
    }

    /// The request that the cache makes, without what a target adds.
    pub(super) fn request(&self, head: &Parts) -> Parts {
        let mut request = head.clone();
        request.method = Method::GET;
        request.headers = self.headers.clone();
        request
    }

    /// What a target adds: the part of it, and what is stored to be confirmed.
    pub(super) fn questions(
        &self,
        target: &Target,
        stored: Option<&Object>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let range = target.range.iter().map(|range| (RANGE, range.clone()));
        let stored = stored.and_then(|stored| stored.meta.head());
        range.chain(stored.map(|stored| questions(&stored.headers)).unwrap_or_default()).collect()
    }
}

fn life(object: &Object) -> Life {
    object.meta.head().map(|head| head.life).unwrap_or_default()
}

/// How long ago something came.
pub(super) fn passed(object: &Object, now: SystemTime) -> Duration {
    now.duration_since(object.meta.came).unwrap_or_default()
}

/// The key of a variant, with the time of the marker that says what it varies with.
pub(super) fn variant(base: &str, with: &Selecting, marker: SystemTime, headers: &HeaderMap) -> String {
    let since = marker.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut key = format!("{base}\n");
    // Writing to a text cannot fail.
    write!(key, "{:x}", since.as_nanos()).unwrap_or_default();
    with.write(headers, &mut key);
    key
}

/// The key of a target.
pub(super) fn key_of(onward: &Onward, target: &str, headers: &HeaderMap, rule: &CacheRule) -> String {
    key(&keyed(onward, target, headers, rule), &rule.key)
}

/// Where the host does not tell answers apart, the policy does: nobody gets what another name has kept.
fn keyed<'a>(onward: &'a Onward, target: &'a str, headers: &'a HeaderMap, rule: &CacheRule) -> Keyed<'a> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let scheme = if rule.key.host { onward.request().client.scheme } else { &onward.settings().scope };
    Keyed { scheme, host: onward.authority(), path, query, headers }
}

/// The fields that the origin gets: those that would make it answer for one visitor, or with a part, are not among them.
fn sent(headers: &HeaderMap, rule: &CacheRule, for_all: bool) -> HeaderMap {
    let mut sent = headers.clone();
    for name in CONDITIONS {
        sent.remove(name);
    }
    for name in UNKEYED {
        sent.remove(name);
    }
    let declared = rule.ignore.cache_control || rule.ignore.set_cookie;
    if declared && for_all && rule.key.cookies.is_empty() {
        // The origin's word on whom it is for does not count, so it must not know who asks.
        sent.remove(COOKIE);
    }
    if let Some(accepted) = sent.remove(ACCEPT_ENCODING)
        && let Some(codings) = codings(&accepted)
    {
        sent.insert(ACCEPT_ENCODING, HeaderValue::from_static(codings));
    }
    sent
}

/// Few forms of what a visitor can read, so that there are few variants.
fn codings(accepted: &HeaderValue) -> Option<&'static str> {
    let text = accepted.to_str().unwrap_or_default().to_ascii_lowercase();
    let accepts = |name: &str| {
        text.split(',').any(|item| {
            let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
            let refused = weight
                .trim()
                .strip_prefix("q=")
                .is_some_and(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0));
            coding.trim() == name && !refused
        })
    };
    match (accepts("br"), accepts("gzip")) {
        (true, true) => Some("br, gzip"),
        (true, false) => Some("br"),
        (false, true) => Some("gzip"),
        (false, false) => None,
    }
}
