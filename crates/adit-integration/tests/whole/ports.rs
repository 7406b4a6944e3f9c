//! Ports without HTTP: TCP and UDP from a port of the edge to an address that the connector allows.

use std::net::SocketAddr;
use std::time::Duration;

use adit_testkit::access::echo;
use adit_testkit::edge::Plan;
use adit_testkit::visitor::Visitor;
use adit_testkit::{Connector, Edge, Way};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// Which datagrams a connector announces.
const DATAGRAMS: [(&str, &str); 2] = [("v2", ""), ("v3", "features: [support_datagram_v3_2]\n")];

fn plan(ports: &str) -> Plan {
    Edge::plan().tunnel("home", &["*.example.test"]).with(&format!("ports: [{ports}]"))
}

fn port(protocol: &str, to: SocketAddr, more: &str) -> String {
    format!("{{ listen: '127.0.0.1:0', protocol: {protocol}, tunnel: home, to: '{to}'{more} }}")
}

/// Where the `number`-th port that was opened listens, from 1.
fn opened(edge: &Edge, number: usize) -> SocketAddr {
    let line: serde_json::Value =
        serde_json::from_str(&edge.program.says_times("port is open", number)).unwrap();
    line["listen"].as_str().unwrap().parse().unwrap()
}

async fn connected(way: Way, edge: &Edge, lines: &str) -> Connector {
    let connector = Connector::start_with(way, edge, "home", "  - service: http_status:404", lines);
    edge.has_connections(if way.is_ours() { 4 } else { edge.tunnel.len() }).await;
    connector
}

fn allowing(address: SocketAddr) -> String {
    format!(
        "warp-routing: {{ ipRules: [{{ prefix: {}/32, ports: [{}], allow: true }}] }}\n",
        address.ip(),
        address.port()
    )
}

/// A service that sends datagrams back.
async fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            drop(socket.send_to(&buffer[..length], from).await);
        }
    });
    address
}

/// Sends until an answer comes: datagrams may be lost, and the first of them open the session.
async fn ask(socket: &UdpSocket, data: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let asking = async {
        loop {
            socket.send(data).await.unwrap();
            let heard = timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await;
            if let Ok(Ok(length)) = heard
                && buffer[..length] == *data
            {
                return buffer[..length].to_vec();
            }
        }
    };
    timeout(PATIENCE, asking).await.unwrap()
}

async fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

#[tokio::test]
async fn a_tcp_port_leads_to_a_service() {
    for way in Way::all() {
        let service = echo().await;
        let edge = plan(&port("tcp", service, "")).start();
        let _connector = connected(way, &edge, &allowing(service)).await;
        let mut visitor = TcpStream::connect(opened(&edge, 1)).await.unwrap();
        for _ in 0..3 {
            assert_echoes(&mut visitor).await;
        }
    }
}

/// cloudflared ends both directions with the first.
#[tokio::test]
async fn the_end_of_a_tcp_ports_visitor_is_not_the_end_of_the_answer() {
    for way in Way::ours() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).await.unwrap();
            stream.write_all(&heard).await.unwrap();
        });
        let edge = plan(&port("tcp", service, "")).start();
        let _connector = connected(way, &edge, &allowing(service)).await;
        let mut visitor = TcpStream::connect(opened(&edge, 1)).await.unwrap();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 249) as u8).collect();
        visitor.write_all(&sent).await.unwrap();
        visitor.shutdown().await.unwrap();
        let mut heard = Vec::new();
        timeout(PATIENCE, visitor.read_to_end(&mut heard)).await.unwrap().unwrap();
        assert!(heard == sent, "{way:?}: {} of {} bytes", heard.len(), sent.len());
    }
}

#[tokio::test]
async fn a_connector_goes_nowhere_without_its_own_word() {
    for way in Way::ours() {
        let service = echo().await;
        let edge = plan(&port("tcp", service, "")).start();
        let other: SocketAddr = "10.9.8.7:22".parse().unwrap();
        for lines in [String::new(), allowing(other)] {
            let connector = connected(way, &edge, &lines).await;
            let mut visitor = TcpStream::connect(opened(&edge, 1)).await.unwrap();
            let mut heard = Vec::new();
            // A reset is as good as an end.
            drop(timeout(PATIENCE, visitor.read_to_end(&mut heard)).await.unwrap());
            assert!(heard.is_empty(), "{way:?}");
            assert!(connector.program.says("is not allowed").contains(&service.to_string()));
            assert!(edge.program.says("port leads nowhere").contains("is not allowed"));
            drop(connector);
            edge.has_connections(0).await;
        }
    }
}

