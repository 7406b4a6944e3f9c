//! The requirements of RFC 9111 that go over several of the files. `docs/cache.md` names them by these tests.

use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use http::{Method, StatusCode};

use super::directives::Directives;
use super::freshness::{Arrival, Use, initial_age};
use super::rule::{CacheRule, Ignore, Preset, StatusRange};
use super::storable::{Asker, Refused, Storable, freshen, storable};

/// Sun, 06 Nov 1994 08:49:37 GMT.
const NOW: u64 = 784_111_777;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn map(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    headers
}

fn decide(status: u16, request: &[&str], response: &[&str], rule: &CacheRule) -> Result<Storable, Refused> {
    let (request, response) = (map(request), map(response));
    let asker = Asker { method: &Method::GET, headers: &request, identified: false };
    let status = StatusCode::from_u16(status).unwrap_or_default();
    storable(&asker, &Arrival { status, headers: &response, asked: at(NOW), came: at(NOW) }, rule)
}

fn obedient(status: u16, response: &[&str]) -> Result<Storable, Refused> {
    decide(status, &[], response, &CacheRule::default())
}

#[test]
fn what_may_be_stored() {
    for (status, response, expected) in [
        (200, &["cache-control: max-age=60"][..], None),
        (200, &["cache-control: max-age=60, no-store"], Some(Refused::NoStore)),
        (200, &["cache-control: max-age=60, private"], Some(Refused::Private)),
        (200, &["cache-control: max-age=60, private=\"x-a\""], None),
        (200, &["cache-control: max-age=60", "set-cookie: a=b"], Some(Refused::SetCookie)),
        (200, &["cache-control: max-age=60", "vary: *"], Some(Refused::Vary)),
        (200, &[], Some(Refused::NoLife)),
        (200, &["etag: \"a\""], None),
        (599, &["cache-control: max-age=60"], None),
        (599, &["cache-control: max-age=60, no-store, must-understand"], Some(Refused::Status)),
        (200, &["cache-control: max-age=60, no-store, must-understand"], None),
        (304, &["cache-control: max-age=60"], Some(Refused::Status)),
        (206, &["cache-control: max-age=60"], Some(Refused::Partial)),
        (302, &["last-modified: Sun, 06 Nov 1994 08:00:00 GMT"], Some(Refused::NoLife)),
        (404, &["last-modified: Sun, 06 Nov 1994 08:00:00 GMT"], None),
        (200, &["cdn-cache-control: max-age=60", "cache-control: no-store"], None),
        (200, &["cdn-cache-control: no-store", "cache-control: max-age=60"], Some(Refused::NoStore)),
    ] {
        assert_eq!(obedient(status, response).err(), expected, "{status} {response:?}");
    }
}

#[test]
fn one_persons_answer_is_for_others_only_by_the_origins_word() {
    let rule = CacheRule::default();
    let with = |response: &str| decide(200, &["authorization: Basic x"], &[response], &rule).err();
    assert_eq!(with("cache-control: max-age=60"), Some(Refused::Private));
    for allowed in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
        assert_eq!(with(&format!("cache-control: {allowed}")), None, "{allowed}");
    }
    // Not even by the operator's, unless the key tells people apart.
    let mut preset = CacheRule::preset(Preset::Static);
    assert_eq!(decide(200, &["authorization: Basic x"], &[], &preset).err(), Some(Refused::Private));
    preset.key.headers.push(AUTHORIZATION);
    assert_eq!(decide(200, &["authorization: Basic x"], &[], &preset).err(), None);
    let (request, response) = (HeaderMap::new(), map(&["cache-control: max-age=60"]));
    let asker = Asker { method: &Method::GET, headers: &request, identified: true };
    let arrival = Arrival { status: StatusCode::OK, headers: &response, asked: at(NOW), came: at(NOW) };
    assert_eq!(storable(&asker, &arrival, &rule).err(), Some(Refused::Private));
}

#[test]
fn for_how_long_it_is_fresh() {
    for (response, seconds) in [
        (&["cache-control: max-age=60"][..], 60),
        (&["cache-control: max-age=3600, s-maxage=1"], 1),
        (&["cache-control: max-age=60", "expires: Sun, 06 Nov 1994 09:49:37 GMT"], 60),
        (&["date: Sun, 06 Nov 1994 08:49:37 GMT", "expires: Sun, 06 Nov 1994 08:50:37 GMT"], 60),
        (&["expires: 0"], 0),
        (&["expires: Sun, 06 Nov 1994 09:49:37 UTC"], 0),
        (&["expires: Sun, 06 Nov 94 09:49:37 GMT"], 0),
        (&["last-modified: Sun, 06 Nov 1994 08:39:37 GMT"], 60),
        (&["cdn-cache-control: max-age=7", "cache-control: max-age=60", "expires: 0"], 7),
    ] {
        let life = obedient(200, response).unwrap().life;
        assert_eq!(life.fresh_for, Duration::from_secs(seconds), "{response:?}");
    }
}

