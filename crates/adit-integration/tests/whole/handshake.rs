//! Handshakes of visitors: server names in every spelling, client certificates that are missing or wrong, and what QUIC
//! sends to an address that has not proven itself.

use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use adit_testkit::home::APP;
use adit_testkit::pki::{Authority, Pair};
use adit_testkit::{Connector, Edge, Home, Way};
use adit_wire::names;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::rustls::pki_types::CertificateDer;
use quinn::rustls::pki_types::pem::PemObject as _;
use quinn::rustls::{self, ClientConfig, RootCertStore};

/// What a request with this server name gets, as `openssl s_client` shows it; `None` sends no server name.
fn with_server_name(edge: &Edge, name: Option<&str>) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-connect", &edge.https.to_string(), "-CAfile"]);
    command.arg(edge.file("data/tunnel-ca.pem"));
    match name {
        Some(name) => command.args(["-servername", name]),
        None => command.arg("-noservername"),
    };
    let mut client =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {APP}\r\nConnection: close\r\n\r\n");
    // It may have ended already.
    drop(client.stdin.take().unwrap().write_all(request.as_bytes()));
    let ended = client.wait_with_output().unwrap();
    format!("{}\n{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr))
}

#[tokio::test]
async fn a_server_name_counts_in_every_spelling() {
    let home = Home::published(Way::Quic).await;
    for name in ["app.example.test", "APP.Example.Test", "app.example.test.", "APP.EXAMPLE.TEST."] {
        let said = with_server_name(&home.edge, Some(name));
        assert!(said.contains("HTTP/1.1 200 OK"), "{name}: {said}");
    }
    let said = with_server_name(&home.edge, Some("other.example.test."));
    assert!(said.contains("HTTP/1.1 421 "), "another name in another spelling is another name: {said}");
    // No certificate is shown to whoever names none; the operator can see why.
    for (name, cause) in [
        (None, "no_certificate"),
        (Some("127.0.0.1"), "no_certificate"),
        (Some("unknown.test"), "no_certificate"),
        (Some("app.example.test:443"), "invalid_server_name"),
    ] {
        let said = with_server_name(&home.edge, name);
        assert!(!said.contains("HTTP/1.1"), "{name:?}: {said}");
        let metrics = home.edge.metrics().await;
        assert!(metrics.contains(&format!("tls_handshake_failures_total{{cause=\"{cause}\"}}")), "{metrics}");
    }
    drop(home.edge.program.says("TLS handshake failed"));
}

/// The status that curl gets, with this certificate and at most this version of TLS.
fn curl(edge: &Edge, host: &str, pair: Option<&Pair>, options: [&str; 2]) -> String {
    let port = edge.https.port();
    let mut command = Command::new("curl");
    command.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]);
    command.arg(edge.file("data/tunnel-ca.pem")).args(["--resolve", &format!("{host}:{port}:127.0.0.1")]);
    command.args(["--tls-max", options[0], options[1]]);
    if let Some(pair) = pair {
        command.arg("--cert").arg(&pair.certificate).arg("--key").arg(&pair.key);
    }
    let ended = command.arg(format!("https://{host}:{port}/")).output().unwrap();
    assert!(ended.status.success(), "{host} {options:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

#[tokio::test]
async fn a_missing_or_wrong_client_certificate_is_answered() {
    let (ours, others) = (Authority::new(), Authority::new());
    let ca = ours.file();
    let lines = format!(
        "hostnames:\n  app.example.test: {{ client-certificates: {{ ca: {0} }} }}\n  may.example.test: {{ client-certificates: {{ ca: {0}, required: false }} }}",
        ca.display()
    );
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(&lines).start();
    let rules = "  - hostname: '*.example.test'\n    service: http_status:204\n  - service: http_status:404";
    let _connector = Connector::start(Way::Quic, &edge, "home", rules);
    edge.has_connections(4).await;
    edge.serves(&["*.example.test"]).await;
    let (member, stranger, late) =
        (ours.client("Ann"), others.client("Mallory"), ours.expired_client("Ann of old"));
    let server = ours.server(&["app.example.test"]);
    let cases: [(&str, Option<&Pair>, &str, &str); 5] = [
        ("a member", Some(&member), "204", "204"),
        ("nobody", None, "403", "204"),
        ("a stranger", Some(&stranger), "403", "403"),
        ("an expired member", Some(&late), "403", "403"),
        ("a server's certificate", Some(&server), "403", "403"),
    ];
    for version in ["1.2", "1.3"] {
        for protocol in ["--http1.1", "--http2"] {
            for (who, pair, required, optional) in cases {
                let options = [version, protocol];
                assert_eq!(curl(&edge, APP, pair, options), required, "{who}, {options:?}");
                assert_eq!(curl(&edge, "may.example.test", pair, options), optional, "{who}, {options:?}");
            }
        }
    }
    drop(edge.program.says("the client certificate is not valid"));
    let metrics = edge.metrics().await;
    assert!(metrics.contains("tls_handshake_failures_total{cause=\"client_certificate\"} 24"), "{metrics}");
    let records = edge.records(40).await;
    for code in ["certificate_required", "certificate_invalid"] {
        assert!(records.iter().any(|record| record["error"] == code), "{code}");
    }
}

/// The first datagram of a client whose handshake fits into one.
async fn first_datagram(edge: &Edge, name: &str, alpn: &[u8]) -> Vec<u8> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(edge.file("data/tunnel-ca.pem")).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicClientConfig::try_from(Arc::new(tls)).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let _connecting = endpoint.connect_with(config, nobody.local_addr().unwrap(), name).unwrap();
    let mut datagram = vec![0; 2000];
    let length = nobody.recv(&mut datagram).await.unwrap();
    datagram.truncate(length);
    datagram
}

/// Sends one datagram and counts the bytes that come back within a few seconds.
fn answered(to: SocketAddr, datagram: &[u8]) -> usize {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    socket.send_to(datagram, to).unwrap();
    let (mut bytes, mut buffer) = (0, [0; 2000]);
    while let Ok(length) = socket.recv(&mut buffer) {
        bytes += length;
    }
    bytes
}

/// RFC 9000, section 8.1.
#[tokio::test]
async fn quic_sends_an_unproven_address_three_times_its_bytes_at_most() {
    let home = Home::published(Way::Quic).await;
    let doors = [
        (home.edge.https, APP, &b"h3"[..]),
        (home.edge.https, names::HOST_QUIC, b"argotunnel"),
        (home.edge.tunnel[0], names::HOST_QUIC, b"argotunnel"),
    ];
    for (address, name, alpn) in doors {
        let datagram = first_datagram(&home.edge, name, alpn).await;
        assert!((1200..1300).contains(&datagram.len()), "{}", datagram.len());
        let counted = tokio::task::spawn_blocking(move || (answered(address, &datagram), datagram.len()));
        let (back, sent) = counted.await.unwrap();
        assert!(back >= sent, "{name}: the handshake is answered, {back} bytes");
        assert!(back <= 3 * sent, "{name}: {back} bytes for {sent}");
    }
    // Visitors whose addresses are theirs notice nothing.
    let answer = home.edge.visitor3().get(APP, "/bytes/1000000").await;
    assert_eq!(answer.body.len(), 1_000_000);
}
