//! The way to origins: several for one rule, silence, tokens, proxies of the environment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_testkit::home::APP;
use adit_testkit::issuer::Issuer;
use adit_testkit::origin::Origin;
use adit_testkit::pki::Authority;
use adit_testkit::visitor::{Visitor, empty};
use adit_testkit::{Connector, Edge, Way};
use http::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

async fn serving(way: Way, rule: &str) -> (Edge, Connector) {
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
    let rules = format!("  - hostname: {APP}\n{rule}\n  - service: http_status:404");
    let connector = Connector::start(way, &edge, "home", &rules);
    edge.has_connections(4).await;
    (edge, connector)
}

fn several(origins: &[&Origin], settings: &str) -> String {
    let services: Vec<String> = origins.iter().map(|origin| format!("'http://{}'", origin.address)).collect();
    format!("    services: [{}]\n    originRequest: {{ {settings} }}", services.join(", "))
}

async fn port(visitor: &Visitor) -> u16 {
    let answer = visitor.get(APP, "/port").await;
    answer.text().parse().unwrap_or_else(|_| panic!("{} {}", answer.status, answer.text()))
}

#[tokio::test]
async fn several_origins_take_turns_and_a_dead_one_costs_nothing() {
    for way in Way::ours() {
        let (first, second) = (Origin::start(), Origin::start());
        let (edge, _connector) = serving(way, &several(&[&first, &second], "")).await;
        let visitor = edge.visitor();
        let mut ports = Vec::new();
        for _ in 0..4 {
            ports.push(port(&visitor).await);
        }
        for origin in [&first, &second] {
            let share = ports.iter().filter(|port| **port == origin.address.port()).count();
            assert_eq!(share, 2, "{way:?}: {ports:?}");
        }
        let left = second.address.port();
        drop(first);
        for _ in 0..10 {
            assert_eq!(port(&visitor).await, left, "{way:?}");
        }
        let posted = visitor.post(APP, "/echo", "not sent yet, so another may have it").await;
        assert_eq!(posted.text(), "not sent yet, so another may have it", "{way:?}");
    }
}

#[tokio::test]
async fn a_visitor_stays_with_an_origin_where_that_is_asked_for() {
    let origins = [Origin::start(), Origin::start(), Origin::start()];
    let all: Vec<&Origin> = origins.iter().collect();
    let (edge, _connector) = serving(Way::Quic, &several(&all, "balance: sticky")).await;
    let visitor = edge.visitor();
    let home = port(&visitor).await;
    for _ in 0..6 {
        assert_eq!(port(&visitor).await, home);
    }
}

