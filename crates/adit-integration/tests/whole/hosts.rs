//! Which host goes where, and what strangers get.

use std::time::{Duration, Instant};

use adit_testkit::home::APP;
use adit_testkit::visitor::empty;
use adit_testkit::{Connector, Edge, Home, Visitor, Way};
use http::{Method, StatusCode};

const RULES: &str = "  - hostname: app.example.test
    path: ^/api
    service: http_status:201
  - hostname: app.example.test
    service: hello_world
  - hostname: '*.wild.example.test'
    service: http_status:418
  - service: http_status:404";

#[tokio::test]
async fn rules_apply_in_order_by_host_and_path() {
    for way in Way::all() {
        let edge = Edge::plan().tunnel("home", &["app.example.test", "*.wild.example.test"]).start();
        let _connector = Connector::start(way, &edge, "home", RULES);
        edge.has_connections(if way.is_ours() { 4 } else { 2 }).await;
        let visitor = edge.visitor();
        for (host, path, status) in [
            (APP, "/api/x", 201),
            (APP, "/apix", 201),
            (APP, "/other", 200),
            ("a.wild.example.test", "/", 418),
        ] {
            assert_eq!(visitor.get(host, path).await.status.as_u16(), status, "{way:?} {host}{path}");
        }
    }
}

#[tokio::test]
async fn strangers_get_no_answer() {
    let home = Home::published(Way::Quic).await;
    assert!(home.visitor().raw("unknown.test").await.is_err(), "no certificate, no handshake");
    for visitor in [home.visitor(), home.visitor().http2()] {
        // A known name in the handshake, an unknown one in the request.
        let request = visitor.request(Method::GET, "unknown.test", "/", empty());
        assert!(visitor.send(APP, request).await.is_err());
        let request = visitor.request(Method::GET, "management.argotunnel.com", "/", empty());
        assert!(visitor.send(APP, request).await.is_err());
    }
    let plain = Visitor::plain(home.edge.http);
    let request = plain.request(Method::GET, "unknown.test", "/", empty());
    assert!(plain.send("unknown.test", request).await.is_err());
}

#[tokio::test]
async fn plain_http_redirects_and_answers_health_checks() {
    let home = Home::published(Way::Quic).await;
    let plain = Visitor::plain(home.edge.http);
    let answer = plain.get(APP, "/a?b=c").await;
    assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(answer.header("location"), format!("https://{APP}:{}/a?b=c", home.edge.https.port()));
    assert_eq!(plain.get("anything", "/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn behind_a_platform_that_ends_tls_plain_http_is_proxied() {
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with("http-mode: serve").start();
    let _connector = Connector::start(
        Way::Quic,
        &edge,
        "home",
        "  - hostname: app.example.test\n    service: http_status:207\n  - service: http_status:404",
    );
    edge.has_connections(4).await;
    let plain = Visitor::plain(edge.http);
    assert_eq!(plain.get(APP, "/").await.status.as_u16(), 207);
    assert_eq!(plain.get("fly.example.test", "/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn home_away_is_an_honest_page_within_a_second() {
    let edge = Edge::plan().tunnel("home", &["app.example.test"]).start();
    for visitor in [edge.visitor(), edge.visitor().http2()] {
        let asked = Instant::now();
        let answer = visitor.get(APP, "/").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!answer.header("retry-after").is_empty());
        assert!(answer.text().contains("Home is away"), "{}", answer.text());
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    let record = edge.records(1).await.remove(0);
    assert_eq!((&record["status"], &record["error"]), (&503.into(), &"no_connection".into()));
}

#[tokio::test]
async fn a_dead_origin_is_a_502_and_only_the_operator_learns_why() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let Home { connector, edge, origin, .. } = home;
        let address = origin.address.to_string();
        drop(origin);
        let asking = async {
            // The origin's thread closes its port in its own time; until then it may take a connection and drop it.
            loop {
                let answer = edge.visitor().get(APP, "/").await;
                let refused = !way.is_ours() || connector.program.said().contains("refused");
                if answer.status != StatusCode::OK && refused {
                    return answer;
                }
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), asking).await.unwrap();
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{way:?}");
        assert!(
            !answer.text().contains(&address) && !format!("{:?}", answer.headers).contains(&address),
            "{answer:?}"
        );
        if way.is_ours() {
            let line = connector.program.says("refused");
            assert!(line.contains(&address) || line.contains("Connection refused"), "{line}");
        }
    }
}

#[tokio::test]
async fn without_a_named_rule_the_grant_of_everything_takes_the_rest() {
    let plan = Edge::plan().tunnel("named", &["app.example.test"]).tunnel("rest", &["*"]);
    let edge = plan.with("http-mode: serve").start();
    let _named = Connector::start(Way::Quic, &edge, "named", "  - service: http_status:201");
    let _rest = Connector::start(Way::Quic, &edge, "rest", "  - service: hello_world");
    edge.has_connections(8).await;
    // There is no certificate for everything, but there is plain HTTP.
    let visitor = Visitor::plain(edge.http);
    assert_eq!(visitor.get(APP, "/").await.status.as_u16(), 201);
    assert_eq!(visitor.get("anything.else", "/").await.status, StatusCode::OK);
}
