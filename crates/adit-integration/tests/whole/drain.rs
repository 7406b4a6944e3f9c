//! A connector that leaves answers what it has begun: ours, the real cloudflared, and one that closes its control stream
//! as cloudflared does, made here by hand.

use std::time::{Duration, Instant};

use adit_testkit::home::APP;
use adit_testkit::visitor::empty;
use adit_testkit::{Edge, Home, Way, tap};
use adit_tunnel::Protocol;
use adit_tunnel::connector::{Dial, Link, Stream, dial};
use adit_wire::credentials::Credentials;
use adit_wire::fields::Fields;
use adit_wire::registration::{ClientInfo, ConnectionOptions, RegisterRequest, TunnelAuth};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Requests in flight and an event stream outlive the signal; a replica takes what is new.
#[tokio::test]
async fn requests_in_flight_and_events_outlive_the_signal() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let held: Vec<_> = (0..6)
            .map(|_| {
                let visitor = home.visitor();
                tokio::spawn(async move { visitor.get(APP, "/held").await })
            })
            .collect();
        home.origin.has_held(6).await;
        let visitor = home.visitor();
        let request = visitor.request(Method::GET, APP, "/events", empty());
        let mut events = visitor.send(APP, request).await.unwrap().into_body();
        let _replica = home.replica(way).await;
        let begun = Instant::now();
        home.connector.program.signal("TERM");
        // A grace period of 5 s is what the connector was given; the events go on for most of it.
        while begun.elapsed() < Duration::from_secs(3) {
            let frame = tokio::time::timeout(Duration::from_secs(2), events.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("{way:?}: no event"));
            assert!(matches!(frame, Some(Ok(_))), "{way:?}: cut after {:?}: {frame:?}", begun.elapsed());
        }
        (0..6).for_each(|_| home.origin.release());
        for answer in held {
            let answer = answer.await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "released"), "{way:?}");
        }
        assert_eq!(home.visitor().get(APP, "/").await.status, StatusCode::OK, "{way:?}");
    }
}

/// A connector with one connection, whose requests the test answers.
struct Connector {
    control: adit_tunnel::control::client::Control,
    requests: mpsc::Receiver<Stream>,
    /// Ends when the edge has closed the connection.
    connection: tokio::task::JoinHandle<()>,
}

impl Connector {
    async fn start(edge: &Edge, protocol: Protocol) -> Self {
        let (_, tls) = tap::tls(&edge.file("data"));
        let timeout = adit_testkit::program::PATIENCE;
        let mut link =
            dial(&Dial { edge: edge.tunnel[0], protocol, bind: None, tls, timeout }).await.unwrap();
        let text = std::fs::read(edge.file("home.json")).unwrap();
        link.register(&registration(&Credentials::from_json(&text).unwrap())).await.unwrap();
        let control = link.control();
        let (sender, requests) = mpsc::channel(8);
        let connection = tokio::task::spawn_local(serve(link, sender));
        let rules = format!(
            r#"{{"ingress":[{{"hostname":"{APP}","service":"http://localhost"}},{{"service":"http_status:404"}}]}}"#
        );
        control.update_local_configuration(rules.as_bytes()).await.unwrap();
        Self { control, requests, connection }
    }

    async fn next(&mut self) -> Stream {
        tokio::time::timeout(adit_testkit::program::PATIENCE, self.requests.recv()).await.unwrap().unwrap()
    }
}

fn registration(credentials: &Credentials) -> RegisterRequest {
    let client = ClientInfo {
        client_id: "6f1c8a52-0d5e-4a8b-9d5e-0123456789ab".parse().unwrap(),
        features: Vec::new(),
        version: "by hand".to_owned(),
        arch: "none".to_owned(),
    };
    RegisterRequest {
        auth: TunnelAuth {
            account_tag: credentials.account_tag.clone(),
            secret: credentials.tunnel_secret.clone(),
        },
        tunnel_id: credentials.tunnel_id,
        conn_index: 0,
        options: ConnectionOptions {
            client,
            origin_local_ip: None,
            replace_existing: false,
            compression_quality: 0,
            num_previous_attempts: 0,
        },
    }
}

async fn serve(mut link: Link, requests: mpsc::Sender<Stream>) {
    while let Ok(opening) = link.accept().await {
        let requests = requests.clone();
        tokio::task::spawn_local(async move {
            if let Ok(Some(stream)) = opening.read().await {
                drop(requests.send(stream).await);
            }
        });
    }
}

/// cloudflared closes its control stream once its `UnregisterConnection` is answered.
#[tokio::test]
async fn a_connection_outlives_its_control_stream_after_unregister() {
    for protocol in [Protocol::Quic, Protocol::Http2] {
        let work = async {
            let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
            let mut connector = Connector::start(&edge, protocol).await;
            let visitor = edge.visitor();
            let asking = tokio::spawn(async move { visitor.get(APP, "/").await });
            let stream = connector.next().await;
            connector.control.unregister(Duration::from_secs(5)).await.unwrap();
            connector.control.close();
            drop(edge.program.says("tunnel connection drains"));
            // No new requests come, and the old one is answered after a while, in parts.
            assert_eq!(edge.visitor().get(APP, "/").await.status, StatusCode::SERVICE_UNAVAILABLE);
            tokio::time::sleep(Duration::from_millis(500)).await;
            let fields = Fields::from_pairs(std::iter::empty());
            let mut body =
                stream.reply.head(200, &fields, Bytes::from_static(b"first, "), false).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            body.data(Bytes::from_static(b"then")).await.unwrap();
            body.finish().await.unwrap();
            let answer = asking.await.unwrap();
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (StatusCode::OK, "first, then"),
                "{protocol}"
            );
            // Then there is nothing left to wait for.
            let closed = tokio::time::timeout(Duration::from_secs(3), connector.connection).await;
            assert!(closed.is_ok(), "{protocol}: the edge closes the connection");
            edge.has_connections(0).await;
        };
        LocalSet::new().run_until(work).await;
    }
}

/// Without the call, the end of the control stream is the end of the connection.
#[tokio::test]
async fn a_connection_ends_with_its_control_stream() {
    for protocol in [Protocol::Quic, Protocol::Http2] {
        let work = async {
            let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
            let connector = Connector::start(&edge, protocol).await;
            edge.has_connections(1).await;
            connector.control.close();
            edge.has_connections(0).await;
            assert!(edge.program.said().contains("the control stream ended"), "{protocol}");
        };
        LocalSet::new().run_until(work).await;
    }
}