#[tokio::test]
async fn a_service_behind_a_tcp_port_is_told_whose_connection_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = listener.local_addr().unwrap();
    let edge = plan(&port("tcp", service, ", proxy-protocol: v1")).start();
    let _connector = connected(Way::Quic, &edge, &allowing(service)).await;
    let visitor = TcpStream::connect(opened(&edge, 1)).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut heard = vec![0; 107];
    let length = stream.read(&mut heard).await.unwrap();
    let (from, to) = (visitor.local_addr().unwrap().port(), service.port());
    assert_eq!(
        String::from_utf8_lossy(&heard[..length]),
        format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n")
    );
}

#[tokio::test]
async fn datagrams_pass_both_ways_in_both_versions() {
    for way in Way::all().into_iter().filter(|way| way.protocol() == "quic") {
        for (version, lines) in DATAGRAMS {
            let service = udp_echo().await;
            let edge = plan(&port("udp", service, "")).start();
            let _connector = connected(way, &edge, &(allowing(service) + lines)).await;
            let listen = opened(&edge, 1);
            let (first, second) = (client(listen).await, client(listen).await);
            for number in 0..20_u8 {
                assert_eq!(ask(&first, &[number; 100]).await, [number; 100], "{way:?} {version}");
                assert_eq!(ask(&second, &[100 + number]).await, [100 + number], "{way:?} {version}");
            }
            assert_eq!(
                ask(&first, &[7; 1200]).await.len(),
                1200,
                "{way:?} {version}: what QUIC and DNS send"
            );
        }
    }
}

#[tokio::test]
async fn datagrams_go_nowhere_without_the_connectors_word() {
    for (version, lines) in DATAGRAMS {
        let service = udp_echo().await;
        let edge = plan(&port("udp", service, "")).start();
        let connector = connected(Way::Quic, &edge, lines).await;
        client(opened(&edge, 1)).await.send(b"hello").await.unwrap();
        assert!(connector.program.says("UDP session refused").contains("is not allowed"), "{version}");
        assert!(edge.program.says("port leads nowhere").contains("is not allowed"), "{version}");
    }
}

#[tokio::test]
async fn sessions_end_by_silence_at_both_ends() {
    for way in [Way::Quic, Way::CloudflaredQuic].into_iter().filter(|way| Way::all().contains(way)) {
        for (version, lines) in DATAGRAMS {
            let service = udp_echo().await;
            let edge = plan(&port("udp", service, ", idle-timeout: 1s")).start();
            let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let lines = format!("{}{lines}metrics: '{metrics}'\n", allowing(service));
            let _connector = connected(way, &edge, &lines).await;
            let visitor = client(opened(&edge, 1)).await;
            assert_eq!(ask(&visitor, b"one").await, b"one", "{way:?} {version}");
            no_session_is_left(&edge, metrics).await;
            assert_eq!(ask(&visitor, b"two").await, b"two", "{way:?} {version}: and begin anew");
        }
    }
}

