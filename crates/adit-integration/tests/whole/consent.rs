//! The consent of the home: whose rules a connector serves, what the edge's rules may reach, and that nothing is lost by a
//! file that was cut off.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use adit_testkit::access::{Access, echo};
use adit_testkit::home::APP;
use adit_testkit::program::{self, Ended, PATIENCE};
use adit_testkit::{Connector, Edge, Origin, Program, Visitor, Way};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::push::{hold, serves};

const INVENTED: &str = "invented.example.test";

/// A connector that says where its local endpoints are.
const METRICS: &str = "metrics: '127.0.0.1:0'\n";

fn rule(host: &str, service: &str) -> String {
    format!("      - {{ hostname: {host}, service: '{service}' }}\n")
}

/// Rules that an edge holds, the last one included.
fn rules(rules: &[(&str, &str)]) -> String {
    let rules: String = rules.iter().map(|(host, service)| rule(host, service)).collect();
    rules + "      - service: http_status:404\n"
}

/// Takes the rules that an edge holds back, and says so.
fn release(edge: &Edge) {
    let path = edge.file("edge.yml");
    let text = fs::read_to_string(&path).unwrap();
    let before = text.split("tunnels:").next().unwrap();
    fs::write(&path, format!("{before}tunnels: {{ home: {{ hostnames: [{INVENTED}] }} }}\n")).unwrap();
}

fn adit(edge: &Edge, command: &[&str]) -> Ended {
    let config = edge.config();
    program::run([command, &["--config", config.to_str().unwrap()]].concat())
}

async fn ready(connector: &Program) -> Value {
    let line: Value = serde_json::from_str(&connector.says("connector is starting")).unwrap();
    let metrics = Visitor::plain(line["metrics"].as_str().unwrap().parse().unwrap());
    serde_json::from_slice(&metrics.get("localhost", "/ready").await.body).unwrap()
}

#[tokio::test]
async fn a_connector_with_rules_keeps_them_whatever_the_edge_holds() {
    for way in Way::ours() {
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
        let theirs = [(APP, "http_status:201"), (INVENTED, "unix:/var/run/docker.sock")];
        hold(&edge, &rules(&theirs));
        drop(edge.program.says("configuration reloaded"));
        let own =
            format!("  - {{ hostname: {APP}, service: 'http_status:202' }}\n  - service: http_status:404");
        let connector = Connector::start(way, &edge, "home", &own);
        serves(&edge, APP, 202).await;
        serves(&edge, INVENTED, 404).await;
        drop(connector.program.says("this connector keeps its own"));
        drop(edge.program.says("this connector keeps rules of its own"));
        for command in [&["tunnel", "info", "home"][..], &["status"]] {
            let said = adit(&edge, command);
            assert!(said.stdout.contains("keeps the rules of its own configuration"), "{way:?}: {said:?}");
        }
        // Another word of the edge, and none at all: the own rules stay.
        hold(&edge, &rules(&[(APP, "http_status:203")]));
        drop(edge.program.says_times("configuration reloaded", 2));
        assert_eq!(edge.visitor().get(APP, "/").await.status, 202, "{way:?}");
        release(&edge);
        drop(edge.program.says_times("configuration reloaded", 3));
        assert_eq!(edge.visitor().get(APP, "/").await.status, 202, "{way:?}");
        assert!(!connector.program.said().contains("configuration of the edge in force"), "{way:?}");
    }
}

#[tokio::test]
async fn with_the_bare_token_an_edge_reaches_nothing_special() {
    for way in Way::ours() {
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
        hold(&edge, &rules(&[(APP, "http_status:201")]));
        drop(edge.program.says("configuration reloaded"));
        let connector = Connector::start_at(way, edge.folder(), &edge.tunnel, "home", METRICS);
        serves(&edge, APP, 201).await;
        for (number, service) in
            ["unix:/var/run/docker.sock", "bastion", "socks-proxy"].into_iter().enumerate()
        {
            hold(&edge, &rules(&[(APP, "http_status:202"), (INVENTED, service)]));
            let refused = edge.program.says_times("the connector refuses its configuration", 4 * number + 1);
            assert!(refused.contains("accept-rules"), "{way:?} {refused}");
            assert!(
                connector.program.says(&format!("leads to `{service}`")).contains("last good"),
                "{way:?}"
            );
            assert_eq!(edge.visitor().get(APP, "/").await.status, 201, "{way:?}: the last good rules stay");
        }
        let fault = ready(&connector.program).await["configurationError"].to_string();
        assert!(fault.contains("socks-proxy"), "{fault}");
        // A name is accepted, and the address that it leads to is judged.
        hold(&edge, &rules(&[(APP, "http_status:203"), (INVENTED, "http://169.254.169.254:80")]));
        serves(&edge, APP, 203).await;
        assert_eq!(edge.visitor().get(INVENTED, "/").await.status, 502, "{way:?}");
        drop(connector.program.says("a rule of the edge may not reach this address"));
    }
}