#[test]
fn how_old_it_is_when_it_comes() {
    let age = |lines: &[&str], delay| {
        let headers = map(lines);
        let arrival =
            Arrival { status: StatusCode::OK, headers: &headers, asked: at(NOW - delay), came: at(NOW) };
        initial_age(&arrival).as_secs()
    };
    assert_eq!(age(&[], 0), 0);
    assert_eq!(age(&["age: 7"], 3), 10);
    assert_eq!(age(&["date: Sun, 06 Nov 1994 08:48:37 GMT"], 0), 60);
    assert_eq!(age(&["date: Sun, 06 Nov 1994 09:48:37 GMT", "age: 5"], 0), 5);
    for (text, expected) in
        [("old", 0), ("-7", 0), ("7.5", 0), ("old, 9", 0), ("9, old", 9), ("99999999999", 1 << 31)]
    {
        assert_eq!(age(&[&format!("age: {text}")], 0), expected, "{text}");
    }
}

#[test]
fn how_it_may_be_used_later() {
    let rule = CacheRule::default();
    let used = |said: &str, passed: u64, wanted: &str| {
        let life = obedient(200, &[&format!("cache-control: {said}")]).unwrap().life;
        let wanted = Directives::of_request(&map(&[&format!("cache-control: {wanted}")]));
        (life.use_at(Duration::from_secs(passed), &wanted, &rule), {
            life.may_stand_in(Duration::from_secs(passed), &wanted, &rule)
        })
    };
    for (said, passed, wanted, expected, stands_in) in [
        ("max-age=60", 59, "x", Use::Fresh, true),
        ("max-age=60", 60, "x", Use::Ask, true),
        ("max-age=60, must-revalidate", 61, "x", Use::Ask, false),
        ("max-age=60, proxy-revalidate", 61, "x", Use::Ask, false),
        ("s-maxage=60", 61, "x", Use::Ask, false),
        ("max-age=60, no-cache", 1, "x", Use::Ask, false),
        ("max-age=60, stale-while-revalidate=10", 65, "x", Use::WhileRevalidate, true),
        ("max-age=60, stale-while-revalidate=10", 71, "x", Use::Ask, true),
        ("max-age=60", 1, "no-cache", Use::Ask, false),
        ("max-age=60", 0, "max-age=0", Use::Ask, true),
        ("max-age=60", 5, "max-age=5", Use::Ask, true),
        ("max-age=60", 55, "min-fresh=10", Use::Ask, true),
        ("max-age=60", 65, "max-stale=10", Use::Fresh, true),
        ("max-age=60", 65, "max-stale", Use::Fresh, true),
        ("max-age=60, must-revalidate", 65, "max-stale", Use::Ask, false),
    ] {
        assert_eq!(used(said, passed, wanted), (expected, stands_in), "{said} after {passed} for {wanted}");
    }
}

#[test]
fn the_operators_word_replaces_the_origins() {
    let rule = CacheRule {
        ttl: vec![
            (StatusRange::One(404), Duration::from_secs(60)),
            (StatusRange::Class(2), Duration::from_secs(9)),
        ],
        ..CacheRule::default()
    };
    // Without `ignore` the origin's own word counts first, as nginx has it.
    let life =
        |response: &[&str], rule| decide(200, &[], response, rule).map(|it| it.life.fresh_for.as_secs());
    assert_eq!(life(&[], &rule), Ok(9));
    assert_eq!(life(&["cache-control: max-age=60"], &rule), Ok(60));
    assert_eq!(life(&["cache-control: no-store"], &rule), Err(Refused::NoStore));
    let deaf = CacheRule { ignore: Ignore { cache_control: true, set_cookie: true }, ..rule };
    let stored = decide(200, &[], &["cache-control: no-store", "set-cookie: a=b", "x-a: 1"], &deaf).unwrap();
    assert_eq!(stored.life.fresh_for.as_secs(), 9);
    assert!(!stored.headers.contains_key("set-cookie") && stored.headers.contains_key("x-a"));
    assert_eq!(decide(500, &[], &[], &deaf).err(), Some(Refused::NoLife));
}

#[test]
fn a_confirmation_brings_news_but_no_other_body() {
    let mut stored = map(&["x-a: 1", "x-b: 1", "content-length: 5", "etag: \"a\""]);
    freshen(
        &mut stored,
        &map(&["x-a: 2", "content-length: 0", "cache-control: max-age=9", "connection: close"]),
    );
    let get = |name: &str| stored.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(get("x-a").as_deref(), Some("2"));
    assert_eq!(get("x-b").as_deref(), Some("1"));
    assert_eq!(get("content-length").as_deref(), Some("5"));
    assert_eq!(get("cache-control").as_deref(), Some("max-age=9"));
    assert_eq!(get("connection"), None);
}
