//! `examples/static-and-forge`: two static sites and a forge behind one edge, with the files as they stand there.

use std::fs;
use std::process::Command;

use adit_testkit::visitor::empty;
use adit_testkit::{Answer, Connector, Edge, Origin, Visitor, Way, git};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::tools::{LARGE, repository, run, same_head};

const EDGE: &str = include_str!("../../../../examples/static-and-forge/edge.yml");
const CONFIG: &str = include_str!("../../../../examples/static-and-forge/config.yml");
const AWAY: &str = include_str!("../../../../examples/static-and-forge/away.html");
const DOCS: &str = "docs.home.example";
const CV: &str = "cv.home.example";
const FORGE: &str = "forge.home.example";
const NAMES: [&str; 3] = [DOCS, CV, FORGE];

/// The example, with services that are at these addresses.
async fn example(site: &str, forge: &str) -> (Edge, Connector) {
    let of_edge = |key: &str| EDGE.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    // The test's own proxy is on loopback.
    let trusted = of_edge("trusted: fly").replace("fly", "{ from: [127.0.0.0/8], header: fly-client-ip }");
    let plan = Edge::plan().domain("home.example").tunnel("home", &NAMES);
    fs::write(plan.folder().join("away.html"), AWAY).unwrap();
    let edge = plan.with(&of_edge("http-mode")).with(&trusted).start();
    let (_, rules) = CONFIG.split_once("ingress:\n").unwrap();
    let mut rules = rules.to_owned();
    for (service, address) in [("localhost:8081", site), ("localhost:8082", site), ("localhost:3000", forge)]
    {
        rules = rules.replace(service, address);
    }
    let connector = Connector::start(Way::Quic, &edge, "home", &rules);
    edge.has_connections(4).await;
    edge.serves(&NAMES).await;
    (edge, connector)
}

async fn ask(edge: &Edge, client: &str, method: Method, host: &str, path: &str) -> Answer {
    let visitor = Visitor::plain(edge.http);
    let mut request = visitor.request(method, host, path, empty());
    request.headers_mut().insert("fly-client-ip", client.parse().unwrap());
    request.headers_mut().insert("x-forwarded-proto", "https".parse().unwrap());
    visitor.ask(host, request).await
}

async fn get(edge: &Edge, client: &str, host: &str, path: &str) -> Answer {
    ask(edge, client, Method::GET, host, path).await
}

fn status(answer: &Answer) -> &str {
    answer.header("x-cache-status")
}

#[test]
fn the_configuration_is_short() {
    let lines = |text: &str| text.lines().filter(|line| !line.trim_start().starts_with('#')).count();
    assert!(lines(EDGE) + lines(CONFIG) <= 50);
}

#[tokio::test]
async fn static_sites_are_kept_limited_and_stay_up() {
    let origin = Origin::start();
    let address = origin.address.to_string();
    let (edge, connector) = example(&address, &address).await;
    for host in [DOCS, CV] {
        let page = "/say/cache-control=no-store&set-cookie=a%3Db";
        let first = get(&edge, "192.0.2.1", host, page).await;
        assert_eq!(
            (status(&first), first.header("x-served-by"), first.header("set-cookie")),
            ("MISS", "adit", "")
        );
        let again = get(&edge, "192.0.2.1", host, &format!("{page}?other=query")).await;
        assert_eq!((status(&again), again.text()), ("HIT", first.text()), "{host}");
        let missing = get(&edge, "192.0.2.1", host, "/say/status=404").await;
        let again = get(&edge, "192.0.2.1", host, "/say/status=404").await;
        assert_eq!((status(&missing), status(&again), again.status), ("MISS", "HIT", StatusCode::NOT_FOUND));
        let mut statuses = Vec::new();
        for _ in 0..30 {
            statuses.push(get(&edge, "192.0.2.2", host, page).await.status);
        }
        let let_through = statuses.iter().filter(|status| **status == StatusCode::OK).count();
        assert!((21..30).contains(&let_through), "{let_through}: 20 and one at once, and ten a second");
        assert_eq!(get(&edge, "192.0.2.3", host, page).await.status, StatusCode::OK, "another client");
    }
    drop(connector);
    edge.has_connections(0).await;
    assert_eq!(
        status(&get(&edge, "192.0.2.4", DOCS, "/say/cache-control=no-store&set-cookie=a%3Db").await),
        "HIT"
    );
    let away = get(&edge, "192.0.2.4", DOCS, "/never").await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        away.text().starts_with("<!doctype html><meta name=viewport") && away.text().contains("Home is away")
    );
    let mut stranger = TcpStream::connect(edge.http).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: unknown.example\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stranger.read_to_end(&mut answer).await.unwrap_or_default();
    assert!(answer.is_empty(), "unknown hosts are dropped");
    assert_eq!(Visitor::plain(edge.http).get(DOCS, "/healthz").await.text(), "ok\n");
}

