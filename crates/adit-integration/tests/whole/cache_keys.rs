//! What is in a cache key is what reaches the origin, and what a gate decided on is nobody else's.

use adit_testkit::home::APP;
use adit_testkit::issuer::Issuer;
use adit_testkit::visitor::empty;
use adit_testkit::{Answer, Connector, Edge, Origin, Visitor, Way, program};
use http::{Method, StatusCode};
use serde_json::{Value, json};

async fn home_with(way: Way, lines: &str) -> (Connector, Edge, Origin) {
    let origin = Origin::start();
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(lines).start();
    let connector = Connector::start(way, &edge, "home", &format!("  - service: http://{}", origin.address));
    edge.has_connections(4).await;
    (connector, edge, origin)
}

async fn get_with(visitor: &Visitor, path: &str, fields: &[(&'static str, &str)]) -> Answer {
    let mut request = visitor.request(Method::GET, APP, path, empty());
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    visitor.ask(APP, request).await
}

fn kept(answer: &Answer) -> &str {
    answer.header("x-cache-status")
}

/// What the origin got: target and fields.
fn seen(answer: &Answer) -> (String, Vec<(String, String)>) {
    let said: Value = serde_json::from_str(&answer.text()).unwrap();
    (said["target"].as_str().unwrap().to_owned(), serde_json::from_value(said["headers"].clone()).unwrap())
}

#[tokio::test]
async fn a_query_that_is_not_in_the_key_does_not_reach_the_origin() {
    for way in Way::ours() {
        let (_connector, edge, origin) = home_with(way, "defaults: { cache: static }").await;
        let visitors = [edge.visitor(), edge.visitor().http2()];
        for (number, visitor) in visitors.iter().enumerate() {
            let path = format!("/n{number}");
            let poison = format!("{path}?say&status=404");
            let first = visitor.get(APP, &poison).await;
            assert_eq!((first.status, kept(&first)), (StatusCode::OK, "MISS"));
            let next = visitor.get(APP, &path).await;
            assert_eq!((next.status, kept(&next), next.text()), (StatusCode::OK, "HIT", first.text()));
            let asked = [&path, &poison, &format!("{path}?")].map(|target| origin.asked(target));
            assert_eq!(asked, [1, 0, 0], "{way:?}");
        }
        let first = edge.visitor3().get(APP, "/n3?say&status=404").await;
        assert_eq!((first.status, origin.asked("/n3")), (StatusCode::OK, 1));
    }
}

#[tokio::test]
async fn parameters_are_read_as_origins_read_them() {
    let lines = "hostnames:\n  app.example.test: { cache: { ttl: 1d, key: [host, path, query(page)] } }\n  utm.example.test: { cache: { ttl: 1d, key: [host, path, 'query(!utm_source)'] }, rewrite: { from: '^/old', to: '/request?fixed=1' } }";
    let (_connector, edge, _origin) = home_with(Way::Http2, lines).await;
    let visitor = edge.visitor();
    let utm = "utm.example.test";
    for (host, path, target, outcome) in [
        (APP, "/request?x=1&page=1", "/request?page=1", "MISS"),
        (APP, "/request?page=1&x=2", "/request?page=1", "HIT"),
        (APP, "/request?x=evil", "/request", "MISS"),
        (APP, "/request", "/request", "HIT"),
        (APP, "/request?%70age=evil", "/request?%70age=evil", "MISS"),
        (APP, "/request?page[]=evil", "/request?page[]=evil", "MISS"),
        (APP, "/request?page=2&page=1", "/request?page=2&page=1", "MISS"),
        (APP, "/request?page=1&page=2", "/request?page=1&page=2", "MISS"),
        (APP, "/request?x=1;page=9", "/request?x=1;page=9", "BYPASS"),
        (APP, "/request?x=1;page=9", "/request?x=1;page=9", "BYPASS"),
        (utm, "/request?utm_source=a&id=1", "/request?id=1", "MISS"),
        (utm, "/request?id=1&%75tm_source=b", "/request?id=1", "HIT"),
        (utm, "/request?utm_source=x;id=evil", "/request?utm_source=x;id=evil", "BYPASS"),
        (utm, "/request", "/request", "MISS"),
        (utm, "/old?utm_source=a&id=1", "/request?fixed=1&id=1", "MISS"),
        (utm, "/old?utm_source=a", "/request?fixed=1", "MISS"),
        (utm, "/old", "/request?fixed=1", "HIT"),
    ] {
        let answer = visitor.get(host, path).await;
        assert_eq!((seen(&answer).0.as_str(), kept(&answer)), (target, outcome), "{host}{path}");
    }
}

#[tokio::test]
async fn cookies_are_read_as_origins_read_them() {
    let lines =
        "defaults: { cache: { ttl: 1d, ignore: [cache-control], key: [host, path, query, cookie(lang)] } }";
    let (_connector, edge, _origin) = home_with(Way::Quic, lines).await;
    let visitor = edge.visitor();
    let cookies = |answer: &Answer| {
        let (_, fields) = seen(answer);
        fields.into_iter().filter(|(name, _)| name == "cookie").map(|(_, value)| value).collect::<Vec<_>>()
    };
    for (sent, got, outcome) in [
        ("session=mine; lang=de", &["lang=de"][..], "MISS"),
        ("lang=de; session=other", &["lang=de"], "HIT"),
        ("session=mine", &[], "MISS"),
        ("lang=", &["lang="], "MISS"),
        ("lang=de; lang=en", &["lang=de; lang=en"], "BYPASS"),
        ("a=\"x; lang=en\"; lang=de", &["a=\"x; lang=en\"; lang=de"], "BYPASS"),
        ("Lang=en", &["Lang=en"], "BYPASS"),
        ("lang=\"de\"", &["lang=\"de\""], "BYPASS"),
        ("lang=de", &["lang=de"], "HIT"),
    ] {
        let answer = get_with(&visitor, "/request", &[("cookie", sent)]).await;
        assert_eq!(cookies(&answer), got, "{sent}");
        assert_eq!(kept(&answer), outcome, "{sent}");
    }
}

#[tokio::test]
async fn what_steers_an_origin_does_not_reach_it_where_its_answer_may_be_kept() {
    let steering = [
        "x-forwarded-host",
        "x-forwarded-prefix",
        "x-forwarded-scheme",
        "x-forwarded-server",
        "x-original-url",
        "x-original-host",
        "x-rewrite-url",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-host",
        "x-middleware-subrequest",
        "x-script-name",
        "forwarded",
        "range",
        "if-none-match",
    ];
    for lines in ["defaults: { cache: static }", "defaults: { cache: { ttl: 1d } }"] {
        let (_connector, edge, _origin) = home_with(Way::Http2, lines).await;
        let fields: Vec<(&'static str, &str)> = steering.iter().map(|name| (*name, "evil")).collect();
        let first = get_with(&edge.visitor(), "/request", &fields).await;
        assert_eq!(kept(&first), "MISS");
        assert!(!first.text().contains("evil"), "{}", first.text());
        // The same without them is the same.
        assert_eq!(kept(&edge.visitor().get(APP, "/request").await), "HIT");
        // HEAD is answered from what a GET has brought.
        let visitor = edge.visitor();
        let head = visitor.ask(APP, visitor.request(Method::HEAD, APP, "/request?", empty())).await;
        assert_eq!(head.status, StatusCode::OK);
    }
    let (_connector, edge, _origin) = home_with(Way::Http2, "defaults: { cache: static }").await;
    let odd = [("x-mine", "evil"), ("cookie", "evil=1"), ("accept-encoding", "gzip;q=0.5, evil, br;q=0")];
    let first = get_with(&edge.visitor(), "/request", &odd).await;
    assert!(!first.text().contains("evil") && kept(&first) == "MISS", "{}", first.text());
}

/// A rule that checks a token, and what is said to the edge beside it.
fn gated(origin: &Origin, issuer: &Issuer, edge: &str) -> String {
    format!(
        "  - hostname: {APP}\n    service: http://{}\n    originRequest: {{ access: {{ required: true, issuer: '{}', audTag: [app], header: X-Token }} }}\n{edge}  - service: http_status:404",
        origin.address, issuer.url
    )
}

#[tokio::test]
async fn what_a_connector_s_gate_admits_is_for_nobody_else() {
    let word = "    edge: { cache: static }\n";
    for (way, lines, word) in [
        (Way::Quic, "", word),
        (Way::Http2, "hostnames: { app.example.test: { cache: true } }", ""),
        (Way::Http2, "hostnames: { app.example.test: { cache: { preset: static, slice: 64k } } }", ""),
    ] {
        let (origin, issuer) = (Origin::start(), Issuer::start().await);
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(lines).start();
        let _connector = Connector::start(way, &edge, "home", &gated(&origin, &issuer, word));
        edge.has_connections(4).await;
        edge.serves(&[APP]).await;
        let token = issuer.token("app", &json!({}));
        let path = "/say?cache-control=public%2C+s-maxage%3D600&etag=%22v1%22";
        for _ in 0..2 {
            let with = get_with(&edge.visitor(), path, &[("x-token", &token)]).await;
            assert_eq!((with.status, kept(&with)), (StatusCode::OK, "BYPASS"), "{lines}{word}");
            let range = get_with(&edge.visitor(), path, &[("x-token", &token), ("range", "bytes=0-1")]).await;
            assert_eq!(kept(&range), "BYPASS");
            for fields in [&[][..], &[("range", "bytes=0-1")], &[("if-none-match", "\"v1\"")]] {
                let without = get_with(&edge.visitor(), path, fields).await;
                assert_eq!(without.status, StatusCode::FORBIDDEN, "{way:?} {lines}{word} {fields:?}");
            }
        }
        // Nobody waits for the fetch of somebody else.
        let visitor = edge.visitor();
        let request = visitor.request(Method::GET, APP, "/held", empty());
        let held = tokio::spawn(async move {
            let mut request = request;
            request.headers_mut().insert("x-token", token.parse().unwrap());
            visitor.ask(APP, request).await.status
        });
        origin.has_held(1).await;
        assert_eq!(edge.visitor().get(APP, "/held").await.status, StatusCode::FORBIDDEN);
        origin.release();
        assert_eq!(held.await.unwrap(), StatusCode::OK);
    }
}

/// The connector chooses its rule by the path that it gets.
#[tokio::test]
async fn a_rewritten_path_does_not_lead_around_a_gate() {
    let (origin, issuer) = (Origin::start(), Issuer::start().await);
    let lines = "hostnames: { app.example.test: { cache: { ttl: 1d }, rewrite: { from: '^/open/(.*)', to: '/closed/$1' } } }";
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(lines).start();
    let checks = format!("{{ required: true, issuer: '{}', audTag: [app], header: X-Token }}", issuer.url);
    let rules = format!(
        "  - hostname: {APP}\n    path: ^/closed/\n    service: http://{address}\n    originRequest: {{ access: {checks} }}\n  - service: http://{address}",
        address = origin.address
    );
    let _connector = Connector::start(Way::Http2, &edge, "home", &rules);
    edge.has_connections(4).await;
    edge.serves(&[APP]).await;
    let token = issuer.token("app", &json!({}));
    let with = get_with(&edge.visitor(), "/open/x", &[("x-token", &token)]).await;
    assert_eq!(
        (with.status, kept(&with), with.text().as_str()),
        (StatusCode::OK, "BYPASS", "GET /closed/x\n")
    );
    assert_eq!(edge.visitor().get(APP, "/open/x").await.status, StatusCode::FORBIDDEN);
    for outcome in ["MISS", "HIT"] {
        assert_eq!(kept(&edge.visitor().get(APP, "/other").await), outcome, "an open rule beside it");
    }
}

#[tokio::test]
async fn what_was_kept_while_a_rule_was_open_is_dropped_when_it_checks_tokens() {
    let (origin, issuer) = (Origin::start(), Issuer::start().await);
    let lines = "hostnames: { app.example.test: { cache: { ttl: 1d } } }";
    let mut edge = Edge::plan().tunnel("home", &["*.example.test"]).with(lines).start();
    let open =
        format!("  - hostname: {APP}\n    service: http://{}\n  - service: http_status:404", origin.address);
    let connector = Connector::start(Way::Http2, &edge, "home", &open);
    edge.has_connections(4).await;
    edge.serves(&[APP]).await;
    for outcome in ["MISS", "HIT"] {
        assert_eq!(kept(&edge.visitor().get(APP, "/say").await), outcome);
    }
    drop(connector);
    edge.has_connections(0).await;
    let connector = Connector::start(Way::Http2, &edge, "home", &gated(&origin, &issuer, ""));
    let closed = async |edge: &Edge, status: StatusCode| {
        let closing = async {
            while edge.visitor().get(APP, "/say").await.status != status {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(program::PATIENCE, closing).await.unwrap();
    };
    closed(&edge, StatusCode::FORBIDDEN).await;
    // Nothing stands in for it while home is away, also when the edge has forgotten what its rules were.
    drop(connector);
    edge.has_connections(0).await;
    closed(&edge, StatusCode::SERVICE_UNAVAILABLE).await;
    edge.crash_and_return();
    assert_eq!(edge.visitor().get(APP, "/say").await.status, StatusCode::SERVICE_UNAVAILABLE);
}
