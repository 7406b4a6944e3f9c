//! The public door: whose request it is, who may come in, and who can read it.

use std::fs;
use std::net::SocketAddr;

use adit_testkit::home::APP;
use adit_testkit::pki::Authority;
use adit_testkit::visitor::{empty, whole};
use adit_testkit::{Answer, Connector, Edge, Home, Origin, Visitor, Way};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Names under which visitors have tried to be somebody else, in the spellings that origins fold.
const FORGED: [&str; 30] = [
    "x-forwarded-for",
    "x_forwarded_for",
    "X-Forwarded_For",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-prefix",
    "x-forwarded-user",
    "x-forwarded-client-cert",
    "x-forwarded-client-cert-subject",
    "forwarded",
    "x-real-ip",
    "x_real_ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "true-client-ip",
    "fly-client-ip",
    "cf-connecting-ip",
    "cf_connecting_ip",
    "cf-connecting-ipv6",
    "cf-access-jwt-assertion",
    "cf-access-authenticated-user-email",
    "remote-user",
    "remote_user",
    "remote-groups",
    "client-cert",
    "ssl-client-verify",
    "x-ssl-client-s-dn",
];

fn seen(answer: &Answer) -> Value {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn header<'a>(request: &'a Value, name: &str) -> Vec<&'a str> {
    let list = request["headers"].as_array().unwrap().iter();
    list.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect()
}

#[tokio::test]
async fn forged_identities_never_reach_an_origin() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let forged = |headers: &mut HeaderMap| {
            for name in FORGED {
                headers.append(
                    http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    "forged".parse().unwrap(),
                );
            }
        };
        for visitor in [home.visitor(), home.visitor().http2()] {
            let mut request = visitor.request(Method::GET, APP, "/request", empty());
            forged(request.headers_mut());
            assert!(!seen(&visitor.ask(APP, request).await).to_string().contains("forged"), "{way:?}");
        }
        let mut request = Request::get(format!("https://{APP}/request")).body(()).unwrap();
        forged(request.headers_mut());
        let answer = home.edge.visitor3().connect(APP).await.send(request, Bytes::new()).await.unwrap();
        assert!(!seen(&answer).to_string().contains("forged"), "{way:?}");
        // Connection must not take ours away either.
        let visitor = home.visitor();
        let mut request = visitor.request(Method::GET, APP, "/request", empty());
        let listed = "close, x-forwarded-for, x-real-ip, x-forwarded-proto, x-request-id";
        request.headers_mut().insert("connection", listed.parse().unwrap());
        let answer = seen(&visitor.ask(APP, request).await);
        assert_eq!(header(&answer, "x-forwarded-for"), ["127.0.0.1"], "{way:?}: {answer}");
        assert_eq!(header(&answer, "x-forwarded-proto"), ["https"], "{way:?}");
    }
}

/// An edge with more lines in its file, and a published origin.
async fn home_with(lines: &str) -> (Edge, Origin, Connector) {
    let origin = Origin::start();
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(lines).start();
    let connector = publish(&edge, &origin);
    edge.has_connections(4).await;
    (edge, origin, connector)
}

fn publish(edge: &Edge, origin: &Origin) -> Connector {
    let rules = format!("  - service: http://{}", origin.address);
    Connector::start(Way::Http2, edge, "home", &rules)
}

