//! What is kept is said not to count any more: by the operator, and by the site itself.

use adit_testkit::visitor::{empty, full};
use adit_testkit::{Answer, Connector, Edge, Origin, Visitor, Way, program};
use http::{Method, StatusCode};

const NAMES: [&str; 2] = ["localhost", "a.example.test"];

/// Two tunnels, each with names of its own, and everything kept for a day.
async fn home() -> (Edge, Origin, Connector, Connector) {
    let origin = Origin::start();
    let edge = Edge::plan()
        .tunnel("home", &NAMES)
        .tunnel("other", &["b.example.test"])
        .with("defaults: { cache: { ttl: 1d } }")
        .start();
    let rules = format!("  - service: http://{}", origin.address);
    let home = Connector::start(Way::Http2, &edge, "home", &rules);
    let other = Connector::start(Way::Quic, &edge, "other", &rules);
    edge.has_connections(8).await;
    (edge, origin, home, other)
}

async fn status(visitor: &Visitor, host: &str, path: &str) -> String {
    let answer: Answer = visitor.get(host, path).await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.header("x-cache-status").to_owned()
}

fn purge(edge: &Edge, what: &[&str]) {
    let config = edge.config().display().to_string();
    let ended = program::run(["cache", "purge", "--config", &config].iter().chain(what));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[tokio::test]
async fn the_operator_purges_by_url_prefix_host_tag_and_all() {
    let (edge, _origin, _home, _other) = home().await;
    let visitor = edge.visitor();
    let pages = ["/docs/1", "/docs/2", "/say?cache-tag=red%2Cblue", "/say?surrogate-key=blue+green"];
    for page in pages {
        assert_eq!(status(&visitor, NAMES[1], page).await, "MISS");
    }
    let tagged = visitor.get(NAMES[1], pages[2]).await;
    assert!(tagged.header("cache-tag").is_empty(), "tags are for caches");
    let cases: [(&[&str], [bool; 4]); 6] = [
        (&["--url", "https://a.example.test/docs/1"], [true, false, false, false]),
        (&["--prefix", "https://a.example.test/docs/"], [true, true, false, false]),
        (&["--tag", "red"], [false, false, true, false]),
        (&["--tag", "blue"], [false, false, true, true]),
        (&["--host", "*.example.test"], [true; 4]),
        (&["--all"], [true; 4]),
    ];
    for (what, gone) in cases {
        purge(&edge, what);
        for (page, gone) in pages.iter().zip(gone) {
            let expected = if gone { "MISS" } else { "HIT" };
            assert_eq!(status(&visitor, NAMES[1], page).await, expected, "{what:?} {page}");
        }
    }
    // Soft: it is asked about, and it would stand in.
    purge(&edge, &["--url", "https://a.example.test/docs/1", "--soft"]);
    assert_eq!(status(&visitor, NAMES[1], "/docs/1").await, "EXPIRED");
    let config = edge.config().display().to_string();
    let kept = program::run(["cache", "status", "--config", &config]);
    assert!(kept.stdout.contains(" responses: "), "{}", kept.stdout);
}

#[tokio::test]
async fn a_site_purges_itself_and_nobody_else() {
    let (edge, _origin, _home, _other) = home().await;
    let visitor = edge.visitor();
    for host in ["a.example.test", "b.example.test"] {
        assert_eq!(status(&visitor, host, "/x").await, "MISS");
    }
    let through = format!("https://localhost:{}", edge.https.port());
    let (credentials, ca) = (edge.file("home.json"), edge.file("data/tunnel-ca.pem"));
    let call = |what: &[&str]| {
        let arguments = ["cache", "purge", "--through", &through, "--credentials-file"].into_iter();
        let files = [credentials.to_str().unwrap(), "--cacert", ca.to_str().unwrap()];
        program::run(arguments.chain(files).chain(what.iter().copied()))
    };
    let ended = call(&["--all"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(status(&visitor, "a.example.test", "/x").await, "MISS", "its own names");
    assert_eq!(status(&visitor, "b.example.test", "/x").await, "HIT", "not those of another tunnel");
    // Somebody else's secret, no secret, and an old call.
    let wrong = program::run([
        "cache",
        "purge",
        "--all",
        "--through",
        &through,
        "--credentials-file",
        edge.file("other.json").to_str().unwrap(),
        "--cacert",
        ca.to_str().unwrap(),
    ]);
    assert!(wrong.code == Some(1) && wrong.stderr.contains("signature"), "{wrong:?}");
    for signature in
        ["", "t=1,v1=00", "t=1700000000,v1=0000000000000000000000000000000000000000000000000000000000000000"]
    {
        let path = "/.well-known/adit/purge";
        let mut request = visitor.request(Method::POST, "a.example.test", path, full(r#"{ "what": "all" }"#));
        request.headers_mut().insert("adit-signature", signature.parse().unwrap());
        assert_eq!(visitor.ask("a.example.test", request).await.status, StatusCode::FORBIDDEN);
    }
    let get = visitor.request(Method::GET, "a.example.test", "/.well-known/adit/purge", empty());
    assert_eq!(visitor.ask("a.example.test", get).await.status, StatusCode::OK, "the origin's own");
    assert_eq!(status(&visitor, "a.example.test", "/x").await, "HIT");
}