/// Waits until neither end counts a session.
async fn no_session_is_left(edge: &Edge, connector: SocketAddr) {
    let waiting = async {
        loop {
            let theirs = Visitor::plain(connector).get("localhost", "/metrics").await.text();
            let left = theirs.lines().find_map(|line| line.strip_prefix("cloudflared_udp_active_sessions "));
            if left == Some("0") && edge.metrics().await.contains("adit_edge_port_sessions 0\n") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn over_http2_a_udp_port_says_why_it_leads_nowhere() {
    let service = udp_echo().await;
    let edge = plan(&port("udp", service, "")).start();
    let _connector = connected(Way::Http2, &edge, &allowing(service)).await;
    client(opened(&edge, 1)).await.send(b"hello").await.unwrap();
    assert!(edge.program.says("port leads nowhere").contains("carries UDP"));
}

#[tokio::test]
async fn ports_open_and_close_with_the_file() {
    let (first, second) = (echo().await, echo().await);
    let edge = plan(&port("tcp", first, "")).start();
    let rules = "warp-routing: { ipRules: [{ prefix: 127.0.0.0/8, allow: true }] }\n";
    let _connector = connected(Way::Quic, &edge, rules).await;
    let old = opened(&edge, 1);
    let mut running = TcpStream::connect(old).await.unwrap();
    assert_echoes(&mut running).await;
    let text = std::fs::read_to_string(edge.file("edge.yml")).unwrap();
    std::fs::write(edge.file("edge.yml"), text.replace(&first.to_string(), &second.to_string())).unwrap();
    let new = opened(&edge, 2);
    assert_echoes(&mut TcpStream::connect(new).await.unwrap()).await;
    let closing = async { while TcpStream::connect(old).await.is_ok() {} };
    timeout(PATIENCE, closing).await.unwrap();
    // What ran goes on.
    assert_echoes(&mut running).await;
}

async fn assert_echoes(stream: &mut TcpStream) {
    stream.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    timeout(PATIENCE, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"hello");
}

/// In mail and SSH the service speaks first. Nobody waits for a word of the visitor, trusted or not.
#[tokio::test]
async fn a_service_may_speak_first_to_a_trusted_proxy_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(stream.write_all(b"220 mail\r\n").await);
        }
    });
    let edge = plan(&port("tcp", service, "")).with("trusted: [127.0.0.1]").start();
    let _connector = connected(Way::Quic, &edge, &allowing(service)).await;
    let mut visitor = TcpStream::connect(opened(&edge, 1)).await.unwrap();
    let mut greeting = [0; 10];
    timeout(PATIENCE, visitor.read_exact(&mut greeting)).await.unwrap().unwrap();
    assert_eq!(&greeting, b"220 mail\r\n");
}

/// The gate of requests holds for ports as well: nobody gets to the service who may not come.
#[tokio::test]
async fn what_defaults_says_about_addresses_holds_for_ports() {
    for way in Way::ours() {
        for (lines, expected) in
            [("deny: 192.0.2.0/24", true), ("deny: 127.0.0.0/8", false), ("allow: 192.0.2.1", false)]
        {
            let (service, datagrams) = (echo().await, udp_echo().await);
            let ports = [port("tcp", service, ""), port("udp", datagrams, "")].join(", ");
            let plan = plan(&ports).with(&format!("defaults: {{ {lines} }}"));
            let edge = plan.start();
            let _connector = connected(way, &edge, &allowing(service)).await;
            let tcp = opened_as(&edge, "tcp");
            let mut visitor = TcpStream::connect(tcp).await.unwrap();
            drop(visitor.write_all(b"hello").await);
            let mut heard = [0; 5];
            let answered = timeout(PATIENCE, visitor.read_exact(&mut heard)).await.unwrap().is_ok();
            assert_eq!(answered, expected, "{way:?}: {lines}");
            if !expected {
                let udp = client(opened_as(&edge, "udp")).await;
                udp.send(b"hello").await.unwrap();
                denied(&edge, 2).await;
            }
        }
    }
}

#[tokio::test]
async fn limits_count_the_streams_of_a_port() {
    let service = echo().await;
    let edge = plan(&port("tcp", service, "")).with("defaults: { concurrency: 1 }").start();
    let _connector = connected(Way::Quic, &edge, &allowing(service)).await;
    let mut first = TcpStream::connect(opened(&edge, 1)).await.unwrap();
    assert_echoes(&mut first).await;
    let mut second = TcpStream::connect(opened(&edge, 1)).await.unwrap();
    let mut heard = Vec::new();
    // It is closed, without a byte.
    drop(timeout(PATIENCE, second.read_to_end(&mut heard)).await.unwrap());
    assert!(heard.is_empty());
    assert_echoes(&mut first).await;
}

/// Where the port with this protocol listens.
fn opened_as(edge: &Edge, protocol: &str) -> SocketAddr {
    let lines = (1..=2).map(|number| edge.program.says_times("port is open", number));
    let lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap());
    let line = lines.into_iter().find(|line| line["protocol"] == protocol).unwrap();
    line["listen"].as_str().unwrap().parse().unwrap()
}

/// Waits until so many were not let through.
async fn denied(edge: &Edge, count: usize) {
    let counted = async {
        let line = format!("requests_denied_total{{reason=\"denied\"}} {count}");
        while !edge.metrics().await.contains(&line) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.unwrap();
}
