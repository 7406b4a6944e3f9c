//! Whether a response may be kept, and what of it (RFC 9111, section 3).

use http::header::{
    AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, RANGE, SET_COOKIE,
};
use http::{Method, StatusCode};

use super::directives::Directives;
use super::freshness::{Arrival, Life, life};
use super::rule::CacheRule;
use super::vary::{self, Selecting};

/// Fields that are about this connection, this answer, or this cache, and are not kept (RFC 9111, section 3.1).
const NOT_KEPT: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "age",
    "alt-svc",
];

/// Why a response is not kept. The word stands in `Cache-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another method than GET.
    Method,
    /// A status that says nothing about the resource, or that is not known and has to be understood.
    Status,
    /// The origin or the visitor forbids it.
    NoStore,
    /// It is for one person.
    Private,
    /// It sets a cookie.
    SetCookie,
    /// It varies with everything.
    Vary,
    /// It is a part of something, and cannot be told which.
    Partial,
    /// Nobody says for how long, and it cannot be asked again.
    NoLife,
    /// The connector checked a token for it.
    Gated,
    /// It is too large.
    Large,
    /// There is no room.
    Room,
}

impl Refused {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
            Self::Partial => "partial",
            Self::NoLife => "no-lifetime",
            Self::Gated => "access",
            Self::Large => "too-large",
            Self::Room => "no-room",
        }
    }
}

/// A response that may be kept.
#[derive(Clone, Debug)]
pub struct Storable {
    /// Its life.
    pub life: Life,
    /// The fields of the request that chose it.
    pub selecting: Selecting,
    /// Its fields, without those that are not kept.
    pub headers: HeaderMap,
}

/// Who asked for a response.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The method.
    pub method: &'a Method,
    /// The fields of the request, as they went to the origin.
    pub headers: &'a HeaderMap,
    /// Whether the origin was told who it is, by a certificate.
    pub identified: bool,
}

/// Decides.
///
/// # Errors
/// The first reason not to.
pub fn storable(asker: &Asker<'_>, arrival: &Arrival<'_>, rule: &CacheRule) -> Result<Storable, Refused> {
    let said = Directives::of_response(arrival.headers);
    check_request(asker, &said, rule)?;
    check_response(arrival, &said, rule)?;
    let selecting = vary::selecting(arrival.headers).ok_or(Refused::Vary)?;
    let life = life(arrival, &said, rule).or_else(|| unknown_life(arrival, rule)).ok_or(Refused::NoLife)?;
    Ok(Storable { life, selecting, headers: kept(arrival.headers, &said, rule) })
}

fn check_request(asker: &Asker<'_>, said: &Directives, rule: &CacheRule) -> Result<(), Refused> {
    if asker.method != Method::GET {
        return Err(Refused::Method);
    }
    let wanted = Directives::of_request(asker.headers);
    if wanted.no_store && !rule.ignore.cache_control {
        return Err(Refused::NoStore);
    }
    // One person's answer goes to others only if the origin says so; no rule of the operator's says that for it.
    let personal = asker.identified || asker.headers.contains_key(AUTHORIZATION);
    let keyed = rule.key.headers.contains(&AUTHORIZATION) && !asker.identified;
    if personal && !keyed && !said.is_for_all() {
        return Err(Refused::Private);
    }
    Ok(())
}

fn check_response(arrival: &Arrival<'_>, said: &Directives, rule: &CacheRule) -> Result<(), Refused> {
    let status = arrival.status;
    if status.is_informational() || status == StatusCode::NOT_MODIFIED {
        return Err(Refused::Status);
    }
    if status == StatusCode::PARTIAL_CONTENT && !arrival.headers.contains_key(CONTENT_RANGE) {
        return Err(Refused::Partial);
    }
    if arrival.headers.contains_key(SET_COOKIE) && !rule.ignore.set_cookie {
        return Err(Refused::SetCookie);
    }
    if rule.ignore.cache_control {
        return Ok(());
    }
    if said.must_understand && !is_understood(status) {
        return Err(Refused::Status);
    }
    if said.no_store && !said.must_understand {
        return Err(Refused::NoStore);
    }
    if said.private {
        return Err(Refused::Private);
    }
    Ok(())
}

/// Statuses whose meaning for caches is known here (RFC 9111, section 5.2.2.3).
fn is_understood(status: StatusCode) -> bool {
    let known = [200, 203, 204, 206, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 451, 501];
    known.contains(&status.as_u16())
}

/// Without any life it is kept only to be asked about: there is something to ask with.
fn unknown_life(arrival: &Arrival<'_>, rule: &CacheRule) -> Option<Life> {
    let can_ask = arrival.headers.contains_key(ETAG) || arrival.headers.contains_key(LAST_MODIFIED);
    let keeps = can_ask && arrival.status == StatusCode::OK && !rule.ignore.cache_control;
    keeps.then(Life::default)
}

fn kept(headers: &HeaderMap, said: &Directives, rule: &CacheRule) -> HeaderMap {
    let mut kept = headers.clone();
    for name in NOT_KEPT {
        kept.remove(name);
    }
    for name in &said.withheld {
        kept.remove(name);
    }
    if rule.ignore.set_cookie {
        kept.remove(SET_COOKIE);
    }
    kept
}

/// Takes what a confirmation (304) says into a stored response (RFC 9111, section 3.2).
pub fn freshen(stored: &mut HeaderMap, confirmed: &HeaderMap) {
    const ABOUT_THE_BODY: [&str; 4] = ["content-length", "content-encoding", "content-range", "content-md5"];
    let is_news =
        |name: &HeaderName| !NOT_KEPT.contains(&name.as_str()) && !ABOUT_THE_BODY.contains(&name.as_str());
    for name in confirmed.keys().filter(|name| is_news(name)) {
        stored.remove(name);
        for value in confirmed.get_all(name) {
            stored.append(name.clone(), value.clone());
        }
    }
}

/// Whether a request may be answered from a cache at all.
#[must_use]
pub fn may_look_up(method: &Method, headers: &HeaderMap) -> bool {
    let one_range = headers.get_all(RANGE).iter().count() <= 1;
    (method == Method::GET || method == Method::HEAD) && one_range
}
