//! What is kept of home, for whom, and what becomes of it when home is away.

use std::time::Duration;

use adit_testkit::home::APP;
use adit_testkit::visitor::{empty, whole};
use adit_testkit::{Answer, Connector, Edge, Origin, Visitor, Way};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;

const OTHER: &str = "other.example.test";

async fn home_with(lines: &str) -> (Connector, Edge, Origin) {
    let origin = Origin::start();
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(lines).start();
    let connector = publish(&edge, &origin);
    edge.has_connections(4).await;
    (connector, edge, origin)
}

fn publish(edge: &Edge, origin: &Origin) -> Connector {
    Connector::start(Way::Http2, edge, "home", &format!("  - service: http://{}", origin.address))
}

/// A GET with fields.
async fn get_with(visitor: &Visitor, host: &str, path: &str, fields: &[(&'static str, &str)]) -> Answer {
    let mut request = visitor.request(Method::GET, host, path, empty());
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    visitor.ask(host, request).await
}

fn status(answer: &Answer) -> &str {
    answer.header("x-cache-status")
}

/// Waits until an answer is as it should be.
async fn until(visitor: &Visitor, path: &str, is: impl Fn(&Answer) -> bool) -> Answer {
    let asking = async {
        loop {
            let answer = visitor.get(APP, path).await;
            if is(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking).await.unwrap()
}

#[tokio::test]
async fn what_is_kept_is_used_in_memory_on_disk_and_after_a_crash() {
    let (_connector, mut edge, origin) = home_with("defaults: { cache: true }").await;
    let (small, large) =
        ("/say?cache-control=max-age%3D600", "/say?cache-control=max-age%3D600&size=3000000");
    let visitor = edge.visitor();
    let first = visitor.get(APP, small).await;
    assert_eq!(
        (status(&first), first.header("cache-status")),
        ("MISS", "adit; fwd=uri-miss; fwd-status=200; ttl=600; stored")
    );
    let big = visitor.get(APP, large).await.body;
    assert_eq!(big.len(), 3_000_000);
    for _ in 0..2 {
        let again = visitor.get(APP, small).await;
        assert_eq!((status(&again), again.text()), ("HIT", first.text()));
        assert!(
            again.header("cache-status").starts_with("adit; hit; ttl="),
            "{:?}",
            again.header("cache-status")
        );
        assert!(!again.header("age").is_empty() && again.header("content-length") == "11");
        assert!(visitor.get(APP, large).await.body == big);
    }
    edge.crash_and_return();
    let visitor = edge.visitor();
    // Nobody is home yet, and nobody is needed.
    let again = visitor.get(APP, small).await;
    assert_eq!((status(&again), again.text()), ("HIT", first.text()));
    let again = visitor.get(APP, large).await;
    assert_eq!((status(&again), again.body == big), ("HIT", true));
    assert_eq!((origin.asked(small), origin.asked(large)), (1, 1));
    // A crash may cost records of the second before it.
    let records = edge.records(2).await;
    assert!(records.iter().any(|record| record["upstream_cache_status"] == "HIT"));
}

#[tokio::test]
async fn one_fetch_serves_all_who_wait() {
    let (_connector, edge, origin) = home_with("defaults: { cache: { ttl: 1d } }").await;
    let first = tokio::spawn({
        let visitor = edge.visitor();
        async move { visitor.get(APP, "/held").await }
    });
    origin.has_held(1).await;
    let mut others = Vec::new();
    for _ in 0..200 {
        let visitor = edge.visitor();
        others.push(tokio::spawn(async move { visitor.get(APP, "/held").await }));
    }
    // They wait at the edge; none of them is at the origin.
    tokio::time::sleep(Duration::from_millis(500)).await;
    origin.release();
    assert_eq!(status(&first.await.unwrap()), "MISS");
    for other in others {
        let answer = other.await.unwrap();
        assert_eq!(answer.text(), "released");
        assert!(answer.header("cache-status").contains("collapsed") || status(&answer) == "HIT");
    }
    assert_eq!(origin.asked("/held"), 1);
}

#[tokio::test]
async fn whoever_waits_too_long_goes_alone() {
    let (_connector, edge, origin) = home_with("defaults: { cache: { ttl: 1d, lock-timeout: 200ms } }").await;
    let first = tokio::spawn({
        let visitor = edge.visitor();
        async move { visitor.get(APP, "/held").await }
    });
    origin.has_held(1).await;
    let second = tokio::spawn({
        let visitor = edge.visitor();
        async move { visitor.get(APP, "/held").await }
    });
    origin.has_held(2).await;
    origin.release();
    origin.release();
    assert_eq!(
        (first.await.unwrap().text(), second.await.unwrap().text()),
        ("released".into(), "released".into())
    );
}

#[tokio::test]
async fn readers_follow_a_body_that_is_coming_and_it_goes_on_without_them() {
    let (_connector, edge, origin) = home_with("defaults: { cache: { ttl: 1d } }").await;
    // The upload of one visitor is the pace of the answer; only GET is kept, so the body of this one is its query.
    let visitor = edge.visitor();
    let path = "/say?cache-control=max-age%3D600&size=30000000";
    let request = visitor.request(Method::GET, APP, path, empty());
    let mut leader = visitor.send(APP, request).await.unwrap();
    let begun = leader.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(!begun.is_empty(), "bytes come before the end");
    let follower = edge.visitor();
    let request = follower.request(Method::GET, APP, path, empty());
    let following = tokio::spawn(async move { whole(follower.send(APP, request).await.unwrap()).await });
    // The one who began it leaves; the other one gets everything, and so does whoever comes later.
    drop(leader);
    let answer = following.await.unwrap().unwrap();
    assert_eq!(answer.body.len(), 30_000_000);
    let later = until(&visitor, path, |answer| status(answer) == "HIT").await;
    assert!(later.body == answer.body);
    assert_eq!(origin.asked(path), 1);
}

#[tokio::test]
async fn a_visitor_who_reads_nothing_stops_nobody() {
    let (_connector, edge, origin) = home_with("defaults: { cache: true }").await;
    let path = "/say?cache-control=max-age%3D600&size=50000000";
    let lazy = edge.visitor();
    let request = lazy.request(Method::GET, APP, path, empty());
    let unread = lazy.send(APP, request).await.unwrap();
    let memory = edge.program.memory();
    let answer = edge.visitor().get(APP, path).await;
    assert_eq!(answer.body.len(), 50_000_000);
    let grown = edge.program.memory().saturating_sub(memory);
    assert!(grown < 30 << 20, "what he has not read is not held in memory, but {grown} bytes are");
    assert_eq!(origin.asked(path), 1);
    drop(unread);
}

#[tokio::test]
async fn home_is_down_the_site_stays_up() {
    let lines = "defaults: { cache: { ttl: { 200: 1s }, stale: [error, timeout, updating] } }";
    let (connector, edge, origin) = home_with(lines).await;
    let visitor = edge.visitor();
    let kept = visitor.get(APP, "/say").await;
    assert_eq!(status(&kept), "MISS");
    drop(connector);
    edge.has_connections(0).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let asked = std::time::Instant::now();
    let stale = visitor.get(APP, "/say").await;
    assert_eq!((status(&stale), stale.text()), ("STALE", kept.text()));
    assert!(asked.elapsed() < Duration::from_secs(1), "at once, not after some time");
    assert!(stale.header("cache-status").starts_with("adit; hit; ttl="), "{}", stale.header("cache-status"));
    assert!(stale.header("warning").is_empty());
    let away = visitor.get(APP, "/never-asked-for").await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(away.text().contains("Home is away"));
    // Home is back: the next one still gets the old one, and a new one is fetched behind his back.
    let _connector = publish(&edge, &origin);
    edge.has_connections(4).await;
    assert_eq!(status(&visitor.get(APP, "/say").await), "UPDATING");
    let fresh = until(&visitor, "/say", |answer| answer.text() != kept.text()).await;
    assert_eq!(fresh.text(), "#2 of /say\n");
}

#[tokio::test]
async fn an_origin_that_fails_is_stood_in_for() {
    let lines =
        "defaults: { timeouts: { answer: 300ms }, cache: { ttl: { 200: 1s }, stale: [error, timeout] } }";
    let (_connector, edge, origin) = home_with(lines).await;
    let visitor = edge.visitor();
    let kept = visitor.get(APP, "/say").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let address = origin.address;
    drop(origin);
    let stale = visitor.get(APP, "/say").await;
    assert_eq!((status(&stale), stale.text()), ("STALE", kept.text()));
    // It listens and says nothing.
    let silent = tokio::net::TcpListener::bind(address).await.unwrap();
    let stale = visitor.get(APP, "/say").await;
    assert_eq!((status(&stale), stale.text()), ("STALE", kept.text()));
    drop(silent);
    assert_eq!(visitor.get(APP, "/other").await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn nobody_gets_what_is_another_s() {
    let (_connector, edge, _origin) = home_with("defaults: { cache: true }").await;
    let life = "cache-control=max-age%3D600";
    let cases: [(&str, String); 5] = [
        ("authorization", format!("/say?{life}&case=1")),
        ("cookie", format!("/say?{life}&set-cookie=a%3Db&case=2")),
        ("cookie", format!("/say?{life}%2C+private&case=3")),
        ("cookie", format!("/say?{life}&vary=Cookie&case=4")),
        ("x-person", format!("/say?{life}&vary=X-Person&case=5")),
    ];
    for (field, path) in cases {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut both = Vec::new();
            for person in ["Basic YW5u", "Basic Ym9i"] {
                let (visitor, path) = (edge.visitor(), path.clone());
                both.push(tokio::spawn(async move {
                    get_with(&visitor, APP, &path, &[(field, person)]).await.text()
                }));
            }
            for (person, asked) in both.into_iter().enumerate() {
                seen.push((person, asked.await.unwrap()));
            }
        }
        // Each answer has a number of its own, so whatever one person has seen, the other has not.
        let of =
            |wanted: usize| seen.iter().filter(move |(person, _)| *person == wanted).map(|(_, text)| text);
        assert!(of(0).all(|text| of(1).all(|other| other != text)), "{path}: {seen:?}");
    }
    // One who is nobody gets none of it either.
    let stranger = edge.visitor();
    let answer = stranger.get(APP, &format!("/say?{life}&case=1")).await;
    assert_eq!(status(&answer), "MISS");
}

#[tokio::test]
async fn a_visitor_cannot_write_into_what_others_get() {
    let lines = "defaults: { cache: { preset: static } }";
    let (_connector, edge, origin) = home_with(lines).await;
    let visitor = edge.visitor();
    let poison = [
        ("x-forwarded-host", "evil.example"),
        ("x-original-url", "/admin"),
        ("x-http-method-override", "DELETE"),
        ("cookie", "session=mine"),
        ("if-none-match", "*"),
        ("accept-encoding", "gzip, x-evil"),
    ];
    let first = get_with(&visitor, APP, "/request?once", &poison).await;
    assert!(!first.status.is_server_error(), "{}", first.status);
    let seen = visitor.get(APP, "/request?other").await;
    assert_eq!((status(&seen), seen.status), ("HIT", StatusCode::OK), "the query is not in the key");
    let text = seen.text();
    for word in ["evil", "/admin", "DELETE", "session", "if-none-match"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    // A path that origins may read in two ways is nothing to keep.
    for _ in 0..2 {
        assert_eq!(status(&visitor.get(APP, "/x/..%2frequest").await), "BYPASS");
    }
    assert_eq!((origin.asked("/request"), origin.asked("/request?once")), (1, 0), "and not sent");
}

#[tokio::test]
async fn names_do_not_share_and_limits_count_before_the_cache() {
    let lines = "defaults: { cache: { preset: static, key: [path] }, rate-limit: { rate: 1/h, burst: 2 } }\nhostnames:\n  other.example.test: { rate-limit: false }\n  free.example.test: { cache: false }";
    let (_connector, edge, origin) = home_with(lines).await;
    let visitor = edge.visitor();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = visitor.get(APP, "/say").await;
        statuses.push((answer.status.as_u16(), status(&answer).to_owned()));
    }
    let row = |number: u16, word: &str| (number, word.to_owned());
    assert_eq!(statuses, [row(200, "MISS"), row(200, "HIT"), row(200, "HIT"), row(429, "")]);
    assert_eq!(
        status(&visitor.get(OTHER, "/say").await),
        "MISS",
        "another name, although its key is the path alone"
    );
    assert_eq!(status(&visitor.get(OTHER, "/say").await), "HIT");
    assert_eq!(status(&visitor.get("free.example.test", "/say").await), "");
    assert_eq!(origin.asked("/say"), 3);
}

#[tokio::test]
async fn validators_ranges_and_head_are_answered_here() {
    let (_connector, edge, origin) = home_with("defaults: { cache: true }").await;
    let visitor = edge.visitor();
    let path = "/say?cache-control=max-age%3D600&etag=%22v1%22&size=1000000";
    let all = visitor.get(APP, path).await.body;
    let unchanged = get_with(&visitor, APP, path, &[("if-none-match", "\"v1\"")]).await;
    assert_eq!(
        (unchanged.status, unchanged.body.len(), unchanged.header("etag")),
        (StatusCode::NOT_MODIFIED, 0, "\"v1\"")
    );
    for (range, expected) in [
        ("bytes=0-9", Some(0..10)),
        ("bytes=999990-", Some(999_990..1_000_000)),
        ("bytes=-5", Some(999_995..1_000_000)),
        ("bytes=500000-599999", Some(500_000..600_000)),
        ("bytes=1000000-", None),
    ] {
        let answer = get_with(&visitor, APP, path, &[("range", range)]).await;
        match expected {
            Some(bytes) => {
                assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{range}");
                assert_eq!(
                    answer.header("content-range"),
                    format!("bytes {}-{}/1000000", bytes.start, bytes.end - 1)
                );
                assert!(answer.body == all[bytes], "{range}");
            }
            None => assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE),
        }
    }
    let changed = get_with(&visitor, APP, path, &[("range", "bytes=0-9"), ("if-range", "\"v0\"")]).await;
    assert_eq!((changed.status, changed.body.len()), (StatusCode::OK, 1_000_000));
    let head = visitor.ask(APP, visitor.request(Method::HEAD, APP, path, empty())).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (StatusCode::OK, "1000000", 0));
    assert_eq!(origin.asked(path), 1);
}

#[tokio::test]
async fn a_part_is_fetched_alone_and_used_for_what_is_in_it() {
    let (_connector, edge, origin) = home_with("defaults: { cache: true }").await;
    let visitor = edge.visitor();
    let path = "/say?cache-control=max-age%3D600&etag=%22v1%22&size=100000";
    let part = get_with(&visitor, APP, path, &[("range", "bytes=1000-1999")]).await;
    assert_eq!((part.status, part.body.len(), status(&part)), (StatusCode::PARTIAL_CONTENT, 1000, "MISS"));
    let smaller = get_with(&visitor, APP, path, &[("range", "bytes=1500-1599")]).await;
    assert_eq!((status(&smaller), smaller.header("content-range")), ("HIT", "bytes 1500-1599/100000"));
    assert!(smaller.body == part.body[500..600]);
    let other = get_with(&visitor, APP, path, &[("range", "bytes=1500-2500")]).await;
    assert_eq!((status(&other), other.body.len()), ("MISS", 1001));
    let all = visitor.get(APP, path).await;
    assert_eq!((all.status, all.body.len(), status(&all)), (StatusCode::OK, 100_000, "MISS"));
    let from_all = get_with(&visitor, APP, path, &[("range", "bytes=0-9")]).await;
    assert!(from_all.body == all.body[..10]);
    assert_eq!(origin.asked(path), 3);
}

#[tokio::test]
async fn large_things_are_kept_in_slices() {
    let (_connector, edge, origin) = home_with("defaults: { cache: { slice: 64k } }").await;
    let visitor = edge.visitor();
    let path = "/say?cache-control=max-age%3D600&etag=%22v1%22&size=300000";
    let middle = get_with(&visitor, APP, path, &[("range", "bytes=100000-199999")]).await;
    assert_eq!(
        (middle.status, middle.header("content-range")),
        (StatusCode::PARTIAL_CONTENT, "bytes 100000-199999/300000")
    );
    assert_eq!((middle.body.len(), origin.asked(path)), (100_000, 3), "slices 1, 2 and 3");
    let all = visitor.get(APP, path).await;
    assert_eq!(
        (all.status, all.body.len(), all.header("content-length")),
        (StatusCode::OK, 300_000, "300000")
    );
    assert!(all.body[100_000..200_000] == middle.body && all.header("content-range").is_empty());
    assert_eq!(origin.asked(path), 5, "the others were there");
    let end = get_with(&visitor, APP, path, &[("range", "bytes=-10")]).await;
    assert!(end.body == all.body[299_990..]);
    assert_eq!((status(&end), origin.asked(path)), ("HIT", 5));
    // Without anything that tells versions apart, it is kept whole.
    let nameless = "/say?cache-control=max-age%3D600&accept-ranges=bytes&size=200001";
    for expected in ["MISS", "HIT"] {
        let answer = visitor.get(APP, nameless).await;
        assert_eq!((answer.body.len(), status(&answer)), (200_001, expected));
    }
    assert_eq!(origin.asked(nameless), 2, "a slice, and all of it");
    // So it is where the origin knows no parts.
    let plain = "/say?cache-control=max-age%3D600&size=200000";
    assert_eq!(visitor.get(APP, plain).await.body.len(), 200_000);
    let part = get_with(&visitor, APP, plain, &[("range", "bytes=5-9")]).await;
    assert_eq!((part.status, part.body.len(), status(&part)), (StatusCode::PARTIAL_CONTENT, 5, "HIT"));
}

#[tokio::test]
async fn what_was_changed_is_forgotten_and_what_is_good_is_confirmed() {
    let (_connector, edge, origin) = home_with("defaults: { cache: true }").await;
    let visitor = edge.visitor();
    let path = "/say?cache-control=max-age%3D600";
    visitor.get(APP, path).await;
    assert_eq!(status(&visitor.get(APP, path).await), "HIT");
    assert_eq!(visitor.post(APP, path, Bytes::from_static(b"x")).await.status, StatusCode::OK);
    let after = visitor.get(APP, path).await;
    assert_eq!((status(&after), after.text().as_str()), ("MISS", "#3 of /say\n"));
    let short = "/say?cache-control=max-age%3D0&etag=%22v1%22";
    let first = visitor.get(APP, short).await;
    let confirmed = visitor.get(APP, short).await;
    assert_eq!((status(&confirmed), confirmed.text()), ("REVALIDATED", first.text()));
    assert_eq!(origin.asked(short), 2);
}

#[tokio::test]
async fn a_crash_in_the_middle_leaves_nothing_torn() {
    let (_connector, mut edge, origin) = home_with("defaults: { cache: { ttl: 1d } }").await;
    let visitor = edge.visitor();
    let path = "/say?size=80000000";
    let request = visitor.request(Method::GET, APP, path, empty());
    let mut begun = visitor.send(APP, request).await.unwrap();
    for _ in 0..50 {
        begun.body_mut().frame().await.unwrap().unwrap();
    }
    edge.crash_and_return();
    edge.has_connections(4).await;
    let visitor = edge.visitor();
    let whole = visitor.get(APP, path).await;
    assert_eq!((whole.body.len(), status(&whole)), (80_000_000, "MISS"));
    assert_eq!(origin.asked(path), 2);
    let again = until(&visitor, path, |answer| status(answer) == "HIT").await;
    assert!(again.body == whole.body);
}