#[tokio::test]
async fn the_own_side_names_the_services_that_an_edge_may_lead_to() {
    let origin = Origin::start();
    let service = format!("http://localhost:{}", origin.address.port());
    for way in Way::ours() {
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
        hold(&edge, &rules(&[(APP, &service)]));
        drop(edge.program.says("configuration reloaded"));
        let accept = "accept-rules: { services: ['http://localhost:*'] }\n";
        let connector = Connector::start_at(way, edge.folder(), &edge.tunnel, "home", accept);
        serves(&edge, APP, 200).await;
        hold(&edge, &rules(&[(APP, &service), (INVENTED, &format!("http://{}", origin.address))]));
        drop(connector.program.says("which `accept-rules` of this connector does not allow"));
        assert_eq!(edge.visitor().get(APP, "/").await.status, 200, "{way:?}");
    }
}

#[tokio::test]
async fn rules_that_the_edge_takes_back_are_served_no_longer() {
    for way in Way::ours() {
        let mut edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
        hold(&edge, &rules(&[(APP, "http_status:201"), (INVENTED, "http_status:202")]));
        drop(edge.program.says("configuration reloaded"));
        let _connector = Connector::start_at(way, edge.folder(), &edge.tunnel, "home", "");
        serves(&edge, INVENTED, 202).await;
        release(&edge);
        serves(&edge, INVENTED, 503).await;
        // The same where the edge was away meanwhile.
        hold(&edge, &rules(&[(INVENTED, "http_status:203")]));
        serves(&edge, INVENTED, 203).await;
        release(&edge);
        edge.crash_and_return();
        edge.has_connections(4).await;
        serves(&edge, INVENTED, 503).await;
        assert_eq!(edge.visitor().get(INVENTED, "/").await.status, 503, "{way:?}");
    }
}

/// Denies this machine and allows everything else.
const NOT_HERE: &str = "ipRules: [{ prefix: 127.0.0.0/8, allow: false }, { prefix: '::1/128', allow: false }, { prefix: 0.0.0.0/0, allow: true }, { prefix: '::/0', allow: true }]";

/// Spellings of this machine.
const HERE: [&str; 9] = [
    "127.0.0.1",
    "0.0.0.0",
    "0",
    "127.1",
    "2130706433",
    "0x7f000001",
    "localhost",
    "[::ffff:127.0.0.1]",
    "[::]",
];

#[tokio::test]
async fn a_denied_machine_is_denied_in_every_spelling() {
    let service = echo().await;
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
    let rules = format!(
        "  - {{ hostname: {APP}, service: bastion, originRequest: {{ {NOT_HERE} }} }}\n  - {{ hostname: s.example.test, service: socks-proxy, originRequest: {{ {NOT_HERE} }} }}\n  - service: http_status:404"
    );
    let connector = Connector::start(Way::Quic, &edge, "home", &rules);
    edge.has_connections(4).await;
    edge.serves(&[APP, "s.example.test"]).await;
    for host in HERE {
        let client = Access::start(&edge, APP, &["--destination", &format!("{host}:{}", service.port())]);
        let mut stream = client.connect().await;
        drop(stream.write_all(b"hello").await);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0, "{host}");
    }
    drop(connector.program.says("`ipRules`"));
    for host in HERE {
        let client = Access::start(&edge, "s.example.test", &[]);
        let mut stream = client.connect().await;
        assert_eq!(socks(&mut stream, host.trim_matches(['[', ']']), service.port()).await, 2, "{host}");
    }
}

/// Asks a SOCKS5 server for a connection to a name; the reply's code.
async fn socks(stream: &mut TcpStream, name: &str, port: u16) -> u8 {
    let mut message = vec![5, 1, 0, 5, 1, 0, 3, name.len() as u8];
    message.extend_from_slice(name.as_bytes());
    message.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&message).await.unwrap();
    let mut reply = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut reply)).await.unwrap().unwrap();
    reply[3]
}

