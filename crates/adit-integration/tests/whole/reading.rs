//! One reading of a request: what decides about a path or a host is what connectors and origins get.

use adit_testkit::foreign::{self, ForeignEdge};
use adit_testkit::home::APP;
use adit_testkit::issuer::Issuer;
use adit_testkit::visitor::empty;
use adit_testkit::{Connector, Edge, Home, Origin, Visitor, Way};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const GUARDED: &str = "guarded.example.test";
const RULED: &str = "ruled.example.test";
const FREE: &str = "free.example.test";

/// Paths of which some reading is `/admin`, and another one is not.
const AMBIGUOUS: [&str; 24] = [
    "//admin",
    "/public/../admin",
    "/public/%2e%2e/admin",
    "/public/.%2E/admin",
    "/public/..%2fadmin",
    "/public/..%2Fadmin",
    "/public%2f..%2fadmin",
    "/public/..;/admin",
    "/public/..%3b/admin",
    "/public/..\\admin",
    "/public/..%5cadmin",
    "/public/%252e%252e/admin",
    "/public/..%252fadmin",
    "/public/%c0%ae%c0%ae/admin",
    "/public/..%c0%afadmin",
    "/public/..%u002fadmin",
    "/%2fadmin",
    "/\\admin",
    "/%00admin",
    "//x.example/admin",
    "/admin/../public/",
    "/admin/..%2fpublic/",
    "/admin\\..\\public/",
    "/admin%00/../public/",
];

/// Paths that many programs would change, and that must arrive as they are.
const UNTOUCHED: [&str; 14] = [
    "/wp-admin/",
    "/a//b",
    "/a%2Fb",
    "/@scope%2fname",
    "/a;v=1",
    "/a%20b",
    "/m%C3%BCller",
    "/m\u{fc}ller",
    "/x/../y/./z",
    "/100%25",
    "/c%23",
    "/a\\b",
    "/%7Euser/%61",
    "//double",
];

/// An edge with a policy for `/admin` of one name, and a connector whose rules tell `/public/` of another one apart.
async fn ruled(way: Way) -> (Connector, Edge, Origin) {
    let origin = Origin::start();
    let lines =
        format!("hostnames: {{ {GUARDED}: {{ paths: {{ ^/admin: {{ deny: [0.0.0.0/0, '::/0'] }} }} }} }}");
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(&lines).start();
    let service = format!("service: http://{}", origin.address);
    let rules = format!(
        "  - hostname: {RULED}\n    path: ^/public/\n    {service}\n  - hostname: {RULED}\n    path: ^/admin\n    service: http_status:418\n  - {service}"
    );
    let connector = Connector::start(way, &edge, "home", &rules);
    edge.has_connections(if way.is_ours() { 4 } else { 2 }).await;
    edge.serves(&[RULED]).await;
    (connector, edge, origin)
}

/// The status and the stable word of the answer on every HTTP.
async fn answers(edge: &Edge, host: &str, path: &str) -> Vec<(u16, String)> {
    let mut answers = Vec::new();
    for visitor in [edge.visitor(), edge.visitor().http2()] {
        let mut request = visitor.request(Method::GET, host, path, empty());
        request.headers_mut().insert("accept", "application/json".parse().unwrap());
        answers.push(visitor.ask(host, request).await);
    }
    let request = Request::get(format!("https://{host}{path}")).header("accept", "application/json");
    let request = request.body(()).unwrap();
    answers.push(edge.visitor3().connect(host).await.send(request, bytes::Bytes::new()).await.unwrap());
    let code = |body: &[u8]| {
        let page: Value = serde_json::from_slice(body).unwrap_or_default();
        page["error"].as_str().unwrap_or_default().to_owned()
    };
    answers.iter().map(|answer| (answer.status.as_u16(), code(&answer.body))).collect()
}

