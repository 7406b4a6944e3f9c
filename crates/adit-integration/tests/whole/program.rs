//! The program itself: what it says to wrong input, and what its commands do.

use std::fs;

use adit_testkit::home::APP;
use adit_testkit::program::run;
use adit_testkit::{Connector, Edge, Program, Visitor, Way, program};
use tempfile::TempDir;

#[test]
fn all_errors_of_a_file_come_at_once_with_their_places() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("edge.yml");
    fs::write(&path, "domain: example.test\nlistn: {}\nlisten: { https: nowhere }\nhttp-mode: maybe\n")
        .unwrap();
    for verb in [vec!["check"], vec!["edge", "run", "--config"]] {
        let ended = run(verb.iter().copied().chain([path.to_str().unwrap()]));
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let said = ended.stdout + &ended.stderr;
        for place in ["edge.yml:2:", "edge.yml:3:", "edge.yml:4:", "listen"] {
            assert!(said.contains(place), "{place} in {said}");
        }
    }
}

#[test]
fn missing_files_are_named() {
    for arguments in [
        vec!["edge", "run", "--config", "/nowhere/edge.yml"],
        vec!["connect", "--config", "/nowhere/config.yml"],
        vec!["check", "/nowhere/edge.yml"],
        vec!["connect", "--edge", "127.0.0.1:1", "--token-file", "/nowhere/token"],
    ] {
        let ended = run(&arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains("/nowhere/"), "{arguments:?}: {}", ended.stderr);
    }
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_served() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listen = format!("{{ https: '{address}', http: off, tunnel: '127.0.0.1:0', admin: off }}");
    let plan = Edge::plan().listen(&listen);
    plan.prepare();
    let config = plan.folder().join("edge.yml");
    let ended = run(["edge", "run", "--config", config.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains(&address.to_string()) && ended.stderr.contains("another program"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_bad_certificate_costs_its_names_and_not_the_start() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("cert.pem"), "no certificate\n").unwrap();
    fs::write(path("key.pem"), "no key\n").unwrap();
    let lines = format!("certificates: [{{ cert: {}, key: {} }}]", path("cert.pem"), path("key.pem"));
    let edge = Edge::plan().with(&lines).start();
    let line = edge.program.says("certificate cannot be used");
    assert!(line.contains("cert.pem"), "{line}");
}

#[tokio::test]
async fn a_demo_serves_a_page_and_leaves_nothing_behind() {
    let mut command = std::process::Command::new(program::adit());
    let temporary = TempDir::new().unwrap();
    command.args(["demo", "--listen", "127.0.0.1:0"]).env("TMPDIR", temporary.path());
    let mut demo = Program::start(&mut command);
    let line = demo.says("curl");
    let curl = line.split_once("curl").unwrap().1;
    let curl =
        std::process::Command::new("sh").arg("-c").arg(format!("curl -sS --fail {curl}")).output().unwrap();
    assert!(curl.status.success(), "{curl:?}");
    assert!(String::from_utf8_lossy(&curl.stdout).contains("<html"), "{curl:?}");
    demo.signal("INT");
    assert_eq!(demo.ends(), Some(0));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "the temporary folder is empty again");
}

#[tokio::test]
async fn a_tunnel_lives_through_create_list_info_token_rotate_and_delete() {
    // The commands find the edge by the admin address of its file.
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = format!("{{ https: '127.0.0.1:0', http: off, tunnel: '127.0.0.1:0', admin: '{admin}' }}");
    let edge = Edge::plan().listen(&listen).start();
    let config = edge.file("edge.yml").display().to_string();
    let tunnel = |arguments: &[&str]| {
        let ended = run([&["tunnel", "--config", &config], arguments].concat());
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        ended.stdout
    };
    let credentials = edge.file("home.json").display().to_string();
    tunnel(&["create", "home", "--hostname", APP, "--credentials-file", &credentials]);
    assert!(tunnel(&["list"]).contains("home"));
    let _connector = Connector::start(Way::Quic, &edge, "home", "  - service: http_status:201");
    edge.has_connections(4).await;
    let info: serde_json::Value =
        serde_json::from_str(&tunnel(&["info", "home", "--output", "json"])).unwrap();
    assert_eq!(info["connections"].as_array().unwrap().len(), 4, "{info}");
    fs::write(edge.file("token"), tunnel(&["token", "home"])).unwrap();
    let by_token = |file: &str| {
        let mut command = std::process::Command::new(program::adit());
        command.args(["tunnel", "--log-format", "json", "--edge", &edge.tunnel[0].to_string(), "--cacert"]);
        command.arg(edge.file("data/tunnel-ca.pem")).args(["run", "--token-file"]).arg(edge.file(file));
        Program::start(&mut command)
    };
    let second = by_token("token");
    edge.has_connections(8).await;
    drop(second);
    fs::write(edge.file("new-token"), tunnel(&["rotate", "home"]).lines().last().unwrap()).unwrap();
    let third = by_token("new-token");
    drop(third.says("Registered tunnel connection"));
    drop(third);
    edge.has_connections(4).await;
    tunnel(&["delete", "home"]);
    edge.has_connections(0).await;
    assert!(!tunnel(&["list"]).contains("home"));
}

#[tokio::test]
async fn local_endpoints_tell_readiness() {
    let edge = Edge::plan().tunnel("home", &[APP]).start();
    let admin = Visitor::plain(edge.admin);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(admin.get("localhost", path).await.status, 200, "{path}");
    }
    let connector = Connector::start_with(
        Way::Quic,
        &edge,
        "home",
        "  - service: http_status:201",
        "metrics: 127.0.0.1:0",
    );
    edge.has_connections(4).await;
    let line: serde_json::Value =
        serde_json::from_str(&connector.program.says("connector is starting")).unwrap();
    let metrics = Visitor::plain(line["metrics"].as_str().unwrap().parse().unwrap());
    drop(connector.program.says_times("Registered tunnel connection", 4));
    let ready = metrics.get("localhost", "/ready").await;
    assert_eq!(
        (ready.status.as_u16(), ready.text().contains("\"readyConnections\":4")),
        (200, true),
        "{}",
        ready.text()
    );
    assert!(metrics.get("localhost", "/metrics").await.text().contains("cloudflared_tunnel"));
}
