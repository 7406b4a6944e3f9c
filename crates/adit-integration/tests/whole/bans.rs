//! Whom the operator keeps out, and what he switches off.

use std::fs;
use std::time::Duration;

use adit_testkit::crowdsec::Crowdsec;
use adit_testkit::home::APP;
use adit_testkit::visitor::empty;
use adit_testkit::{Answer, Connector, Edge, Origin, Visitor, Way, program};
use http::{Method, StatusCode};
use serde_json::Value;

const FLY: &str = "http-mode: serve\ntrusted: { from: [127.0.0.0/8], header: fly-client-ip }\n";

async fn home_with(lines: &str) -> (Connector, Edge, Origin) {
    let origin = Origin::start();
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(lines).start();
    let rules = format!("  - service: http://{}", origin.address);
    let connector = Connector::start(Way::Quic, &edge, "home", &rules);
    edge.has_connections(4).await;
    (connector, edge, origin)
}

async fn get_as(edge: &Edge, client: &str, host: &str) -> Answer {
    let visitor = Visitor::plain(edge.http);
    let mut request = visitor.request(Method::GET, host, "/", empty());
    request.headers_mut().insert("fly-client-ip", client.parse().unwrap());
    visitor.ask(host, request).await
}

/// Runs a command on an edge's file.
fn adit(edge: &Edge, arguments: &[&str]) -> program::Ended {
    let config = edge.config().display().to_string();
    program::run(arguments.iter().copied().chain(["--config", &config]))
}

/// Waits until somebody is answered with this status.
async fn answered(edge: &Edge, client: &str, host: &str, status: StatusCode) {
    let asking = async {
        while get_as(edge, client, host).await.status != status {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking).await.unwrap();
}

#[tokio::test]
async fn bans_are_listed_added_lifted_and_remembered() {
    let lines = format!("{FLY}defaults: {{ ban: {{ statuses: [404], count: 2 }} }}");
    let (_connector, mut edge, _origin) = home_with(&lines).await;
    let visitor = Visitor::plain(edge.http);
    for _ in 0..2 {
        let mut request = visitor.request(Method::GET, APP, "/status/404", empty());
        request.headers_mut().insert("fly-client-ip", "192.0.2.1".parse().unwrap());
        visitor.ask(APP, request).await;
    }
    let added = adit(&edge, &["ban", "add", "198.51.100.0/24", "--time", "7d", "--reason", "spam"]);
    assert!(added.stdout.contains("spam") && added.stdout.contains(" days"), "{added:?}");
    assert_eq!(adit(&edge, &["ban", "add", "203.0.113.9", "--name", "other.example.test"]).code, Some(0));
    let listed = adit(&edge, &["ban", "list"]).stdout;
    for part in ["192.0.2.1/32", "2 answers of app.example.test", "198.51.100.0/24", "other.example.test"] {
        assert!(listed.contains(part), "{part} in\n{listed}");
    }
    let blocked = async |edge: &Edge| {
        let mut statuses = Vec::new();
        for (client, host) in [
            ("192.0.2.1", APP),
            ("198.51.100.77", APP),
            ("203.0.113.9", APP),
            ("203.0.113.9", "other.example.test"),
        ] {
            statuses.push(get_as(edge, client, host).await.status.as_u16());
        }
        statuses
    };
    assert_eq!(blocked(&edge).await, [403, 403, 200, 403]);
    let written = async {
        while fs::read_to_string(edge.file("data/bans.json")).unwrap_or_default().matches("network").count()
            < 3
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), written).await.unwrap();
    edge.crash_and_return();
    edge.has_connections(4).await;
    assert_eq!(blocked(&edge).await, [403, 403, 200, 403], "remembered");
    assert_eq!(adit(&edge, &["ban", "remove", "198.51.100.0/24"]).code, Some(0));
    assert_eq!(get_as(&edge, "198.51.100.77", APP).await.status, StatusCode::OK);
    let again = adit(&edge, &["ban", "remove", "198.51.100.0/24"]);
    assert!(again.code == Some(2) && again.stderr.contains("is not banned"), "{again:?}");
    let nonsense = adit(&edge, &["ban", "add", "everybody"]);
    assert!(nonsense.code == Some(2) && nonsense.stderr.contains("no address"), "{nonsense:?}");
}

