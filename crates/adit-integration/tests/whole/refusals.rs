//! What is refused at the tunnel's door, with a clear word on the side that can act on it, and no harm to others.

use std::time::Duration;

use adit_testkit::home::APP;
use adit_testkit::{Connector, Edge, Home, Way};
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn an_unknown_tunnel_and_a_wrong_secret_are_refused_by_name() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let text = std::fs::read_to_string(home.edge.file("home.json")).unwrap();
        let credentials: serde_json::Value = serde_json::from_str(&text).unwrap();
        let (id, secret) =
            (credentials["TunnelID"].as_str().unwrap(), credentials["TunnelSecret"].as_str().unwrap());
        let wrong = "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I=";
        std::fs::write(home.edge.file("wrong.json"), text.replace(secret, wrong)).unwrap();
        let stranger = "11111111-2222-4333-8444-555555555555";
        std::fs::write(home.edge.file("stranger.json"), text.replace(id, stranger)).unwrap();
        for (tunnel, words) in [("wrong", "wrong secret"), ("stranger", "not known here")] {
            let refused = Connector::start(way, &home.edge, tunnel, "  - service: http_status:200");
            let theirs = refused.program.says(words);
            let ours = home.edge.program.says(words);
            for line in [theirs, ours, refused.program.said()] {
                assert!(!line.contains(wrong) && !line.contains(secret), "no secret in a message: {line}");
            }
        }
        assert_eq!(home.visitor().get(APP, "/").await.status, StatusCode::OK, "{way:?}: the others go on");
    }
}

#[tokio::test]
async fn a_name_that_is_not_granted_or_taken_is_refused_by_name() {
    for way in Way::all() {
        let edge =
            Edge::plan().tunnel("first", &["app.example.test"]).tunnel("second", &["*.example.test"]).start();
        let connections = if way.is_ours() { 4 } else { 2 };
        let rules = |status: u16, other: &str| {
            format!(
                "  - hostname: {APP}\n    service: http_status:{status}\n  - hostname: {other}\n    service: http_status:{status}\n  - service: http_status:404"
            )
        };
        let first = Connector::start(way, &edge, "first", &rules(201, "evil.other.test"));
        edge.has_connections(connections).await;
        drop(edge.program.says("evil.other.test"));
        if way.is_ours() {
            drop(first.program.says("evil.other.test"));
        }
        let _second = Connector::start(way, &edge, "second", &rules(202, "mine.example.test"));
        edge.has_connections(connections * 2).await;
        drop(edge.program.says_times(APP, 1));
        let visitor = edge.visitor();
        assert_eq!(visitor.get(APP, "/").await.status.as_u16(), 201, "{way:?}: who was first keeps the name");
        assert_eq!(visitor.get("mine.example.test", "/").await.status.as_u16(), 202, "{way:?}");
        assert!(edge.tunnels().await.to_string().contains("evil.other.test"), "and `tunnel info` shows it");
    }
}

#[tokio::test]
async fn noise_on_any_port_harms_nobody() {
    let home = Home::published(Way::Quic).await;
    let noise: Vec<u8> =
        (0..4096_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for address in [home.edge.tunnel[0], home.edge.https, home.edge.http] {
        for length in [1, 5, 24, 4096] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&noise[..length]).await.unwrap();
            drop(stream.shutdown().await);
            let mut answer = Vec::new();
            // Whatever comes, it comes to an end.
            let read = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer));
            drop(read.await.expect("the connection is closed"));
        }
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for length in [1, 21, 1200] {
            drop(socket.send_to(&noise[..length], address).await);
        }
    }
    assert_eq!(home.visitor().get(APP, "/").await.status, StatusCode::OK);
    assert!(!home.edge.program.said().contains("panicked"), "{}", home.edge.program.said());
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let home = Home::published(Way::Quic).await;
    for visitor in [home.visitor(), home.visitor().http2()] {
        let mut request = visitor.request(http::Method::GET, APP, "/", adit_testkit::visitor::empty());
        request.headers_mut().insert("x-large", "x".repeat(300_000).parse().unwrap());
        if let Ok(response) = visitor.send(APP, request).await {
            assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        assert_eq!(visitor.get(APP, "/").await.status, StatusCode::OK);
    }
}