#[tokio::test]
async fn a_path_that_rules_would_read_in_two_ways_is_refused_by_the_edge() {
    for way in Way::all() {
        let (_connector, edge, origin) = ruled(way).await;
        for path in AMBIGUOUS {
            for host in [GUARDED, RULED] {
                for (status, code) in answers(&edge, host, path).await {
                    assert_eq!((status, code.as_str()), (400, "ambiguous_path"), "{way:?}: {host}{path}");
                }
            }
            assert_eq!(origin.asked(path), 0, "{way:?}: {path}");
        }
        for (path, expected) in
            [("/public/%78", 200), ("/%61dmin", 418), ("/public//x", 200), ("/admin/x", 418)]
        {
            for (status, _) in answers(&edge, RULED, path).await {
                assert_eq!(status, expected, "{way:?}: {path}");
            }
        }
        for (status, _) in answers(&edge, GUARDED, "/%61dmin").await {
            assert_eq!(status, 403, "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_path_that_no_rule_tells_apart_arrives_byte_for_byte() {
    for way in Way::ours() {
        let (_connector, edge, origin) = ruled(way).await;
        for path in UNTOUCHED.iter().chain(&AMBIGUOUS) {
            for (status, _) in answers(&edge, FREE, path).await {
                assert_eq!(status, 200, "{way:?}: {path}");
            }
            assert_eq!(origin.asked(path), 3, "{way:?}: {path}");
        }
        for path in UNTOUCHED {
            for (status, _) in answers(&edge, GUARDED, path).await {
                assert_eq!(status, 200, "{way:?}: {path}");
            }
        }
    }
}

/// Sends bytes on a connection with TLS for a name; the status line of what comes back.
async fn raw(visitor: &Visitor, name: &str, request: &str) -> String {
    let mut stream = visitor.raw(name).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is closed without an answer has none.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn targets_that_are_no_paths_are_refused() {
    let home = Home::published(Way::Quic).await;
    for (target, expected) in [
        ("*", "HTTP/1.1 400"),
        ("app.example.test", "HTTP/1.1 400"),
        ("https://app.example.test?q", "HTTP/1.1 200"),
        ("https://app.example.test/a//b", "HTTP/1.1 200"),
        ("https://user@app.example.test/", "HTTP/1.1 400"),
        ("https://other.example.test/", "HTTP/1.1 400"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {APP}\r\nConnection: close\r\n\r\n");
        let answer = raw(&home.visitor(), APP, &request).await;
        assert!(answer.starts_with(expected), "{target}: {answer}");
    }
    assert_eq!((home.origin.asked("/?q"), home.origin.asked("/a//b")), (1, 1));
}

/// Rules with a token before a name and before a path of another one, and the same origin without one behind them.
fn rules_with_tokens(origin: &Origin, issuer: &Issuer) -> String {
    let service = format!("service: http://{}", origin.address);
    let access = format!(
        "originRequest: {{ access: {{ required: true, issuer: '{}', audTag: [app], header: X-Token }} }}",
        issuer.url
    );
    format!(
        "  - hostname: {GUARDED}\n    {service}\n    {access}\n  - hostname: {RULED}\n    path: ^/admin\n    {service}\n    {access}\n  - {service}"
    )
}

/// Spellings of a host that are the same name.
const SPELLINGS: [&str; 8] = [
    "guarded.example.test",
    "guarded.example.test.",
    "GUARDED.example.test",
    "Guarded.Example.Test.:443",
    "guarded.example.test:443",
    "guarded.example.test:",
    "guarded.example.test.:",
    "guarded.example.test:00443",
];

/// Spellings that are no host, or another one for careless readers.
const NO_HOSTS: [&str; 7] = [
    "guarded.example.test..",
    "x@guarded.example.test",
    "guarded%2eexample.test",
    "guarded.example.test:x",
    "guarded.example.test:443:443",
    "guarded.example.test/",
    "gu\u{e4}rded.example.test",
];

#[tokio::test]
async fn no_spelling_of_a_host_or_a_path_gets_around_a_token() {
    let issuer = Issuer::start().await;
    for way in Way::ours() {
        let origin = Origin::start();
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
        let _connector = Connector::start(way, &edge, "home", &rules_with_tokens(&origin, &issuer));
        edge.has_connections(4).await;
        edge.serves(&[GUARDED, RULED]).await;
        let visitor = edge.visitor();
        let token = issuer.token("app", &json!({}));
        for host in SPELLINGS {
            let ask = |token: &str| {
                format!(
                    "GET /request HTTP/1.1\r\nHost: {host}\r\nX-Token: {token}\r\nConnection: close\r\n\r\n"
                )
            };
            let refused = raw(&visitor, GUARDED, &ask("none")).await;
            assert!(refused.starts_with("HTTP/1.1 403"), "{way:?}: {host}: {refused}");
            let answer = raw(&visitor, GUARDED, &ask(&token)).await;
            let expected = match host.trim_end_matches(':').contains(':') {
                true => r#"["host","guarded.example.test:443"]"#,
                false => r#"["host","guarded.example.test"]"#,
            };
            assert!(answer.contains(expected), "{way:?}: {host}: {answer}");
        }
        for host in NO_HOSTS {
            let request = format!("GET /secret HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let answer = raw(&visitor, GUARDED, &request).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{way:?}: {host}: {answer}");
        }
        for path in AMBIGUOUS {
            for (status, _) in answers(&edge, RULED, path).await {
                assert_eq!(status, 400, "{way:?}: {path}");
            }
        }
        assert_eq!(visitor.get(RULED, "/%61dmin").await.status, StatusCode::FORBIDDEN, "{way:?}");
        assert_eq!(origin.asked("/secret"), 0, "{way:?}");
    }
}

#[tokio::test]
async fn a_connector_trusts_no_edge_to_have_read_the_request() {
    let issuer = Issuer::start().await;
    for way in Way::ours() {
        let origin = Origin::start();
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
        let mut foreign = ForeignEdge::start(way, &edge.file("data")).await;
        let lines = format!("ingress:\n{}\n", rules_with_tokens(&origin, &issuer));
        let _connector = Connector::start_at(way, edge.folder(), &[foreign.address], "home", &lines);
        let connection = foreign.connection().await;
        assert_eq!(foreign::get(&connection, FREE, "/here").await.unwrap(), 200, "{way:?}");
        for host in SPELLINGS {
            // HTTP/2 has no `:authority` with an empty port.
            let status = foreign::get(&connection, host, "/secret").await;
            assert!(
                status.as_ref().map_or(way == Way::Http2, |status| *status == 403),
                "{way:?}: {host}: {status:?}"
            );
        }
        for host in NO_HOSTS {
            let status = foreign::get(&connection, host, "/secret").await;
            assert!(
                status.as_ref().map_or(way == Way::Http2, |status| *status == 400),
                "{way:?}: {host}: {status:?}"
            );
        }
        for path in AMBIGUOUS {
            assert_eq!(foreign::get(&connection, RULED, path).await.unwrap(), 400, "{way:?}: {path}");
            assert_eq!(origin.asked(path), 0, "{way:?}: {path}");
        }
        for path in UNTOUCHED {
            assert_eq!(foreign::get(&connection, RULED, path).await.unwrap(), 200, "{way:?}: {path}");
            assert_eq!(origin.asked(path), 1, "{way:?}: {path}");
        }
        assert_eq!(origin.asked("/secret"), 0, "{way:?}");
    }
}