#[tokio::test]
async fn the_idlest_origin_gets_the_next_request() {
    let (busy, idle) = (Origin::start(), Origin::start());
    let (edge, _connector) = serving(Way::Quic, &several(&[&busy, &idle], "balance: least-requests")).await;
    let visitor = edge.visitor();
    let holding = tokio::spawn({
        let visitor = edge.visitor();
        async move { visitor.get(APP, "/held").await.status }
    });
    let other = tokio::select! {
        () = busy.has_held(1) => &idle,
        () = idle.has_held(1) => &busy,
    };
    for _ in 0..5 {
        assert_eq!(port(&visitor).await, other.address.port());
    }
    busy.release();
    idle.release();
    assert_eq!(holding.await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn an_origin_that_fails_its_checks_is_asked_no_more() {
    let good = Origin::start();
    // The other one answers everything with 500.
    let stranger = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = stranger.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = stranger.accept().await {
            let mut request = [0; 2048];
            let length = stream.read(&mut request).await.unwrap_or_default();
            if !request[..length].starts_with(b"GET /health ") {
                count.fetch_add(1, Ordering::SeqCst);
            }
            let answer = b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            drop(stream.write_all(answer).await);
        }
    });
    let rule = format!(
        "    services: ['http://{}', 'http://{address}']\n    originRequest: {{ healthCheck: {{ path: /health, interval: 100ms, fall: 1 }} }}",
        good.address
    );
    let (edge, connector) = serving(Way::Quic, &rule).await;
    let line = connector.program.says("origin is down");
    assert!(line.contains(&address.to_string()) && line.contains("500"), "{line}");
    let visitor = edge.visitor();
    let before = asked.load(Ordering::SeqCst);
    for _ in 0..10 {
        assert_eq!(port(&visitor).await, good.address.port());
    }
    assert_eq!(asked.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn silence_ends_a_stream_and_events_keep_it() {
    for way in Way::ours() {
        let origin = Origin::start();
        let rule =
            format!("    service: http://{}\n    originRequest: {{ idleTimeout: 500ms }}", origin.address);
        let (edge, _connector) = serving(way, &rule).await;
        let visitor = edge.visitor();
        assert_eq!(visitor.get(APP, "/held").await.status, StatusCode::GATEWAY_TIMEOUT, "{way:?}");
        // Comments every 100 ms keep the events alive for longer than the limit.
        let request = visitor.request(Method::GET, APP, "/events", empty());
        let mut events = visitor.send(APP, request).await.unwrap().into_body();
        let started = std::time::Instant::now();
        while started.elapsed() < std::time::Duration::from_millis(1500) {
            let frame = http_body_util::BodyExt::frame(&mut events).await;
            assert!(frame.is_some_and(|frame| frame.is_ok()), "{way:?}");
        }
        let mut socket = visitor.websocket(APP, "/websocket").await;
        let ended = tokio::time::timeout(
            std::time::Duration::from_secs(5),
            futures_util::StreamExt::next(&mut socket),
        );
        assert!(!matches!(ended.await.unwrap(), Some(Ok(message)) if message.is_text()), "{way:?}");
    }
}

#[tokio::test]
async fn a_rule_lets_only_good_tokens_through() {
    let issuer = Issuer::start().await;
    let origin = Origin::start();
    for way in Way::ours() {
        let asked = issuer.was_asked();
        let rule = format!(
            "    service: http://{}\n    originRequest: {{ access: {{ required: true, issuer: '{}', audTag: [app], header: Authorization }} }}",
            origin.address, issuer.url
        );
        let (edge, _connector) = serving(way, &rule).await;
        let visitor = edge.visitor();
        let status = async |token: &str| {
            let mut request = visitor.request(Method::GET, APP, "/", empty());
            if !token.is_empty() {
                let value = format!("Bearer {token}").parse().unwrap();
                request.headers_mut().insert("authorization", value);
            }
            visitor.ask(APP, request).await.status.as_u16()
        };
        let good = issuer.token("app", &json!({}));
        assert_eq!(status(&good).await, 200, "{way:?}");
        let none = unsigned(&good);
        for (what, token) in [
            ("no token", String::new()),
            ("no JWT", "abc".to_owned()),
            ("another audience", issuer.token("other", &json!({}))),
            ("another issuer", issuer.token("app", &json!({ "iss": "https://evil.example" }))),
            ("expired", issuer.token("app", &json!({ "exp": 1_000_000_000 }))),
            ("not valid yet", issuer.token("app", &json!({ "nbf": 99_999_999_999_u64 }))),
            ("forged", issuer.forged("app")),
            ("alg none", none),
        ] {
            assert_eq!(status(&token).await, 403, "{way:?}: {what}");
        }
        assert_eq!(issuer.was_asked() - asked, 1, "keys are fetched once");
    }
}

fn unsigned(token: &str) -> String {
    let claims = token.split('.').nth(1).unwrap();
    // {"alg":"none"}
    format!("eyJhbGciOiJub25lIn0.{claims}.")
}

#[tokio::test]
async fn without_the_issuers_keys_nobody_passes_and_the_log_says_why() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let issuer = Issuer::start().await;
    let rule = format!(
        "    service: http_status:200\n    originRequest: {{ access: {{ required: true, issuer: '{}', keysUrl: 'http://{gone}/keys', audTag: [app], header: X-Token }} }}",
        issuer.url
    );
    let (edge, connector) = serving(Way::Quic, &rule).await;
    let visitor = edge.visitor();
    let mut request = visitor.request(Method::GET, APP, "/", empty());
    let token = issuer.token("app", &json!({}));
    request.headers_mut().insert("x-token", token.parse().unwrap());
    assert_eq!(visitor.ask(APP, request).await.status, StatusCode::BAD_GATEWAY);
    let line = connector.program.says("cannot fetch the keys");
    assert!(line.contains(&gone.to_string()) && !connector.program.said().contains(&token), "{line}");
}

/// A forward proxy: says what it was asked first, and goes to `origin` whatever that was.
async fn proxy(origin: std::net::SocketAddr) -> (std::net::SocketAddr, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heard = heard.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                let length = stream.read(&mut head).await.unwrap();
                let text = String::from_utf8_lossy(&head[..length]).into_owned();
                let mut onward = TcpStream::connect(origin).await.unwrap();
                if text.starts_with("CONNECT ") {
                    stream.write_all(b"HTTP/1.1 200 Fine\r\n\r\n").await.unwrap();
                } else {
                    onward.write_all(&head[..length]).await.unwrap();
                }
                heard.send(text).await.unwrap();
                // Either side may leave as it likes.
                drop(copy_bidirectional(&mut stream, &mut onward).await);
            });
        }
    });
    (address, hears)
}