#[tokio::test]
async fn ports_do_not_reach_a_denied_machine_by_another_spelling() {
    let service = echo().await;
    let there = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (tcp, udp) = (service.port(), there.local_addr().unwrap().port());
    for to in ["0.0.0.0", "[::]", "[::ffff:127.0.0.1]"] {
        let ports = format!(
            "ports:\n  - {{ listen: '127.0.0.1:0', protocol: tcp, tunnel: home, to: '{to}:{tcp}' }}\n  - {{ listen: '127.0.0.1:0', protocol: udp, tunnel: home, to: '{to}:{udp}' }}"
        );
        let edge = Edge::plan().tunnel("home", &[APP]).with(&ports).start();
        let opened = |number| -> SocketAddr {
            let line: Value = serde_json::from_str(&edge.program.says_times("port is open", number)).unwrap();
            line["listen"].as_str().unwrap().parse().unwrap()
        };
        let (first, second) = (opened(1), opened(2));
        let lines = format!("warp-routing: {{ {NOT_HERE} }}\n");
        let connector =
            Connector::start_with(Way::Quic, &edge, "home", "  - service: http_status:404", &lines);
        edge.has_connections(4).await;
        for listen in [first, second] {
            let mut stream = TcpStream::connect(listen).await.ok();
            if let Some(stream) = &mut stream {
                drop(stream.write_all(b"hello").await);
                assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0, "{to}");
            }
            let visitor = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            visitor.send_to(b"hello", listen).await.unwrap();
        }
        assert!(connector.program.says("UDP session refused").contains("is not allowed"), "{to}");
        drop(connector.program.says("`ipRules` of `warp-routing`"));
        let heard = tokio::time::timeout(Duration::from_millis(200), there.recv(&mut [0; 8])).await;
        assert!(heard.is_err(), "{to}: a datagram reached the service");
    }
}

/// Waits until the connector says that its file is wrong, or that it is good; what it says.
async fn until_fault(connector: &Program, wrong: bool) -> String {
    let waiting = async {
        loop {
            let fault = ready(connector).await["configurationError"].clone();
            if fault.is_null() != wrong {
                return fault.to_string();
            }
            connector.signal("HUP");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap()
}

#[tokio::test]
async fn a_file_that_was_emptied_or_cut_off_keeps_the_last_good_rules() {
    let edge = Edge::plan().tunnel("home", &[APP]).start();
    let config = edge.file("config.yml");
    let addresses: Vec<String> = edge.tunnel.iter().map(|address| format!("'{address}'")).collect();
    let head = format!(
        "credentials-file: {}\nedge: [{}]\ncacert: {}\nmetrics: '127.0.0.1:0'\n",
        edge.file("home.json").display(),
        addresses.join(", "),
        edge.file("data/tunnel-ca.pem").display()
    );
    let whole = |status: u16| format!("{head}ingress:\n  - service: http_status:{status}\n");
    fs::write(&config, whole(201)).unwrap();
    let mut command = std::process::Command::new(program::adit());
    command.args(["connect", "--log-format", "json", "--config"]).arg(&config);
    let connector = Program::start(&mut command);
    serves(&edge, APP, 201).await;
    for text in ["", "\n", "# nothing\n", &head, &format!("{head}ingress:\n")] {
        fs::write(&config, text).unwrap();
        let fault = until_fault(&connector, true).await;
        assert!(fault.contains("`ingress` was there before"), "{fault}");
        assert_eq!(edge.visitor().get(APP, "/").await.status, 201, "{text:?}");
        // Back to a good file, so that the next one is a change.
        fs::write(&config, whole(201)).unwrap();
        until_fault(&connector, false).await;
    }
    // On purpose: a word for it.
    fs::write(&config, format!("{head}ingress: []\n")).unwrap();
    serves(&edge, APP, 503).await;
    fs::write(&config, whole(202)).unwrap();
    serves(&edge, APP, 202).await;
}

/// Waits until the edge counts its last reload as good (1) or bad (0).
async fn reloads(edge: &Edge, good: u8) {
    let line = format!("adit_edge_config_last_reload_successful {good}");
    let told = async {
        while !edge.metrics().await.contains(&line) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
}

#[tokio::test]
async fn an_edge_s_file_that_was_cut_off_changes_nothing() {
    let plan = Edge::plan().tunnel("home", &[APP]);
    fs::write(plan.folder().join("deny.txt"), "127.0.0.1\n").unwrap();
    let edge =
        plan.with("deny-lists: [deny.txt]\nhostnames:\n  other.example.test: { maintenance: true }").start();
    let path = edge.file("edge.yml");
    let text = fs::read_to_string(&path).unwrap();
    let denied = async || edge.visitor().get(APP, "/").await.status;
    assert_eq!(denied().await, 403);
    let cut = text.split("hostnames:").next().unwrap();
    for cut in ["", cut] {
        fs::write(&path, cut).unwrap();
        reloads(&edge, 0).await;
        assert_eq!(denied().await, 403, "{cut:?}");
        fs::write(&path, &text).unwrap();
        reloads(&edge, 1).await;
    }
    // A list without a byte was cut off; one with a comment is empty.
    fs::write(edge.file("deny.txt"), "").unwrap();
    drop(edge.program.says("the last good list stays in force"));
    assert_eq!(denied().await, 403);
    reloads(&edge, 0).await;
    let readyz = Visitor::plain(edge.admin).get("localhost", "/readyz").await;
    assert!(
        readyz.status == 200 && readyz.text().contains("configurationError: the deny list"),
        "{}",
        readyz.text()
    );
    fs::write(edge.file("deny.txt"), "# nobody\n").unwrap();
    let open = async {
        while denied().await == 403 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, open).await.unwrap();
}
