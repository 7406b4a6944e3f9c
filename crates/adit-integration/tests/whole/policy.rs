//! What the operator and the connector say about requests, and in which order it counts.

use std::io::Read as _;

use adit_testkit::home::APP;
use adit_testkit::visitor::{empty, full, whole};
use adit_testkit::{Answer, Connector, Edge, Origin, Visitor, Way};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, StatusCode};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

/// An edge with these lines, and a connector with one service for everything.
async fn home_with(lines: &str) -> (Connector, Edge, Origin) {
    let origin = Origin::start();
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(lines).start();
    let rules = format!("  - service: http://{}", origin.address);
    let connector = Connector::start(Way::Quic, &edge, "home", &rules);
    edge.has_connections(4).await;
    (connector, edge, origin)
}

/// Asks as somebody whom the trusted proxy on loopback names.
async fn ask_as(edge: &Edge, client: &str, host: &str, method: Method, path: &str) -> Answer {
    let visitor = Visitor::plain(edge.http);
    let mut request = visitor.request(method, host, path, empty());
    request.headers_mut().insert("fly-client-ip", client.parse().unwrap());
    visitor.ask(host, request).await
}

async fn get_as(edge: &Edge, client: &str, host: &str, path: &str) -> Answer {
    ask_as(edge, client, host, Method::GET, path).await
}

const FLY: &str = "http-mode: serve\ntrusted: { from: [127.0.0.0/8], header: fly-client-ip }\n";

#[tokio::test]
async fn the_connector_speaks_for_its_names_and_the_operator_has_the_last_word() {
    let origin = Origin::start();
    let lines = "defaults: { headers: { response: { set: { X-Who: defaults } } } }\nhostnames:\n  b.example.test: { methods: [GET], headers: { response: { set: { X-Who: operator } } } }";
    let edge = Edge::plan()
        .tunnel("home", &["a.example.test", "b.example.test"])
        .tunnel("other", &["c.example.test"])
        .with(lines)
        .start();
    let service = format!("service: http://{}", origin.address);
    let word = "edge: { methods: [GET, PUT], headers: { response: { set: { X-Who: connector } } } }";
    let rules: String = ["a", "b", "c"]
        .iter()
        .map(|name| format!("  - hostname: {name}.example.test\n    {service}\n    {word}\n"))
        .collect();
    let _home = Connector::start(Way::Http2, &edge, "home", &format!("{rules}  - {service}"));
    let _other = Connector::start(Way::Http2, &edge, "other", &format!("  - {service}"));
    edge.has_connections(8).await;
    edge.serves(&["a.example.test", "b.example.test"]).await;
    let visitor = edge.visitor();
    let mut seen = Vec::new();
    for name in ["a.example.test", "b.example.test", "c.example.test"] {
        let who = visitor.get(name, "/").await.header("x-who").to_owned();
        let put = visitor.request(Method::PUT, name, "/", empty());
        let post = visitor.request(Method::POST, name, "/", empty());
        let (put, post) = (visitor.ask(name, put).await.status, visitor.ask(name, post).await.status);
        seen.push((who, put.as_u16(), post.as_u16()));
    }
    let row = |who: &str, put, post| (who.to_owned(), put, post);
    // A connector is not heard about a name that is not granted to it.
    assert_eq!(seen, [row("connector", 200, 405), row("operator", 405, 405), row("defaults", 200, 200)]);
}

/// A connector that serves what the edge holds for it.
fn without_rules(way: Way, edge: &Edge) -> Connector {
    Connector::start_at(way, edge.folder(), &edge.tunnel, "home", "")
}

