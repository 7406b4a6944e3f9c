//! What a request wants of the cache: under which key, how fresh, and whether it may have one at all.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adit_cache::{Head, Object, Place};
use adit_policy::cache::conditional::{questions, range_counts};
use adit_policy::cache::directives::Directives;
use adit_policy::cache::freshness::{Life, Use};
use adit_policy::cache::key::{Keyed, is_bypassed, key};
use adit_policy::cache::outgoing;
use adit_policy::cache::range::{Part, Wanted};
use adit_policy::cache::rule::CacheRule;
use adit_policy::cache::status::{CacheStatus, Outcome};
use adit_policy::cache::storable::may_look_up;
use adit_policy::cache::vary::Selecting;
use adit_policy::path::RequestPath;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue, IF_RANGE, RANGE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Uri};

use super::flight::Varies;
use crate::act::{Onward, with_target};

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
    /// What the origin would be asked for.
    uri: Uri,
}

impl Ask {
    /// `None`: the cache has nothing to do with it.
    pub(super) fn of(onward: &Onward, head: &Parts, rule: &Arc<CacheRule>) -> Option<Self> {
        let has_body = head.headers.contains_key(TRANSFER_ENCODING)
            || head.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
        if onward.is_ambiguous()
            || is_gated(onward, head)
            || has_body
            || !may_look_up(&head.method, &head.headers)
        {
            return None;
        }
        let asked = onward.request().path_and_query();
        let keyed = keyed(onward, asked, &head.headers);
        if is_bypassed(&keyed, &rule.bypass) {
            return None;
        }
        let key = key(&keyed, &rule.key).ok()?;
        let (kept, uri) = match key.query.as_deref() {
            query if query == keyed.query => (asked.to_owned(), head.uri.clone()),
            query => {
                let sent = outgoing::target(asked, text_of(&head.uri), query);
                (outgoing::target(asked, asked, query), with_target(&head.uri, &sent)?)
            }
        };
        let wanted = match rule.ignore.cache_control {
            true => Directives::default(),
            false => Directives::of_request(&head.headers),
        };
        let names_him = rule.key.headers.contains(&AUTHORIZATION);
        let identified = onward.request().identity().is_some();
        let is_personal = identified || (head.headers.contains_key(AUTHORIZATION) && !names_him);
        Some(Self {
            uri,
            place: Place {
                tunnel: onward.route().tunnel,
                host: onward.host().as_str().to_owned(),
                target: kept,
            },
            wanted,
            range: Wanted::of(&head.headers),
            range_text: head.headers.get(RANGE).cloned(),
            if_range: head.headers.get(IF_RANGE).map(|value| (IF_RANGE, value.clone())).into_iter().collect(),
            is_head: head.method == Method::HEAD,
            is_personal,
            identified,
            headers: outgoing::fields(&head.headers, rule, &key.cookies, !is_personal),
            key: key.text,
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
        request.uri = self.uri.clone();
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

/// Whether the connector may check a token for it. It chooses its rule by the path that it gets, which a rule of the edge may have
/// rewritten.
fn is_gated(onward: &Onward, head: &Parts) -> bool {
    let sent = RequestPath::of(head.uri.path());
    !sent.has_one_reading() || onward.view().is_gated(onward.route().tunnel, onward.host(), sent.text())
}

fn text_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}

/// The key of a target; `None` where origins may read it in several ways, so that nothing is stored of it.
pub(super) fn key_of(onward: &Onward, target: &str, headers: &HeaderMap, rule: &CacheRule) -> Option<String> {
    key(&keyed(onward, target, headers), &rule.key).ok().map(|key| key.text)
}

fn keyed<'a>(onward: &'a Onward, target: &'a str, headers: &'a HeaderMap) -> Keyed<'a> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Keyed {
        tunnel: onward.route().tunnel,
        scheme: onward.request().client.scheme,
        scope: &onward.settings().scope,
        host: onward.authority(),
        path,
        query,
        headers,
    }
}