#[tokio::test]
async fn no_page_in_a_browser_reaches_the_admin_address() {
    let (_connector, edge, _origin) = home_with("").await;
    let visitor = Visitor::plain(edge.admin);
    let ban = || adit_testkit::visitor::full(r#"{ "network": "192.0.2.1" }"#);
    let plain = visitor.request(Method::POST, "localhost", "/bans", ban());
    assert_eq!(visitor.ask("localhost", plain).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mut foreign = visitor.request(Method::POST, "localhost", "/bans", ban());
    foreign.headers_mut().insert("content-type", "application/json".parse().unwrap());
    foreign.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    assert_eq!(visitor.ask("localhost", foreign).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let bans: Value =
        serde_json::from_str(&adit(&edge, &["ban", "list", "--output", "json"]).stdout).unwrap();
    assert_eq!(bans["bans"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn lists_of_addresses_are_followed() {
    let origin = Origin::start();
    let plan = Edge::plan().tunnel("home", &["*.example.test"]);
    let list = plan.folder().join("deny.txt");
    fs::write(&list, "192.0.2.1\n# a word\nnonsense\n10.0.0.0/8\n").unwrap();
    let edge = plan.with(&format!("{FLY}deny-lists: deny.txt")).start();
    let rules = format!("  - service: http://{}", origin.address);
    let _connector = Connector::start(Way::Quic, &edge, "home", &rules);
    edge.has_connections(4).await;
    assert_eq!(get_as(&edge, "192.0.2.1", APP).await.status, StatusCode::FORBIDDEN);
    assert_eq!(get_as(&edge, "10.1.2.3", APP).await.status, StatusCode::FORBIDDEN);
    assert_eq!(get_as(&edge, "192.0.2.2", APP).await.status, StatusCode::OK);
    assert!(edge.program.said().contains("\"line\":3"), "the line that is wrong is told");
    fs::write(&list, "192.0.2.2\n").unwrap();
    answered(&edge, "192.0.2.1", APP, StatusCode::OK).await;
    answered(&edge, "192.0.2.2", APP, StatusCode::FORBIDDEN).await;
    // A list that is gone keeps what it said.
    fs::remove_file(&list).unwrap();
    drop(edge.program.says("cannot be read"));
    assert_eq!(get_as(&edge, "192.0.2.2", APP).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn crowdsec_decides_and_its_silence_changes_nothing() {
    let crowdsec = Crowdsec::start("the key").await;
    crowdsec.decide("192.0.2.1", "1h");
    let plan = Edge::plan().tunnel("home", &["*.example.test"]);
    fs::write(plan.folder().join("key"), "the key\n").unwrap();
    let lines =
        format!("{FLY}crowdsec: {{ url: 'http://{}', key-file: key, interval: 1s }}", crowdsec.address);
    let origin = Origin::start();
    let edge = plan.with(&lines).start();
    let _connector =
        Connector::start(Way::Quic, &edge, "home", &format!("  - service: http://{}", origin.address));
    edge.has_connections(4).await;
    answered(&edge, "192.0.2.1", APP, StatusCode::FORBIDDEN).await;
    crowdsec.decide("10.0.0.0/8", "1h");
    answered(&edge, "10.9.9.9", APP, StatusCode::FORBIDDEN).await;
    crowdsec.lift("192.0.2.1");
    answered(&edge, "192.0.2.1", APP, StatusCode::OK).await;
    drop(crowdsec);
    let silent = async {
        while !edge.program.said().contains("CrowdSec does not answer") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), silent).await.unwrap();
    assert_eq!(get_as(&edge, "10.9.9.9", APP).await.status, StatusCode::FORBIDDEN);
    assert!(!edge.program.said().contains("the key"), "the key is not told");
}

#[tokio::test]
async fn what_goes_missing_opens_nothing() {
    let crowdsec = Crowdsec::start("the key").await;
    crowdsec.decide("10.2.0.0/16", "1h");
    let plan = Edge::plan().tunnel("home", &["*.example.test"]);
    fs::write(plan.folder().join("key"), "the key\n").unwrap();
    fs::write(plan.folder().join("deny.txt"), "10.1.0.0/16\n").unwrap();
    let lines = format!(
        "{FLY}deny-lists: deny.txt\ncrowdsec: {{ url: 'http://{}', key-file: key, interval: 1s }}\ndefaults: {{ deny: 10.3.0.0/16, rate-limit: {{ rate: 1/h }} }}",
        crowdsec.address
    );
    let origin = Origin::start();
    let edge = plan.with(&lines).start();
    let rules = format!("  - service: http://{}\n    edge: {{ methods: [GET] }}", origin.address);
    let connector = Connector::start(Way::Quic, &edge, "home", &rules);
    edge.has_connections(4).await;
    answered(&edge, "10.2.0.1", APP, StatusCode::FORBIDDEN).await;
    assert_eq!(get_as(&edge, "192.0.2.1", APP).await.status, StatusCode::OK);
    assert_eq!(adit(&edge, &["shutoff", "off.example.test"]).code, Some(0));
    answered(&edge, "192.0.2.9", "off.example.test", StatusCode::SERVICE_UNAVAILABLE).await;
    let closed = async |edge: &Edge, when: &str| {
        for (client, host, status) in [
            ("10.1.0.1", APP, StatusCode::FORBIDDEN),
            ("10.2.0.1", APP, StatusCode::FORBIDDEN),
            ("10.3.0.1", APP, StatusCode::FORBIDDEN),
            ("192.0.2.1", APP, StatusCode::TOO_MANY_REQUESTS),
            ("192.0.2.8", "off.example.test", StatusCode::SERVICE_UNAVAILABLE),
        ] {
            assert_eq!(get_as(edge, client, host).await.status, status, "{client} at {host}, {when}");
        }
    };
    let until_said = async |edge: &Edge, text: &str| {
        let said = async {
            while !edge.program.said().contains(text) {
                closed(edge, text).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), said).await.unwrap();
        closed(edge, text).await;
    };
    closed(&edge, "at first").await;
    drop(crowdsec);
    until_said(&edge, "CrowdSec does not answer").await;
    fs::remove_file(edge.file("deny.txt")).unwrap();
    until_said(&edge, "the last good one stays in force").await;
    fs::write(edge.file("edge.yml"), "domain: [broken").unwrap();
    fs::write(edge.file("data/shutoff"), "no name!").unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    closed(&edge, "with a broken file").await;
    // The connector's word counts until another one comes.
    drop(connector);
    edge.has_connections(0).await;
    let visitor = Visitor::plain(edge.http);
    let post = visitor.request(Method::POST, APP, "/", empty());
    assert_eq!(visitor.ask(APP, post).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_name_is_switched_off_within_a_second_and_stays_off() {
    let lines = "hostnames:\n  vault.example.test: { tls: passthrough }";
    let (_connector, mut edge, origin) = home_with(lines).await;
    let off = async |edge: &Edge, host: &str| {
        edge.visitor().get(host, "/").await.status == StatusCode::SERVICE_UNAVAILABLE
    };
    assert!(!off(&edge, APP).await);
    let started = std::time::Instant::now();
    assert_eq!(adit(&edge, &["shutoff", APP, "vault.example.test"]).code, Some(0));
    while !off(&edge, APP).await {
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    // The limit is a second on a machine that has nothing else to do.
    let page = edge.visitor().get(APP, "/").await;
    assert!(page.text().contains("switched off by its operator") && !page.header("retry-after").is_empty());
    assert_eq!(Visitor::plain(edge.http).get(APP, "/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(edge.visitor3().get(APP, "/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!off(&edge, "other.example.test").await);
    assert!(edge.visitor().raw("vault.example.test").await.is_err(), "what the edge cannot read is closed");
    let status = adit(&edge, &["status"]).stdout;
    assert!(status.contains("SWITCHED OFF: app.example.test"), "{status}");
    edge.crash_and_return();
    edge.has_connections(4).await;
    assert!(off(&edge, APP).await, "also after a restart");
    let before = origin.asked("/");
    assert!(off(&edge, APP).await && origin.asked("/") == before);
    assert_eq!(adit(&edge, &["resume", "--all"]).code, Some(0));
    let back = async {
        while off(&edge, APP).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), back).await.unwrap();
    let again = adit(&edge, &["resume", APP]);
    assert_eq!(again.code, Some(2), "{again:?}");
}