#[tokio::test]
async fn proxies_of_the_environment_are_used_but_not_for_this_machine() {
    let origin = Origin::start();
    let (address, mut hears) = proxy(origin.address).await;
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
    let lines = format!(
        "ingress:\n  - {{ hostname: plain.example.test, service: 'http://plain.internal:8080' }}\n  - {{ hostname: grpc.example.test, service: 'http://grpc.internal:50051', originRequest: {{ http2Origin: true }} }}\n  - {{ hostname: near.example.test, service: 'http://{}' }}\n  - {{ hostname: not.example.test, service: 'http://excluded.internal' }}\n  - service: http_status:404\n",
        origin.address
    );
    let url = format!("http://user:secret@{address}");
    let environment = [("HTTP_PROXY", url.as_str()), ("NO_PROXY", "excluded.internal")];
    let connector = Connector::start_in(&environment, Way::Quic, edge.folder(), &edge.tunnel, "home", &lines);
    edge.has_connections(4).await;
    let visitor = edge.visitor();
    assert_eq!(visitor.get("plain.example.test", "/a?b=c").await.text(), "GET /a\n");
    let heard = hears.recv().await.unwrap();
    assert!(heard.starts_with("GET http://plain.internal:8080/a?b=c HTTP/1.1\r\n"), "{heard}");
    assert!(heard.contains("Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"), "{heard}");
    assert_eq!(visitor.get("grpc.example.test", "/x").await.status, StatusCode::OK);
    assert!(hears.recv().await.unwrap().starts_with("CONNECT grpc.internal:50051 HTTP/1.1\r\n"));
    assert_eq!(visitor.get("near.example.test", "/").await.status, StatusCode::OK);
    assert_eq!(visitor.get("not.example.test", "/").await.status, StatusCode::BAD_GATEWAY);
    assert!(hears.try_recv().is_err(), "neither of them went to the proxy");
    assert!(!connector.program.said().contains("secret"));
}

/// `openssl req -x509` makes certificates with `CA:TRUE`; every NAS has one.
#[tokio::test]
async fn an_origin_s_self_signed_certificate_in_the_pool_is_trusted_as_itself() {
    let pki = Authority::new();
    let (nas, other) = (pki.self_signed(&["localhost"]), pki.self_signed(&["localhost"]));
    let elsewhere = pki.self_signed(&["elsewhere.example"]);
    for way in Way::ours() {
        for (certificate, pool, status) in [
            (&nas, &nas, StatusCode::OK),
            // Another certificate with the same names, and one for another name.
            (&nas, &other, StatusCode::BAD_GATEWAY),
            (&elsewhere, &elsewhere, StatusCode::BAD_GATEWAY),
        ] {
            let origin = Origin::start_tls(&certificate.certificate, &certificate.key);
            let rule = format!(
                "    service: https://localhost:{}\n    originRequest: {{ originServerName: localhost, caPool: '{}' }}",
                origin.address.port(),
                pool.certificate.display()
            );
            let (edge, _connector) = serving(way, &rule).await;
            assert_eq!(edge.visitor().get(APP, "/").await.status, status, "{way:?}");
        }
    }
}
