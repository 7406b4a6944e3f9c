//! A real browser through the whole path.

use std::process::Command;
use std::time::Duration;

use adit_testkit::pki::Authority;
use adit_testkit::program::PATIENCE;
use adit_testkit::{Connector, Edge, Origin, Way};

/// What Chromium makes of a page, as it stands after its scripts; and a picture of it.
fn look(port: u16, fingerprint: &str, arguments: &[String]) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg("--host-resolver-rules=MAP *.example.test 127.0.0.1")
        .arg(format!("--ignore-certificate-errors-spki-list={fingerprint}"))
        .arg("--window-size=900,600")
        .args(arguments)
        .args(["--dump-dom", &format!("https://app.example.test:{port}/page")])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// HTTP/3 when it is asked for, and by itself once the edge has told where it is; a WebSocket beside it.
#[tokio::test]
async fn chromium_loads_a_page_over_every_protocol() {
    let origin = Origin::start();
    let authority = Authority::new();
    let pair = authority.server(&["*.example.test"]);
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let lines = format!("certificates: [{{ cert: {certificate}, key: {key} }}]");
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(&lines).start();
    let rules = format!("  - service: http://{}", origin.address);
    let _connector = Connector::start(Way::Quic, &edge, "home", &rules);
    edge.has_connections(4).await;
    let forced = format!("--origin-to-force-quic-on=app.example.test:{}", edge.https.port());
    let cases = [
        (vec![forced], "page by h3, 100000 bytes, socket echo"),
        (vec!["--disable-quic".to_owned()], "page by h2, 100000 bytes, socket echo"),
        (
            vec!["--disable-quic".to_owned(), "--disable-http2".to_owned()],
            "page by http/1.1, 100000 bytes, socket echo",
        ),
    ];
    for (done, (arguments, expected)) in cases.into_iter().enumerate() {
        let (port, fingerprint, given) = (edge.https.port(), pair.fingerprint.clone(), arguments.clone());
        let looking = tokio::task::spawn_blocking(move || look(port, &fingerprint, &given));
        let scripts = async {
            let is_last = |record: &serde_json::Value| record["request_uri"] == "/bytes/7";
            while edge.records(0).await.iter().filter(|record| is_last(record)).count() <= done {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        drop(tokio::time::timeout(PATIENCE, scripts).await);
        origin.release();
        let dom = looking.await.unwrap();
        assert!(dom.contains(expected), "{arguments:?}: {dom}\n{}", edge.program.said());
    }
    let records = edge.records(3).await;
    let protocols: Vec<&str> = records.iter().filter_map(|record| record["protocol"].as_str()).collect();
    for protocol in ["HTTP/3.0", "HTTP/2.0", "HTTP/1.1"] {
        assert!(protocols.contains(&protocol), "{protocols:?}");
    }
}
