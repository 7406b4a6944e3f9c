//! Fields of requests have one reading, from the client's first byte to the origin's.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit_testkit::home::APP;
use adit_testkit::visitor::{empty, streamed};
use adit_testkit::{Answer, Connector, Edge, Home, Origin, Visitor, Way};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(10);

/// Names that some origins read as another field: with `_`, as CGI and WSGI do, and with other characters.
const LOOKALIKES: [&str; 12] = [
    "transfer_encoding",
    "transfer.encoding",
    "content_length",
    "content!length",
    "x_original_url",
    "x_forwarded_for",
    "x_forwarded-for",
    "x.real.ip",
    "remote_user",
    "cf_connecting_ip",
    "http2_settings",
    "x_auth_request_email",
];

/// Names under which proxies and login gates vouch for an address or a person, or name another resource.
const CLAIMS: [&str; 24] = [
    "x-forwarded",
    "forwarded-for",
    "client-ip",
    "x-client-ip",
    "fastly-client-ip",
    "x-remote-user",
    "x-auth-request-user",
    "x-authentik-username",
    "x-webauth-user",
    "x-pomerium-claim-email",
    "x-token-user-email",
    "x-user",
    "x-email",
    "tailscale-user-login",
    "p-access-token",
    "x-url-scheme",
    "proxy",
    "proxy-authorization",
    "x-ms-client-principal",
    "oidc-claim-sub",
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "x-sendfile-type",
];

/// Names of applications' own.
const DATA: [&str; 7] = [
    "my_custom",
    "x_api_key",
    "x-user-id",
    "x-auth-token",
    "x-client-info",
    "x-requested-with",
    "max-forwards",
];

fn fields(names: &[&str], value: &'static str) -> HeaderMap {
    let pair =
        |name: &&str| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value));
    names.iter().map(pair).collect()
}

/// What `/request` of the origin has seen of a request with more fields, by each protocol.
async fn seen_by_each_protocol(edge: &Edge, path: &str, more: &HeaderMap) -> Vec<(&'static str, Answer)> {
    let mut answers = Vec::new();
    for (protocol, visitor) in [("h1", edge.visitor()), ("h2", edge.visitor().http2())] {
        let mut request = visitor.request(Method::GET, APP, path, empty());
        request.headers_mut().extend(more.clone());
        answers.push((protocol, visitor.ask(APP, request).await));
    }
    let mut request = Request::get(format!("https://{APP}{path}")).body(()).unwrap();
    request.headers_mut().extend(more.clone());
    let answer = edge.visitor3().connect(APP).await.send(request, Bytes::new()).await.unwrap();
    answers.push(("h3", answer));
    answers
}

fn headers_of(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let seen: Value = serde_json::from_slice(&answer.body).unwrap();
    serde_json::from_value(seen["headers"].clone()).unwrap()
}

#[tokio::test]
async fn what_steers_is_dropped_in_every_spelling_and_data_passes() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let mut more = fields(&LOOKALIKES, "forged");
        more.extend(fields(&CLAIMS, "forged"));
        more.extend(fields(&DATA, "1"));
        for (protocol, answer) in seen_by_each_protocol(&home.edge, "/request", &more).await {
            let headers = headers_of(&answer);
            let forged: Vec<_> = headers.iter().filter(|(_, value)| value == "forged").collect();
            assert!(forged.is_empty(), "{way:?} {protocol}: {forged:?}");
            for name in DATA {
                assert!(headers.iter().any(|(known, _)| known == name), "{way:?} {protocol}: {name} is gone");
            }
        }
        let dropped = format!("adit_edge_lookalike_fields_dropped_total {}", 3 * LOOKALIKES.len());
        let metrics = home.edge.metrics().await;
        assert!(metrics.contains(&dropped), "{dropped}: {metrics}");
    }
}

#[tokio::test]
async fn a_rule_about_a_field_takes_its_other_spellings_along() {
    let origin = Origin::start();
    let lines = "defaults:\n  headers: { request: { set: { X-Edge: real }, remove: [X-Gone] } }";
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(lines).start();
    let rules = format!("  - service: http://{}", origin.address);
    let _connector = Connector::start(Way::Quic, &edge, "home", &rules);
    edge.has_connections(4).await;
    let more = fields(&["x-edge", "x_edge", "x-gone", "x_gone", "x.gone"], "forged");
    for (protocol, answer) in seen_by_each_protocol(&edge, "/request", &more).await {
        let headers = headers_of(&answer);
        assert!(headers.contains(&("x-edge".to_owned(), "real".to_owned())), "{protocol}: {headers:?}");
        assert!(headers.iter().all(|(_, value)| value != "forged"), "{protocol}: {headers:?}");
    }
}