async fn plain_with(edge: &Edge, headers: &[(&'static str, &str)]) -> Answer {
    let visitor = Visitor::plain(edge.http);
    let mut request = visitor.request(Method::GET, APP, "/request", empty());
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    visitor.ask(APP, request).await
}

#[tokio::test]
async fn a_trusted_proxy_names_the_visitor() {
    let cases = [
        ("x-forwarded-for", "6.6.6.6, 192.0.2.7, 127.0.0.9", "192.0.2.7"),
        ("x-forwarded-for", "2001:db8::7", "2001:db8::7"),
        ("fly-client-ip", "192.0.2.7", "192.0.2.7"),
        ("cf-connecting-ip", "192.0.2.7", "192.0.2.7"),
        ("x-real-ip", "192.0.2.7", "192.0.2.7"),
        ("x-real-ip", "nonsense", "127.0.0.1"),
    ];
    for (field, value, expected) in cases {
        let lines = format!("http-mode: serve\ntrusted: {{ from: [127.0.0.0/8], header: {field} }}");
        let (edge, _origin, _connector) = home_with(&lines).await;
        let answer = seen(&plain_with(&edge, &[(field, value), ("x-forwarded-proto", "https")]).await);
        assert_eq!(header(&answer, "x-forwarded-for"), [expected], "{field}: {answer}");
        assert_eq!(header(&answer, "x-real-ip"), [expected]);
        assert_eq!(header(&answer, "x-forwarded-proto"), ["https"], "{field}");
        let record = edge.records(1).await.remove(0);
        assert_eq!((&record["client_ip"], &record["scheme"]), (&expected.into(), &"https".into()));
        assert_eq!(record["remote_addr"], "127.0.0.1");
    }
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let lines = "http-mode: serve\ntrusted: [192.0.2.0/24]";
    let (edge, _origin, _connector) = home_with(lines).await;
    let answer =
        seen(&plain_with(&edge, &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https")]).await);
    assert_eq!(header(&answer, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(header(&answer, "x-forwarded-proto"), ["http"]);
    // A PROXY header is garbage from him, and the operator learns whose it was.
    let mut stream = TcpStream::connect(edge.https).await.unwrap();
    stream.write_all(b"PROXY TCP4 6.6.6.6 10.0.0.1 1 2\r\n").await.unwrap();
    drop(stream.read_to_end(&mut Vec::new()).await);
    drop(edge.program.says("PROXY header from an address that is not trusted"));
}

#[tokio::test]
async fn a_platform_that_ends_tls_is_not_redirected() {
    let (edge, _origin, _connector) = home_with("trusted: [127.0.0.1]").await;
    assert_eq!(plain_with(&edge, &[]).await.status, StatusCode::PERMANENT_REDIRECT);
    let answer = plain_with(&edge, &[("x-forwarded-proto", "https")]).await;
    assert_eq!(header(&seen(&answer), "x-forwarded-proto"), ["https"]);
    assert_eq!(answer.header("alt-svc"), "", "it is the platform that is reached");
}

/// What a proxy sends before the TLS of its visitor.
fn proxy_v2(visitor: [u8; 4]) -> Vec<u8> {
    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c";
    [&head[..], &visitor, &[10, 0, 0, 1], &[0x12, 0x34, 0x01, 0xbb]].concat()
}

#[tokio::test]
async fn a_proxy_header_of_a_trusted_source_names_the_visitor() {
    let (edge, _origin, _connector) = home_with("trusted: [127.0.0.1]\nhttp-mode: serve").await;
    let v1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 443\r\n".to_vec();
    for header_bytes in [v1, proxy_v2([192, 0, 2, 7])] {
        let mut stream = TcpStream::connect(edge.http).await.unwrap();
        // His own words about himself do not count: he is not the proxy.
        let request = format!(
            "GET /request HTTP/1.1\r\nHost: {APP}\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n"
        );
        // In two pieces, as it may come.
        let (first, second) = header_bytes.split_at(9);
        stream.write_all(first).await.unwrap();
        stream.flush().await.unwrap();
        stream.write_all(&[second, request.as_bytes()].concat()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body = body.trim_matches(|c| c != '{' && c != '}');
        let answer: Value = serde_json::from_str(body).unwrap();
        assert_eq!(header(&answer, "x-forwarded-for"), ["192.0.2.7"]);
    }
    for lying in [&b"PROXY TCP4 192.0.2.7 10.0.0.1 4660\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x04abcd"]
    {
        let mut stream = TcpStream::connect(edge.http).await.unwrap();
        stream.write_all(lying).await.unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap_or(0), 0, "no answer");
    }
    drop(edge.program.says("malformed PROXY header"));
    assert_eq!(Visitor::plain(edge.http).get(APP, "/").await.status, StatusCode::OK, "the rest goes on");
}

#[tokio::test]
async fn a_request_for_another_name_than_the_connection_s_is_misdirected() {
    let home = Home::published(Way::Http2).await;
    let visitors = [home.visitor(), home.visitor().http2()];
    for visitor in visitors {
        let request = visitor.request(Method::GET, APP, "/", empty());
        assert_eq!(visitor.ask("other.example.test", request).await.status, StatusCode::MISDIRECTED_REQUEST);
    }
    let mut sender = home.edge.visitor3().connect("other.example.test").await;
    let answer = sender.ask(Method::GET, APP, "/", Bytes::new()).await;
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn a_name_may_ask_visitors_for_a_certificate() {
    let (ours, others) = (Authority::new(), Authority::new());
    let lines = format!(
        "hostnames:\n  app.example.test: {{ client-certificates: {{ ca: {0} }} }}\n  may.example.test: {{ client-certificates: {{ ca: {0}, required: false }} }}",
        ours.file().display()
    );
    let (edge, _origin, _connector) = home_with(&lines).await;
    let ca = edge.file("data/tunnel-ca.pem");
    for http2 in [false, true] {
        let protocol = |visitor: Visitor| if http2 { visitor.http2() } else { visitor };
        let member = protocol(edge.visitor().with_certificate(&ca, &ours.client("Ann of Accounting")));
        let stranger = protocol(edge.visitor().with_certificate(&ca, &others.client("Mallory")));
        let nobody = protocol(edge.visitor());
        let mut request = member.request(Method::GET, APP, "/request", empty());
        request.headers_mut().insert("client-cert", "forged".parse().unwrap());
        let answer = seen(&member.ask(APP, request).await);
        assert_eq!(header(&answer, "x-forwarded-client-cert-subject"), ["CN=Ann of Accounting"]);
        assert!(header(&answer, "client-cert")[0].starts_with(":MI"), "{answer}");
        assert_eq!(header(&answer, "x-forwarded-client-cert-fingerprint")[0].len(), 64);
        for refused in [&stranger, &nobody] {
            // The handshake is completed, so that the visitor is told.
            assert_eq!(refused.get(APP, "/").await.status, StatusCode::FORBIDDEN);
        }
        // Another name's connection does not lead past it.
        let request = nobody.request(Method::GET, APP, "/", empty());
        assert_eq!(nobody.ask("x.example.test", request).await.status, StatusCode::MISDIRECTED_REQUEST);
        // Where it is optional, a visitor without one comes in and nothing is said about him.
        let answer = seen(&nobody.get("may.example.test", "/request").await);
        assert!(header(&answer, "client-cert").is_empty());
    }
    assert!(edge.visitor3().quic(APP).await.is_err(), "what cannot be asked for is not served");
    assert!(edge.visitor3().quic("x.example.test").await.is_ok());
    assert!(!edge.visitor().get("x.example.test", "/").await.header("alt-svc").is_empty());
}

/// Services that were written for Cloudflare read its fields; what they say is the edge's word, or a trusted proxy's.
#[tokio::test]
async fn cloudflare_s_fields_are_sent_where_they_are_wanted() {
    let lines =
        "trusted: [127.0.0.1/32]\nhostnames:\n  app.example.test: { headers: { preset: cloudflare } }";
    let (edge, _origin, _connector) = home_with(lines).await;
    let forged: [(&str, &str); 5] = [
        ("cf-connecting-ip", "203.0.113.9"),
        ("cf-ray", "forged"),
        ("cf-visitor", "forged"),
        ("cf-ipcountry", "DE"),
        ("x-forwarded-for", "198.51.100.7"),
    ];
    for visitor in [edge.visitor(), edge.visitor().http2()] {
        for host in [APP, "plain.example.test"] {
            let mut request = visitor.request(Method::GET, host, "/request", empty());
            for (name, value) in forged {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            let answer = seen(&visitor.ask(host, request).await);
            let (id, ray) = (header(&answer, "x-request-id"), header(&answer, "cf-ray"));
            if host == APP {
                assert_eq!(header(&answer, "cf-connecting-ip"), ["198.51.100.7"], "{answer}");
                assert_eq!(header(&answer, "cf-visitor"), [r#"{"scheme":"https"}"#]);
                assert_eq!(header(&answer, "cf-ipcountry"), ["DE"]);
                assert_eq!(ray, [id[0].split_at(16).0]);
            } else {
                assert!(!answer.to_string().contains("cf-"), "{answer}");
            }
        }
    }
    let (edge, _origin, _connector) =
        home_with("hostnames:\n  app.example.test: { headers: { preset: cloudflare } }").await;
    let mut request = edge.visitor().request(Method::GET, APP, "/request", empty());
    request.headers_mut().insert("cf-ipcountry", "DE".parse().unwrap());
    let answer = seen(&edge.visitor().ask(APP, request).await);
    assert!(header(&answer, "cf-ipcountry").is_empty(), "nobody who is trusted has said it: {answer}");
    assert_eq!(header(&answer, "cf-connecting-ip"), ["127.0.0.1"]);
}

#[tokio::test]
async fn pages_are_the_operator_s_and_honest() {
    let pages = tempfile::tempdir().unwrap();
    fs::write(pages.path().join("502.html"), "<p>own {{status}} for {{host}}: {{request_id}}").unwrap();
    let lines = format!(
        "defaults: {{ hsts: {{ max-age: 30d, subdomains: true }} }}\nhostnames:\n  app.example.test: {{ error-page: {} }}\n  closed.example.test: {{ maintenance: 'Back at <noon>.' }}",
        pages.path().display()
    );
    let (edge, origin, connector) = home_with(&lines).await;
    let closed = edge.visitor().get("closed.example.test", "/").await;
    assert_eq!(
        (closed.status, closed.header("retry-after").is_empty()),
        (StatusCode::SERVICE_UNAVAILABLE, false)
    );
    assert!(closed.text().contains("Back at &lt;noon&gt;."), "{}", closed.text());
    assert_eq!(closed.header("strict-transport-security"), "max-age=2592000; includeSubDomains");
    drop(origin);
    let asking = async {
        loop {
            let answer = edge.visitor().get(APP, "/").await;
            if answer.text().starts_with("<p>own") {
                return answer;
            }
        }
    };
    let own = tokio::time::timeout(std::time::Duration::from_secs(10), asking).await.unwrap();
    assert_eq!(own.status, StatusCode::BAD_GATEWAY);
    assert!(own.text().starts_with("<p>own 502 for app.example.test: "), "{}", own.text());
    let built_in = edge.visitor().get("x.example.test", "/").await;
    assert!(
        built_in.text().contains("<li class=x>Service") && built_in.text().contains("Request "),
        "{}",
        built_in.text()
    );
    drop(connector);
    edge.has_connections(0).await;
    let visitor = edge.visitor();
    let mut request = visitor.request(Method::GET, "x.example.test", "/", empty());
    request.headers_mut().insert("accept", "application/json".parse().unwrap());
    let away = visitor.ask("x.example.test", request).await;
    let json: Value = serde_json::from_slice(&away.body).unwrap();
    assert_eq!((&json["status"], &json["error"]), (&503.into(), &"no_connection".into()));
    let recorded = async {
        while !edge.records(1).await.iter().any(|record| record["request_id"] == json["request_id"]) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), recorded).await.unwrap();
}

#[tokio::test]
async fn tls_may_end_at_home() {
    let authority = Authority::new();
    let pair = authority.server(&["vault.example.test", "own.example.test"]);
    let tls_origin = Origin::start_tls(&pair.certificate, &pair.key);
    let plain_origin = Origin::start();
    let lines = "hostnames:\n  vault.example.test: { tls: passthrough }\n  own.example.test: { tls: passthrough }\n  bare.example.test: { tls: passthrough }";
    for way in Way::all() {
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(lines).start();
        let mut rules =
            format!("  - hostname: vault.example.test\n    service: tcp://{}\n", tls_origin.address);
        if way.is_ours() {
            // Ours knows how to give TLS to an HTTPS origin, and how to end it.
            rules = rules.replace("tcp://", "https://")
                + &format!(
                    "  - hostname: own.example.test\n    service: http://{}\n    originRequest: {{ tlsCertificate: {}, tlsKey: {} }}\n  - hostname: bare.example.test\n    service: http://{}\n",
                    plain_origin.address,
                    pair.certificate.display(),
                    pair.key.display(),
                    plain_origin.address,
                );
        }
        rules += &format!("  - service: http://{}", plain_origin.address);
        let _connector = Connector::start(way, &edge, "home", &rules);
        edge.has_connections(if way.is_ours() { 4 } else { 2 }).await;
        // He trusts the authority at home alone: the edge cannot have answered.
        let visitor = Visitor::new(edge.https, &authority.file());
        let names: &[&str] =
            if way.is_ours() { &["vault.example.test", "own.example.test"] } else { &["vault.example.test"] };
        for name in names {
            let answer = visitor.get(name, "/request").await;
            assert_eq!(header(&seen(&answer), "host"), [*name], "{way:?}");
            assert!(header(&seen(&answer), "via").is_empty(), "{way:?}: nobody on the way has read it");
            let payload = Bytes::from(vec![b'p'; 3_000_000]);
            assert_eq!(visitor.post(name, "/echo", payload.clone()).await.body, payload, "{way:?}: {name}");
        }
        // Whoever comes in by another name does not get there.
        let beside = edge.visitor();
        let request = beside.request(Method::GET, "vault.example.test", "/", empty());
        assert_eq!(beside.ask("x.example.test", request).await.status, StatusCode::MISDIRECTED_REQUEST);
        assert!(edge.visitor3().quic("vault.example.test").await.is_err(), "{way:?}");
        if way.is_ours() {
            let request = visitor.request(Method::GET, "bare.example.test", "/", empty());
            assert!(visitor.send("bare.example.test", request).await.is_err());
            drop(edge.program.says("passthrough leads nowhere"));
        }
    }
}

/// A ClientHello may come in crumbs, and in several records.
#[tokio::test]
async fn a_fragmented_client_hello_is_routed() {
    let authority = Authority::new();
    let pair = authority.server(&["vault.example.test"]);
    let origin = Origin::start_tls(&pair.certificate, &pair.key);
    let edge = Edge::plan()
        .tunnel("home", &["*.example.test"])
        .with("hostnames: { vault.example.test: { tls: passthrough } }")
        .start();
    let rules = format!("  - service: https://{}", origin.address);
    let _connector = Connector::start(Way::Quic, &edge, "home", &rules);
    edge.has_connections(4).await;
    let relay = fragmenting(edge.https).await;
    let visitor = Visitor::new(relay, &authority.file());
    assert_eq!(visitor.get("vault.example.test", "/").await.status, StatusCode::OK);
    let visitor = Visitor::new(relay, &edge.file("data/tunnel-ca.pem"));
    let sender = visitor.connect("x.example.test").await;
    let answer =
        sender.unwrap().send(visitor.request(Method::GET, "x.example.test", "/", empty())).await.unwrap();
    assert_eq!(
        whole(answer).await.unwrap().status,
        StatusCode::BAD_GATEWAY,
        "an HTTPS origin of another name"
    );
}

/// Cuts the first record of each connection into records of 50 bytes, and writes them byte by byte at first.
async fn fragmenting(to: SocketAddr) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(to).await.unwrap();
            far.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut head = [0; 5];
                near.read_exact(&mut head).await.unwrap();
                let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
                near.read_exact(&mut hello).await.unwrap();
                for (index, part) in hello.chunks(50).enumerate() {
                    let record = [&head[..3], &(part.len() as u16).to_be_bytes(), part].concat();
                    let step = if index == 0 { 1 } else { record.len() };
                    for crumb in record.chunks(step) {
                        far.write_all(crumb).await.unwrap();
                    }
                }
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    address
}

/// The smallest machine of a platform has 256 MB: that much the edge may take, with 2 000 visitors who stay.
#[tokio::test]
async fn two_thousand_visitors_fit_into_a_small_machine() {
    let origin = Origin::start();
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start_under(&["prlimit", "--data=268435456"]);
    let _connector = publish(&edge, &origin);
    edge.has_connections(4).await;
    let (http1, http2, http3) = (edge.visitor(), edge.visitor().http2(), edge.visitor3());
    let mut kept = Vec::new();
    for batch in 0..20 {
        let classic = (0..70).map(|number| {
            let visitor = if number % 2 == 0 { &http1 } else { &http2 };
            async move {
                let mut sender = visitor.connect(APP).await.unwrap();
                let answer =
                    sender.send(visitor.request(Method::GET, APP, "/bytes/10000", empty())).await.unwrap();
                assert_eq!(whole(answer).await.unwrap().body.len(), 10_000);
                sender
            }
        });
        let modern = (0..30).map(|_| async {
            let mut sender = http3.connect(APP).await;
            let answer = sender.ask(Method::GET, APP, "/bytes/10000", Bytes::new()).await;
            assert_eq!(answer.body.len(), 10_000);
            sender
        });
        let both = (futures_util::future::join_all(classic), futures_util::future::join_all(modern));
        kept.push(futures_util::future::join(both.0, both.1).await);
        assert!(
            edge.metrics().await.contains(&format!("visitor_connections {}", (batch + 1) * 100)),
            "{batch}"
        );
    }
    // All of them are still there, and a bulk transfer goes through beside them.
    assert_eq!(http2.get(APP, "/bytes/20000000").await.body.len(), 20_000_000);
    let held = edge.program.memory();
    assert!(held < 256 << 20, "{} MiB", held >> 20);
    drop(kept);
}

/// Errors that the connector answers by itself have the edge's pages, and their own status.
#[tokio::test]
async fn a_connector_s_own_errors_have_pages_too() {
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
    let rules = "  - hostname: no.example.test\n    service: http_status:403\n  - hostname: ok.example.test\n    path: ^/there\n    service: http_status:204\n  - service: http_status:404";
    let _connector = Connector::start(Way::Quic, &edge, "home", rules);
    edge.has_connections(4).await;
    let cases =
        [("no", "/", 403, "Not allowed"), ("ok", "/", 404, "Nothing here"), ("ok", "/there", 204, "")];
    for (name, path, status, words) in cases {
        let answer = edge.visitor().get(&format!("{name}.example.test"), path).await;
        assert_eq!(answer.status.as_u16(), status);
        assert!(
            answer.text().contains(words) && answer.header("cf-cloudflared-adit-own").is_empty(),
            "{answer:?}"
        );
    }
}

/// A ClientHello with a server name of this many bytes.
fn hello_for(name: usize) -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let entry = [&[0][..], &with_length(&vec![b'a'; name])].concat();
    let extension = [&[0, 0][..], &with_length(&with_length(&entry))].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &with_length(&[0x13, 0x01]), &[1, 0], &with_length(&extension)]
        .concat();
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    message.chunks(16_000).flat_map(|part| [&[22, 3, 1][..], &with_length(part)].concat()).collect()
}

#[tokio::test]
async fn malformed_handshakes_cost_nothing_but_themselves() {
    let home = Home::published(Way::Http2).await;
    let cases: [(&str, Vec<u8>); 6] = [
        ("garbage", vec![b'?'; 5000]),
        ("a record of 64 KiB", [&[22, 3, 1, 0xff, 0xff][..], &[1; 70_000]].concat()),
        ("an empty record", [22, 3, 1, 0, 0].repeat(1000)),
        ("a name that is no name", hello_for(300)),
        ("a name of 64 KB", hello_for(65_000)),
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: app.example.test\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in cases {
        let mut stream = TcpStream::connect(home.edge.https).await.unwrap();
        // It may be closed before all of it is written.
        drop(stream.write_all(&bytes).await);
        let mut answer = Vec::new();
        let closing =
            tokio::time::timeout(std::time::Duration::from_secs(12), stream.read_to_end(&mut answer));
        assert!(closing.await.is_ok(), "{what}: nobody closes");
        assert!(answer.len() < 100, "{what}: an alert at most, not {} bytes", answer.len());
    }
    assert_eq!(home.visitor().get(APP, "/").await.status, StatusCode::OK);
    let metrics = home.edge.metrics().await;
    let counts = metrics.lines().filter(|line| line.contains("tls_handshake_failures_total{"));
    let failures: usize = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum();
    assert_eq!(failures, 6, "{metrics}");
}

/// A visitor's TLS to a name that is passed through: whether it gets to the origin.
async fn is_open(edge: &Edge, authority: &Authority, name: &str) -> bool {
    let visitor = Visitor::new(edge.https, &authority.file());
    let request = visitor.request(Method::GET, name, "/request", empty());
    match visitor.send(name, request).await {
        Ok(response) => response.status() == StatusCode::OK,
        Err(_) => false,
    }
}

/// What is said about addresses holds for bytes that the edge does not read, whoever says it; and what a connector says that
/// cannot hold there closes the name.
#[tokio::test]
async fn passthrough_names_pass_the_gate() {
    let authority = Authority::new();
    let pair = authority.server(&["vault.example.test"]);
    let origin = Origin::start_tls(&pair.certificate, &pair.key);
    let vault = |more: &str| format!("hostnames:\n  vault.example.test: {{ tls: passthrough{more} }}\n");
    let cases = [
        (String::new(), "", "", true),
        ("defaults: { deny: 127.0.0.0/8 }\n".to_owned(), "", "", false),
        ("defaults: { allow: 192.0.2.0/24 }\n".to_owned(), "", "", false),
        ("defaults: { allow: 192.0.2.0/24 }\n".to_owned(), "", "edge: { allow: 127.0.0.0/8 }", true),
        (String::new(), ", deny: 127.0.0.1", "", false),
        (String::new(), ", allow: 127.0.0.0/8", "edge: { deny: 127.0.0.0/8, allow: 192.0.2.0/24 }", false),
        (String::new(), "", "edge: { allow: 192.0.2.0/24 }", false),
        (String::new(), "", "edge: { methods: [GET] }", false),
        (String::new(), "", "edge: { paths: { ^/admin: { deny: 127.0.0.0/8 } } }", false),
        (String::new(), "", "edge: { concurrency: { requests: 1, key: cookie(c) } }", false),
    ];
    for (number, (lines, operator, connector, expected)) in cases.iter().enumerate() {
        let way = Way::ours()[number % 2];
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(&(vault(operator) + lines)).start();
        let word = if connector.is_empty() { String::new() } else { format!("\n    {connector}") };
        let rules = format!(
            "  - hostname: vault.example.test\n    service: tcp://{}{word}\n  - service: http_status:404",
            origin.address
        );
        let _connector = Connector::start(way, &edge, "home", &rules);
        edge.has_connections(4).await;
        edge.serves(&["vault.example.test"]).await;
        let open = is_open(&edge, &authority, "vault.example.test").await;
        assert_eq!(open, *expected, "{way:?}: {lines}{operator} {connector}");
    }
}

#[tokio::test]
async fn limits_count_passthrough_connections() {
    let authority = Authority::new();
    let pair = authority.server(&["vault.example.test"]);
    let origin = Origin::start_tls(&pair.certificate, &pair.key);
    for lines in ["concurrency: 1", "rate-limit: { rate: 1/h, burst: 0 }"] {
        let lines =
            format!("hostnames:\n  vault.example.test: {{ tls: passthrough }}\ndefaults: {{ {lines} }}");
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(&lines).start();
        let rules = format!("  - service: tcp://{}", origin.address);
        let _connector = Connector::start(Way::Quic, &edge, "home", &rules);
        edge.has_connections(4).await;
        let visitor = Visitor::new(edge.https, &authority.file());
        let first = visitor.raw("vault.example.test").await.unwrap();
        assert!(visitor.raw("vault.example.test").await.is_err(), "{lines}: one too many");
        drop(first);
    }
}
