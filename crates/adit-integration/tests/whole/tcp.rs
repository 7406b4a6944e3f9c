//! TCP services inside a WebSocket: `tcp://`, `bastion`, `socks-proxy`, and the client that reaches them.

use std::net::SocketAddr;
use std::process::Stdio;

use adit_testkit::access::{Access, echo};
use adit_testkit::home::APP;
use adit_testkit::{Connector, Edge, Way};
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An edge with a connector of these rules, serving.
async fn serving(way: Way, ingress: &str) -> (Edge, Connector) {
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
    let connector = Connector::start(way, &edge, "home", &format!("{ingress}\n  - service: http_status:404"));
    edge.has_connections(if way.is_ours() { 4 } else { edge.tunnel.len() }).await;
    (edge, connector)
}

fn rule(service: &str, origin_request: &str) -> String {
    format!("  - hostname: {APP}\n    service: {service}\n    originRequest: {{ {origin_request} }}")
}

async fn assert_echoes(mut stream: TcpStream, way: Way) {
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 249) as u8).collect();
    let (mut read, mut write) = stream.split();
    let sending = async { write.write_all(&sent).await.unwrap() };
    let mut heard = vec![0; sent.len()];
    let hearing = async { read.read_exact(&mut heard).await.map(drop).unwrap() };
    tokio::join!(sending, hearing);
    assert!(heard == sent, "{way:?}");
}

#[tokio::test]
async fn bytes_reach_a_tcp_service_and_come_back() {
    let service = echo().await;
    for way in Way::all() {
        let (edge, _connector) = serving(way, &rule(&format!("tcp://{service}"), "")).await;
        let client = Access::start(&edge, APP, &[]);
        assert_echoes(client.connect().await, way).await;
        let mut stream = client.connect().await;
        stream.write_all(b"last words").await.unwrap();
        let mut heard = [0; 10];
        stream.read_exact(&mut heard).await.unwrap();
        drop(stream);
    }
}

#[tokio::test]
async fn the_origins_end_is_the_clients_end() {
    for way in Way::all() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"good bye").await.unwrap();
        });
        let (edge, _connector) = serving(way, &rule(&format!("tcp://{address}"), "")).await;
        let client = Access::start(&edge, APP, &[]);
        let mut stream = client.connect().await;
        let mut heard = String::new();
        tokio::time::timeout(std::time::Duration::from_secs(3), stream.read_to_string(&mut heard))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(heard, "good bye", "{way:?}");
    }
}

#[tokio::test]
async fn as_a_proxy_command_it_speaks_on_standard_input_and_output() {
    let service = echo().await;
    let (edge, _connector) = serving(Way::Quic, &rule(&format!("ssh://{service}"), "")).await;
    let mut command = tokio::process::Command::from(Access::command(&edge, APP));
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    input.write_all(b"through a pipe").await.unwrap();
    // The end of the input closes the echo, and that ends the client.
    drop(input);
    let mut heard = [0; 14];
    client.stdout.as_mut().unwrap().read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"through a pipe");
    client.start_kill().unwrap();
    client.wait().await.unwrap();
}

#[tokio::test]
async fn a_plain_request_is_told_to_upgrade() {
    let service = echo().await;
    for way in Way::ours() {
        let (edge, _connector) = serving(way, &rule(&format!("tcp://{service}"), "")).await;
        let answer = edge.visitor().get(APP, "/").await;
        assert_eq!(answer.status, StatusCode::UPGRADE_REQUIRED, "{way:?}");
        assert!(answer.text().contains("access tcp"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_service_that_is_down_is_an_error_of_the_client() {
    let (edge, _connector) = serving(Way::Quic, &rule("tcp://127.0.0.1:1", "")).await;
    let client = Access::start(&edge, APP, &[]);
    let mut heard = Vec::new();
    let mut stream = client.connect().await;
    assert_eq!(stream.read_to_end(&mut heard).await.unwrap_or(0), 0);
    assert!(client.program.says("answered 502").contains("does not answer"));
}

#[tokio::test]
async fn a_bastion_goes_where_its_rules_allow() {
    let (allowed, forbidden) = (echo().await, echo().await);
    let rules = format!("ipRules: [{{ prefix: 127.0.0.0/8, ports: [{}], allow: true }}]", allowed.port());
    for way in Way::ours() {
        let (edge, connector) = serving(way, &rule("bastion", &rules)).await;
        let destination = allowed.to_string();
        let client = Access::start(&edge, APP, &["--destination", &destination]);
        assert_echoes(client.connect().await, way).await;
        let client = Access::start(&edge, APP, &["--destination", &forbidden.to_string()]);
        assert_eq!(client.connect().await.read(&mut [0; 8]).await.unwrap_or(0), 0, "{way:?}");
        assert!(connector.program.says("not allowed").contains("ipRules"));
    }
}

/// Asks a SOCKS5 server for a connection; the reply's code.
async fn socks(stream: &mut TcpStream, target: SocketAddr) -> u8 {
    stream.write_all(&[5, 1, 0]).await.unwrap();
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await.unwrap();
    assert_eq!(chosen, [5, 0]);
    let name = b"localhost";
    let mut request = vec![5, 1, 0, 3, name.len() as u8];
    request.extend_from_slice(name);
    request.extend_from_slice(&target.port().to_be_bytes());
    stream.write_all(&request).await.unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await.unwrap();
    reply[1]
}

#[tokio::test]
async fn a_socks_proxy_goes_where_its_rules_allow() {
    let (allowed, forbidden) = (echo().await, echo().await);
    let rules = format!("ipRules: [{{ prefix: 127.0.0.0/8, ports: [{}], allow: true }}]", allowed.port());
    for way in Way::all() {
        let (edge, _connector) = serving(way, &rule("socks-proxy", &rules)).await;
        let client = Access::start(&edge, APP, &[]);
        let mut stream = client.connect().await;
        assert_eq!(socks(&mut stream, allowed).await, 0, "{way:?}");
        assert_echoes(stream, way).await;
        let mut stream = client.connect().await;
        assert_eq!(socks(&mut stream, forbidden).await, 2, "{way:?}");
    }
}

#[tokio::test]
async fn a_service_is_told_whose_connection_it_is() {
    let service = echo().await;
    for way in Way::ours() {
        let (edge, _connector) = serving(way, &rule(&format!("tcp://{service}"), "proxyProtocol: v1")).await;
        let client = Access::start(&edge, APP, &[]);
        let mut stream = client.connect().await;
        // The echo hears the header first, and says it back.
        let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 0 {}\r\n", service.port());
        let mut heard = vec![0; expected.len()];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(String::from_utf8(heard).unwrap(), expected, "{way:?}");
    }
}