/// Chromium sends each cookie in a field of its own; gunicorn reads two fields as one broken value.
#[tokio::test]
async fn cookies_reach_the_origin_in_one_field() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let crumbs = ["a=1", "sessionid=xyz", "theme=dark; b=2"];
        let mut more = HeaderMap::new();
        for crumb in crumbs {
            more.append("cookie", HeaderValue::from_static(crumb));
        }
        for (protocol, answer) in seen_by_each_protocol(&home.edge, "/request", &more).await {
            let headers = headers_of(&answer);
            let cookies: Vec<_> = headers.iter().filter(|(name, _)| name == "cookie").collect();
            assert_eq!(cookies.len(), 1, "{way:?} {protocol}: {cookies:?}");
            assert_eq!(cookies[0].1, "a=1; sessionid=xyz; theme=dark; b=2", "{way:?} {protocol}");
        }
    }
}

/// Writes bytes on a connection of its own, and reads until the end; `Connection: close` may bring it.
async fn raw(visitor: &Visitor, bytes: &[u8]) -> String {
    let mut stream = visitor.raw(APP).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    // A peer that closes without TLS's goodbye is closed too.
    drop(reading.await.unwrap_or_else(|_| panic!("no end after {:?}", String::from_utf8_lossy(bytes))));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn ambiguous_messages_are_refused_and_end_their_connection() {
    let home = Home::published(Way::Quic).await;
    let visitor = home.visitor();
    let post = |fields: &str, body: &str| {
        format!(
            "POST /echo HTTP/1.1\r\nHost: {APP}\r\n{fields}\r\n{body}GET /second HTTP/1.1\r\nHost: {APP}\r\n\r\n"
        )
    };
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let cases = [
        post("Content-Length: 005\r\n", "hello"),
        post("Content-Length: +5\r\n", "hello"),
        post("Content-Length: 5, 5\r\n", "hello"),
        post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
        post("Content-Length: 9223372036854775813\r\n", "hello"),
        post("Content-Length: 18446744073709551621\r\n", "hello"),
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", chunks),
        post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", chunks),
        post("Transfer-Encoding: identity, chunked\r\n", chunks),
        post("Transfer-Encoding: chunked, identity\r\n", chunks),
        post("Transfer-Encoding: chunked,\r\n", chunks),
        post("Transfer-Encoding: xchunked\r\n", chunks),
        post("Transfer-Encoding : chunked\r\n", chunks),
        post("Transfer-Encoding:\r\n chunked\r\n", chunks),
        post("Transfer-Encoding: chunked\nX: y\r\n", chunks),
        post("X: a\nContent-Length: 5\r\n", "hello"),
        post("X: a\r\n b\r\n", ""),
        post("X: a\0b\r\n", ""),
        post("X: a\rb\r\n", ""),
        post("X: a\x7fb\r\n", ""),
        post("X Y: a\r\n", ""),
        post(": a\r\n", ""),
        format!("POST /echo HTTP/1.0\r\nHost: {APP}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
        format!("GET / HTTP/1.1\nHost: {APP}\n\n"),
        format!("GET / HTTP/1.1\r\nHost: {APP}\r\n\n"),
        format!("GET / HTTP/1.1\r\nHost: {APP}\r\nHost: {APP}\r\nConnection: close\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: user@{APP}\r\nConnection: close\r\n\r\n"),
        format!("GET http://user@{APP}/ HTTP/1.1\r\nHost: user@{APP}\r\nConnection: close\r\n\r\n"),
    ];
    for case in &cases {
        let answer = raw(&visitor, case.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "),
            "{case:?}: {answer}"
        );
        assert!(!answer.contains("GET /second"), "{case:?}: {answer}");
    }
    let metrics = home.edge.metrics().await;
    assert!(!metrics.contains("adit_edge_ambiguous_messages_total 0"), "{metrics}");
    // Malformed chunks break the body off: the origin's answer is to nothing complete.
    for body in
        ["5\nhello\r\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "0\r\nX: y\n\r\n", "+5\r\nhello\r\n0\r\n\r\n"]
    {
        let case = format!("POST /echo HTTP/1.1\r\nHost: {APP}\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let answer = raw(&visitor, case.as_bytes()).await;
        assert!(
            !answer.starts_with("HTTP/1.1 200 ") || !answer.contains("\r\n0\r\n\r\n"),
            "{case:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn legal_messages_pass() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let visitor = home.visitor();
        for (request, body) in [
            (format!("GET /a HTTP/1.1\r\nHost: {APP}\r\n"), ""),
            (format!("\r\n\r\nGET /a HTTP/1.1\r\nhost:{APP}\r\n"), ""),
            (format!("GET /a HTTP/1.0\r\nHost: {APP}\r\n"), ""),
            (format!("POST /echo HTTP/1.1\r\nHost: {APP}\r\nContent-Length: \t5 \r\n"), "hello"),
            (format!("POST /echo HTTP/1.1\r\nHost: {APP}\r\nContent-Length: 0\r\n"), ""),
            (
                format!("POST /echo HTTP/1.1\r\nHost: {APP}\r\ntransfer-encoding:Chunked\r\n"),
                "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
            ),
            (format!("POST /echo HTTP/1.1\r\nHost: {APP}\r\nContent-Length: 7\r\n"), "\nhe\r\nlo"),
            (format!("GET /a HTTP/1.1\r\nHost: {APP}\r\nUpgrade: h2c\r\nConnection: upgrade\r\n"), ""),
            (format!("GET /a HTTP/1.1\r\nHost: {APP}\r\nX-Large: {}\r\n", "x".repeat(60_000)), ""),
        ] {
            let first = format!("{request}\r\n{body}");
            let again = format!("{request}Connection: close\r\n\r\n{body}");
            let answer = raw(&visitor, again.as_bytes()).await;
            assert!(
                answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.0 200 "),
                "{way:?} {again:?}: {answer}"
            );
            if request.contains("HTTP/1.0") || request.contains("Upgrade") {
                continue;
            }
            let answer = raw(&visitor, format!("{first}{again}").as_bytes()).await;
            assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{way:?} {first:?}: {answer}");
        }
        let large = format!("GET /a HTTP/1.1\r\nHost: {APP}\r\nX-Large: {}\r\n\r\n", "x".repeat(66_000));
        assert!(raw(&visitor, large.as_bytes()).await.starts_with("HTTP/1.1 431 "), "{way:?}");
    }
}

/// What follows a refused upgrade is checked like anything else, or not read at all.
#[tokio::test]
async fn a_refused_upgrade_is_no_way_around() {
    let home = Home::published(Way::Quic).await;
    let visitor = home.visitor();
    let upgrade = format!(
        "GET /status/404 HTTP/1.1\r\nHost: {APP}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let ambiguous = format!("GET /second HTTP/1.1\nHost: {APP}\r\nConnection: close\r\n\r\n");
    let answer = raw(&visitor, format!("{upgrade}{ambiguous}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && !answer.contains("GET /second"), "{answer}");
    // The same one after the other.
    let mut stream = visitor.raw(APP).await.unwrap();
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    stream.write_all(ambiguous.as_bytes()).await.unwrap();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection ends"));
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("HTTP/1.1 400 ") && !answer.contains("GET /second"), "{answer}");
    // CONNECT is refused, and its connection with it.
    let connect = format!(
        "CONNECT {APP}:443 HTTP/1.1\r\nHost: {APP}:443\r\n\r\nGET /second HTTP/1.1\r\nHost: {APP}\r\n\r\n"
    );
    let answer = raw(&visitor, connect.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 4") && !answer.contains("GET /second"), "{answer}");
}

#[tokio::test]
async fn a_length_has_one_spelling_on_every_protocol() {
    let home = Home::published(Way::Quic).await;
    for value in ["00", "0, 0"] {
        let more: HeaderMap =
            [(http::header::CONTENT_LENGTH, HeaderValue::from_static(value))].into_iter().collect();
        let visitor = home.visitor().http2();
        let mut request = visitor.request(Method::POST, APP, "/request", empty());
        request.headers_mut().extend(more.clone());
        if let Ok(response) = visitor.send(APP, request).await {
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "h2 {value:?}");
        }
        let mut request = Request::post(format!("https://{APP}/request")).body(()).unwrap();
        request.headers_mut().extend(more);
        if let Ok(answer) = home.edge.visitor3().connect(APP).await.send(request, Bytes::new()).await {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "h3 {value:?}");
        }
    }
}

/// An origin that keeps the bytes of one request, and answers once it has seen the end of a chunked body.
async fn recorder() -> (std::net::SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
    let keep = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let keep = keep.clone();
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                let last = |bytes: &[u8]| {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    text.split_once("\r\n0\r\n").is_some_and(|(_, trailers)| trailers.ends_with("\r\n"))
                };
                while !last(&bytes) {
                    if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                *keep.lock().unwrap() = bytes;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                drop(stream.write_all(answer).await);
            });
        }
    });
    (address, heard)
}

#[tokio::test]
async fn request_trailers_cannot_say_what_a_head_says() {
    let (origin, heard) = recorder().await;
    for way in Way::ours() {
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
        let rules = format!("  - service: http://{origin}");
        let _connector = Connector::start(way, &edge, "home", &rules);
        edge.has_connections(4).await;
        let forged = [
            "x-forwarded-for",
            "x_forwarded_for",
            "cf-access-jwt-assertion",
            "remote-user",
            "authorization",
            "cookie",
            "content-type",
            "cache-control",
            "x-original-url",
        ];
        let mut trailers = fields(&forged, "forged");
        trailers.extend(fields(&["x-checksum", "server-timing"], "kept"));
        let visitor = edge.visitor().http2();
        let (mut sender, body) = streamed();
        let feeding = async {
            sender.send_data(Bytes::from_static(b"hello")).await.unwrap();
            sender.send_trailers(trailers).await.unwrap();
            drop(sender);
        };
        let request = visitor.request(Method::POST, APP, "/", body);
        let (answer, ()) = tokio::join!(visitor.ask(APP, request), feeding);
        assert_eq!(answer.text(), "ok", "{way:?}");
        let text = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
        assert!(!text.contains("forged"), "{way:?}: {text}");
        let (_, section) = text.split_once("\r\n0\r\n").unwrap();
        assert!(
            section.contains("x-checksum: kept") && section.contains("server-timing: kept"),
            "{way:?}: {text}"
        );
    }
}