#[tokio::test]
async fn rules_that_the_edge_holds_speak_too_and_so_does_it_for_everybody_s_connector() {
    for way in Way::all() {
        let origin = Origin::start();
        let service = format!("service: http://{}", origin.address);
        let lines = format!(
            "tunnels:\n  home:\n    ingress:\n      - hostname: a.example.test\n        {service}\n        edge: {{ methods: [GET] }}\n      - {service}\nhostnames:\n  b.example.test: {{ cache: static, rate-limit: {{ rate: 1/h, burst: 1 }} }}"
        );
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(&lines).start();
        let _connector = without_rules(way, &edge);
        edge.has_connections(if way.is_ours() { 4 } else { 2 }).await;
        let visitor = edge.visitor();
        assert_eq!(
            visitor.post("a.example.test", "/", "x").await.status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{way:?}"
        );
        assert_eq!(visitor.post("c.example.test", "/echo", "x").await.status, StatusCode::OK, "{way:?}");
        let mut seen = Vec::new();
        for _ in 0..3 {
            let answer = visitor.get("b.example.test", "/say").await;
            seen.push((answer.status.as_u16(), answer.header("x-cache-status").to_owned()));
        }
        let row = |status: u16, word: &str| (status, word.to_owned());
        assert_eq!(seen, [row(200, "MISS"), row(200, "HIT"), row(429, "")], "{way:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_to_its_author() {
    let origin = Origin::start();
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
    let service = format!("service: http://{}", origin.address);
    let rules = format!("  - {service}\n    edge: {{ allow: 10.0.0.0/8, surprise: true }}");
    // Its author reads the error before anything is served.
    let mut connector = Connector::start(Way::Quic, &edge, "home", &rules);
    assert_eq!(connector.program.ends(), Some(2));
    assert!(connector.program.said().contains("unknown key `surprise`"), "{}", connector.program.said());
}

#[tokio::test]
async fn paths_cannot_be_written_around_a_rule() {
    let lines = "defaults:\n  paths:\n    ^/swagger: { respond: { status: 403, body: Not here. } }\n    ^/old/: { redirect: { from: '^/old/(.*)', to: '/new/$1', status: 301 } }\n    ^/v1/: { rewrite: { from: '^/v1/(.*)', to: '/$1' } }";
    let (_connector, edge, _origin) = home_with(lines).await;
    let visitor = edge.visitor();
    for path in ["/swagger", "/swagger/index.html", "/%73wagger", "/swagger//x"] {
        let answer = visitor.get(APP, path).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (403, "Not here.\n"), "{path}");
    }
    for path in ["//swagger", "/x/../swagger", "/x/%2e%2e/swagger", "/v1/../swagger", "/%76%31/..%2f"] {
        assert_eq!(visitor.get(APP, path).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
    let moved = visitor.get(APP, "/old//evil.example").await;
    assert_eq!((moved.status.as_u16(), moved.header("location")), (301, "/new//evil.example"));
    let moved = visitor.get(APP, "/%6fld/a%20b").await;
    assert_eq!((moved.status.as_u16(), moved.header("location")), (301, "/new/a%20b"));
    let answer: Value = serde_json::from_slice(&visitor.get(APP, "/v1/request?q=1").await.body).unwrap();
    assert_eq!(answer["target"], "/request?q=1");
}

#[tokio::test]
async fn addresses_methods_and_bodies_are_let_through_or_not() {
    let lines = format!(
        "{FLY}hostnames:\n  inside.example.test: {{ allow: [10.0.0.0/8], deny: 10.6.6.6 }}\n  silent.example.test: {{ deny: 10.0.0.0/8, deny-mode: drop }}\n  small.example.test: {{ body-limit: 1k, methods: [GET, POST] }}"
    );
    let (_connector, edge, origin) = home_with(&lines).await;
    let inside = "inside.example.test";
    assert_eq!(get_as(&edge, "10.1.1.1", inside, "/").await.status, StatusCode::OK);
    assert_eq!(get_as(&edge, "10.6.6.6", inside, "/no").await.status, StatusCode::FORBIDDEN);
    assert_eq!(get_as(&edge, "192.0.2.1", inside, "/no").await.status, StatusCode::FORBIDDEN);
    assert_eq!(origin.asked("/no"), 0);
    let visitor = Visitor::plain(edge.http);
    let mut request = visitor.request(Method::GET, "silent.example.test", "/", empty());
    request.headers_mut().insert("fly-client-ip", "10.1.1.1".parse().unwrap());
    assert!(visitor.send("silent.example.test", request).await.is_err(), "no answer at all");
    let small = "small.example.test";
    let answer = ask_as(&edge, "10.1.1.1", small, Method::DELETE, "/").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, POST, HEAD"));
    assert_eq!(visitor.post(small, "/echo", vec![b'x'; 1024]).await.status, StatusCode::OK);
    assert_eq!(visitor.post(small, "/echo", vec![b'x'; 1025]).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    // Without a length, it is found out on the way.
    let (mut sender, body) = adit_testkit::visitor::streamed();
    let request = visitor.request(Method::POST, small, "/echo", body);
    let sending = tokio::spawn(async move {
        for _ in 0..4 {
            drop(sender.send_data(vec![b'x'; 512].into()).await);
        }
    });
    let answer = visitor.send(small, request).await.unwrap();
    sending.await.unwrap();
    // Either the page, or an answer that had begun and breaks off.
    if answer.status() == StatusCode::OK {
        assert!(whole(answer).await.is_err());
    } else {
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}

#[tokio::test]
async fn a_websocket_counts_as_get_on_every_http() {
    let (_connector, edge, _origin) = home_with("defaults: { methods: [GET] }").await;
    for visitor in [edge.visitor(), edge.visitor().http2()] {
        let mut socket = visitor.websocket(APP, "/websocket").await;
        socket.send(Message::text("here")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("here"));
    }
    assert_eq!(edge.visitor().post(APP, "/echo", "x").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_limit_is_for_one_visitor_of_one_name() {
    let lines = format!(
        "{FLY}defaults: {{ rate-limit: {{ rate: 2/h, burst: 3 }} }}\nhostnames:\n  keyed.example.test: {{ rate-limit: {{ rate: 1/h, key: header(X-Api-Key) }} }}"
    );
    let (_connector, edge, origin) = home_with(&lines).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(get_as(&edge, "192.0.2.1", APP, "/counted").await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
    assert_eq!(origin.asked("/counted"), 4);
    let refused = get_as(&edge, "192.0.2.1", APP, "/counted").await;
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1700..=1801).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit-limit"), "4");
    assert_eq!(
        (refused.header("ratelimit-remaining"), refused.header("ratelimit-reset").is_empty()),
        ("0", false)
    );
    assert!(refused.text().contains("Too many requests"));
    // Another visitor, another name; and a home with IPv6 is one visitor.
    assert_eq!(get_as(&edge, "192.0.2.2", APP, "/").await.status, StatusCode::OK);
    assert_eq!(
        get_as(&edge, "192.0.2.1", "b.example.test", "/").await.status,
        StatusCode::OK,
        "counted by name"
    );
    let mut home = Vec::new();
    for host in 1..6 {
        home.push(get_as(&edge, &format!("2001:db8:1:2::{host}"), APP, "/").await.status.as_u16());
    }
    assert_eq!(home, [200, 200, 200, 200, 429]);
    let visitor = Visitor::plain(edge.http);
    let mut keyed = Vec::new();
    for key in ["one", "one", "two"] {
        let mut request = visitor.request(Method::GET, "keyed.example.test", "/", empty());
        request.headers_mut().insert("x-api-key", key.parse().unwrap());
        keyed.push(visitor.ask("keyed.example.test", request).await.status.as_u16());
    }
    assert_eq!(keyed, [200, 429, 200]);
}

#[tokio::test]
async fn only_so_much_runs_at_the_same_time() {
    let (_connector, edge, origin) = home_with("defaults: { concurrency: 2 }").await;
    let visitor = edge.visitor();
    let first = tokio::spawn({
        let visitor = edge.visitor();
        async move { visitor.get(APP, "/held").await.status }
    });
    origin.has_held(1).await;
    let second = visitor.send(APP, visitor.request(Method::GET, APP, "/events", empty())).await.unwrap();
    assert_eq!(visitor.get(APP, "/").await.status, StatusCode::TOO_MANY_REQUESTS);
    origin.release();
    assert_eq!(first.await.unwrap(), StatusCode::OK);
    assert_eq!(visitor.get(APP, "/").await.status, StatusCode::OK, "one has ended");
    drop(second);
}

#[tokio::test]
async fn failures_ban_and_a_ban_costs_no_stream() {
    let lines = format!(
        "{FLY}hostnames:\n  app.example.test:\n    paths:\n      ^/status/: {{ ban: {{ statuses: [401, 403], count: 3, window: 10m, time: 1h, allow: 192.0.2.9 }} }}"
    );
    let (_connector, edge, origin) = home_with(&lines).await;
    for _ in 0..3 {
        assert_eq!(get_as(&edge, "192.0.2.1", APP, "/status/401").await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(get_as(&edge, "192.0.2.9", APP, "/status/401").await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(get_as(&edge, "192.0.2.2", APP, "/status/404").await.status, StatusCode::NOT_FOUND);
    }
    for host in [APP, "b.example.test"] {
        let banned = get_as(&edge, "192.0.2.1", host, "/after").await;
        assert_eq!(banned.status, StatusCode::FORBIDDEN, "{host}");
        assert!(banned.text().contains("kept out for a while"));
        assert_eq!(get_as(&edge, "192.0.2.2", host, "/status/200").await.status, StatusCode::OK);
        assert_eq!(get_as(&edge, "192.0.2.9", host, "/status/200").await.status, StatusCode::OK);
    }
    assert_eq!(origin.asked("/after"), 0, "no stream of the tunnel");
    let metrics = edge.metrics().await;
    assert!(metrics.contains("adit_edge_bans_total 1"), "{metrics}");
    assert!(metrics.contains("adit_edge_requests_denied_total{reason=\"banned\"} 2"), "{metrics}");
}

#[tokio::test]
async fn fields_are_set_added_and_removed() {
    let lines = "defaults:\n  security-headers: true\n  hsts: { max-age: 1y, subdomains: true }\n  headers:\n    request: { set: { X-From: edge }, remove: X-Secret }\n    response: { set: { X-Fixed: one }, add: { Via: more }, remove: [X-Powered-By] }";
    let (_connector, edge, _origin) = home_with(lines).await;
    let visitor = edge.visitor();
    let answer = visitor.get(APP, "/say?x-powered-by=php&x-frame-options=SAMEORIGIN").await;
    assert_eq!(answer.header("x-frame-options"), "DENY", "the operator's word");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "strict-origin-when-cross-origin");
    assert_eq!(answer.header("strict-transport-security"), "max-age=31536000; includeSubDomains");
    assert_eq!((answer.header("x-fixed"), answer.header("x-powered-by")), ("one", ""));
    let mut request = visitor.request(Method::GET, APP, "/request", empty());
    request.headers_mut().insert("x-secret", "1".parse().unwrap());
    let seen = visitor.ask(APP, request).await.text();
    assert!(seen.contains("[\"x-from\",\"edge\"]") && !seen.contains("x-secret"), "{seen}");
    let page = visitor.request(Method::POST, APP, "/status/502", full("x"));
    assert_eq!(visitor.ask(APP, page).await.header("x-fixed"), "one", "errors have them too");
}

fn unpacked(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    match coding {
        "gzip" => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut text)),
        "br" => drop(brotli::Decompressor::new(body, 4096).read_to_end(&mut text)),
        "zstd" => text = zstd::decode_all(body).unwrap(),
        other => panic!("{other}"),
    }
    text
}

#[tokio::test]
async fn answers_are_compressed_once_and_events_still_arrive() {
    let (_connector, edge, origin) = home_with("defaults: { compress: true }").await;
    let visitor = edge.visitor();
    let get = async |path: &str, accepted: &str| {
        let mut request = visitor.request(Method::GET, APP, path, empty());
        request.headers_mut().insert("accept-encoding", accepted.parse().unwrap());
        visitor.ask(APP, request).await
    };
    let plain = visitor.get(APP, "/say?size=50000&content-type=text/css&etag=%22a%22").await;
    assert_eq!(
        (plain.body.len(), plain.header("etag"), plain.header("vary")),
        (50_000, "\"a\"", "accept-encoding")
    );
    for coding in ["gzip", "br", "zstd"] {
        let answer = get("/say?size=50000&content-type=text/css&etag=%22a%22", coding).await;
        assert_eq!(answer.header("content-encoding"), coding);
        assert_eq!(answer.header("etag"), "W/\"a\"");
        assert!(answer.body.len() < 5_000, "{coding}: {}", answer.body.len());
        assert_eq!(unpacked(coding, &answer.body), plain.body, "{coding}");
    }
    let packed = get("/say?size=50000&content-type=text/css&content-encoding=gzip", "gzip").await;
    assert_eq!(packed.body.len(), 50_000, "never twice");
    assert_eq!(get("/say?size=50000&content-type=image/png", "gzip").await.header("content-encoding"), "");
    assert_eq!(get("/say?size=500&content-type=text/css", "gzip").await.header("content-encoding"), "");
    // An event that has happened is seen, although the body goes on.
    let mut request = visitor.request(Method::GET, APP, "/events", empty());
    request.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
    let mut events = visitor.send(APP, request).await.unwrap();
    assert_eq!(events.headers()["content-encoding"], "gzip");
    origin.tick();
    let mut packed = Vec::new();
    let seen = async {
        loop {
            let frame = http_body_util::BodyExt::frame(events.body_mut()).await.unwrap().unwrap();
            packed.extend_from_slice(&frame.into_data().unwrap());
            let mut text = Vec::new();
            let _incomplete = flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut text);
            if String::from_utf8_lossy(&text).contains("data: 1\n\n") {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), seen).await.unwrap();
}

#[tokio::test]
async fn a_silent_origin_is_waited_for_as_long_as_is_said() {
    let (_connector, edge, origin) =
        home_with("defaults: { timeouts: { answer: 300ms, idle: 300ms } }").await;
    let visitor = edge.visitor();
    let slow = visitor.get(APP, "/held").await;
    assert_eq!(slow.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(slow.text().contains("does not answer in time"));
    let request = visitor.request(Method::GET, APP, "/events/5000", empty());
    let silent = visitor.send(APP, request).await.unwrap();
    assert!(whole(silent).await.is_err(), "broken off");
    let events = visitor.send(APP, visitor.request(Method::GET, APP, "/events/50", empty())).await.unwrap();
    let reading = tokio::time::timeout(std::time::Duration::from_millis(900), whole(events)).await;
    assert!(reading.is_err(), "one that speaks goes on");
    drop(origin);
}

/// The policy that holds is that of the rule that answers, in the connector's order: not that of the rule with the very name.
#[tokio::test]
async fn the_rule_that_answers_speaks() {
    for way in Way::ours() {
        for held in [false, true] {
            let (first, second) = (Origin::start(), Origin::start());
            let rules = [
                format!("- hostname: '*.example.test'\n  path: ^/admin\n  service: http://{}\n  edge: {{ allow: 10.0.0.0/8 }}", first.address),
                format!("- hostname: h.example.test\n  service: http://{}\n  edge: {{ headers: {{ response: {{ set: {{ X-Rule: second }} }} }} }}", second.address),
                "- path: ^/metrics\n  service: http_status:200\n  edge: { allow: 10.0.0.0/8 }".to_owned(),
                format!("- service: http://{}\n  edge: {{ methods: [GET] }}", second.address),
            ]
            .join("\n");
            let indented = |spaces: usize| {
                let indent = " ".repeat(spaces);
                rules.lines().map(|line| format!("{indent}{line}\n")).collect::<String>()
            };
            let lines = match held {
                true => format!("{FLY}tunnels:\n  home:\n    ingress:\n{}", indented(6)),
                false => FLY.to_owned(),
            };
            let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(&lines).start();
            let _connector = match held {
                true => without_rules(way, &edge),
                false => Connector::start(way, &edge, "home", indented(2).trim_end()),
            };
            edge.has_connections(4).await;
            edge.serves(&["h.example.test"]).await;
            for (host, path, inside, outside) in [
                ("h.example.test", "/admin", 200, 403),
                ("h.example.test", "/metrics", 200, 200),
                ("h.example.test", "/", 200, 200),
                ("k.example.test", "/admin/x", 200, 403),
                ("k.example.test", "/metrics", 200, 403),
                ("k.example.test", "/", 200, 200),
            ] {
                let from = async |client| get_as(&edge, client, host, path).await.status.as_u16();
                let seen = (from("10.1.2.3").await, from("192.0.2.1").await);
                assert_eq!(seen, (inside, outside), "{way:?} held {held}: {host}{path}");
            }
            let marked = get_as(&edge, "192.0.2.1", "h.example.test", "/").await;
            assert_eq!(marked.header("x-rule"), "second");
            let post = ask_as(&edge, "192.0.2.1", "k.example.test", Method::POST, "/").await;
            assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
        }
    }
}

/// While connectors are replaced one after the other, two of them have different rules. A request is judged by the rules of the
/// one that it goes to, whichever that is.
#[tokio::test]
async fn each_replica_s_requests_are_judged_by_its_own_rules() {
    let (open, closed) = (Origin::start(), Origin::start());
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(FLY).start();
    let rules = |origin: &Origin, word: &str| {
        format!(
            "  - hostname: a.example.test\n    service: http://{}\n{word}  - service: http_status:404",
            origin.address
        )
    };
    let mark = |text: &str| format!("    edge: {{ headers: {{ response: {{ set: {{ X-Rules: {text} }} }} }}");
    let first = rules(&open, &(mark("open") + " }\n"));
    let second = rules(&closed, &(mark("closed") + ", allow: 10.0.0.0/8 }\n"));
    let _first = Connector::start(Way::Quic, &edge, "home", &first);
    edge.has_connections(4).await;
    let _second = Connector::start(Way::Http2, &edge, "home", &second);
    edge.has_connections(8).await;
    // Origins tell their port: which rules have judged, and who has answered.
    let ports = [("open", open.address.port()), ("closed", closed.address.port())]
        .map(|(rules, port)| (rules.to_owned(), port.to_string()));
    let mut statuses = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let inside = get_as(&edge, "10.1.2.3", "a.example.test", "/port").await;
        let outside = get_as(&edge, "192.0.2.1", "a.example.test", "/port").await;
        let pair = |answer: &Answer| (answer.header("x-rules").to_owned(), answer.text());
        assert!(ports.contains(&pair(&inside)), "{:?}", pair(&inside));
        statuses.insert(outside.status.as_u16());
        assert!(
            outside.status == StatusCode::FORBIDDEN || pair(&outside) == ports[0],
            "{:?}",
            pair(&outside)
        );
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [200, 403], "both get their share");
}