#[tokio::test]
async fn the_forge_is_guarded_and_only_its_assets_are_kept() {
    let origin = Origin::start();
    let address = origin.address.to_string();
    let (edge, _connector) = example(&address, &address).await;
    let page = get(&edge, "192.0.2.1", FORGE, "/explore?say&x-frame-options=SAMEORIGIN").await;
    assert_eq!((status(&page), page.header("x-frame-options")), ("", "DENY"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("strict-transport-security"), "max-age=31536000; includeSubDomains");
    assert_eq!(page.header("referrer-policy"), "strict-origin-when-cross-origin");
    let closed = get(&edge, "192.0.2.1", FORGE, "/swagger").await;
    assert_eq!((closed.status.as_u16(), closed.text().as_str()), (403, "The API is not open.\n"));
    for asset in ["/theme.css", "/img/logo.svg", "/font.woff2"] {
        let first = get(&edge, "192.0.2.1", FORGE, asset).await;
        let again = get(&edge, "192.0.2.1", FORGE, &format!("{asset}?v=2")).await;
        assert_eq!((status(&first), status(&again)), ("MISS", "HIT"), "{asset}");
    }
    let mut limited = Vec::new();
    for _ in 0..9 {
        limited.push(get(&edge, "192.0.2.2", FORGE, "/user/sign_up").await.status.as_u16());
    }
    assert_eq!(limited[..6], [200; 6]);
    assert!(limited.contains(&429), "{limited:?}");
    for _ in 0..5 {
        assert_eq!(get(&edge, "192.0.2.3", FORGE, "/user/login?say&status=401").await.status.as_u16(), 401);
    }
    let banned = get(&edge, "192.0.2.3", FORGE, "/explore").await;
    assert!(
        banned.status == StatusCode::FORBIDDEN && banned.text().contains("kept out"),
        "{}",
        banned.text()
    );
    let mut raw = TcpStream::connect(edge.http).await.unwrap();
    let head = format!("POST /x HTTP/1.1\r\nHost: {FORGE}\r\nContent-Length: 536870913\r\n\r\n");
    raw.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    raw.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    let mut socket = edge.visitor().websocket(FORGE, "/websocket").await;
    socket.send(Message::text("through the forge")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("through the forge"));
}

#[tokio::test]
async fn a_forge_takes_and_gives_a_large_repository() {
    let folder = tempfile::tempdir().unwrap();
    let mut push = repository(folder.path(), LARGE).await;
    let forge = git::serve(folder.path()).await.to_string();
    let (edge, _connector) = example(&forge, &forge).await;
    let port = edge.https.port();
    let (url, authority) = (format!("https://{FORGE}:{port}/remote.git"), edge.file("data/tunnel-ca.pem"));
    let resolve = format!("http.curloptResolve={FORGE}:{port}:127.0.0.1");
    push.env("GIT_SSL_CAINFO", &authority);
    run(push.args(["-c", &resolve, "push", "-q", &url, "HEAD:refs/heads/main"])).await;
    assert!(same_head(folder.path(), &folder.path().join("remote.git")).await);
    let copy = folder.path().join("copy");
    let mut clone = Command::new("git");
    clone.env("GIT_SSL_CAINFO", &authority).args(["-c", &resolve, "clone", "-q", "-b", "main", &url]);
    run(clone.arg(&copy)).await;
    assert!(same_head(folder.path(), &copy).await);
}
