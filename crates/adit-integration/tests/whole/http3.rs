//! HTTP/3 beside the other two, on the same port number.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use adit_http3::frame::{DATA, GOAWAY, HEADERS, SETTINGS, put_header};
use adit_testkit::home::APP;
use adit_testkit::visitor3::{Sender3, Visitor3, head_frame};
use adit_testkit::{Connector, Edge, Home, Way};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, Request, StatusCode};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn requests_and_answers_arrive_as_they_were_sent() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let mut sender = home.edge.visitor3().connect(APP).await;
        let payload = Bytes::from((0..5_000_000_u32).map(|number| (number % 251) as u8).collect::<Vec<_>>());
        let answer = sender.ask(Method::POST, APP, "/echo", payload.clone()).await;
        assert!(answer.body == payload, "{way:?}: {} bytes", answer.body.len());
        let answer = sender.ask(Method::GET, APP, "/request?a=%2F", Bytes::new()).await;
        let seen: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((&seen["method"], &seen["target"]), (&"GET".into(), &"/request?a=%2F".into()));
        assert!(seen.to_string().contains("3.0 adit"), "{seen}");
        assert!(!seen.to_string().contains("transfer-encoding"), "no body is no body: {seen}");
        assert!(!answer.header("date").is_empty() && !answer.header("content-length").is_empty());
        let head = sender.ask(Method::HEAD, APP, "/bytes/100", Bytes::new()).await;
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0), "{way:?}");
        let missing = sender.ask(Method::GET, APP, "/status/404", Bytes::new()).await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND);
        let bulk = sender.ask(Method::GET, APP, "/bytes/30000000", Bytes::new()).await;
        assert_eq!(bulk.body.len(), 30_000_000, "{way:?}");
    }
}

#[tokio::test]
async fn trailers_and_broken_answers_are_told() {
    let home = Home::published_with(Way::Http2, "      http2Origin: true").await;
    let mut sender = home.edge.visitor3().connect(APP).await;
    let request = Request::post(format!("https://{APP}/grpc")).header("te", "trailers");
    let request = request.header("content-type", "application/grpc").body(()).unwrap();
    let answer = sender.send(request, Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!((answer.body.as_ref(), answer.trailers["grpc-status"].as_bytes()), (&b"hello"[..], &b"0"[..]));
    let request = Request::get(format!("https://{APP}/broken")).body(()).unwrap();
    assert!(sender.send(request, Bytes::new()).await.is_err(), "half an answer never looks whole");
    let answer = sender.ask(Method::GET, APP, "/bytes/10", Bytes::new()).await;
    assert_eq!(answer.status, StatusCode::OK, "the connection goes on");
}

#[tokio::test]
async fn websockets_pass() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let mut socket = home.edge.visitor3().websocket(APP, "/websocket").await;
        for size in [0_usize, 125, 70_000, 1_000_000] {
            let sent = Message::binary(vec![7; size]);
            socket.send(sent.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), sent, "{way:?}");
        }
        socket.close(None).await.unwrap();
        assert!(matches!(socket.next().await, None | Some(Ok(Message::Close(_)))), "{way:?}");
    }
}

#[tokio::test]
async fn visitors_are_told_where_it_is_and_tunnels_share_its_port() {
    let home = Home::published(Way::Quic).await;
    let answer = home.visitor().get(APP, "/").await;
    assert_eq!(answer.header("alt-svc"), format!("h3=\":{}\"; ma=86400", home.edge.https.port()));
    // Another connector dials the port of HTTPS.
    let origin = home.origin.address;
    let rules = format!(
        "ingress:\n  - hostname: beside.example.test\n    service: http://{origin}\n  - service: http_status:404\n"
    );
    let edge = &home.edge;
    let connector = Connector::start_at(Way::Quic, edge.folder(), &[edge.https], "home", &rules);
    drop(connector.program.says("Registered tunnel connection"));
    home.edge.serves(&["beside.example.test"]).await;
    assert_eq!(home.edge.visitor3().get("beside.example.test", "/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_visitor_may_change_his_address_within_a_request() {
    let home = Home::published(Way::Http2).await;
    let visitor = home.edge.visitor3();
    let mut sender = visitor.connect(APP).await;
    let origin = &home.origin;
    let (answer, ()) = tokio::join!(sender.ask(Method::GET, APP, "/held", Bytes::new()), async {
        origin.has_held(1).await;
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        visitor.endpoint.rebind(socket).unwrap();
        origin.release();
    });
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(sender.ask(Method::GET, APP, "/bytes/1000000", Bytes::new()).await.body.len(), 1_000_000);
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_takes_nothing_new() {
    let mut home = Home::published(Way::Quic).await;
    let mut sender: Sender3 = home.edge.visitor3().connect(APP).await;
    let asking = tokio::spawn(async move { sender.ask(Method::GET, APP, "/held", Bytes::new()).await });
    home.origin.has_held(1).await;
    home.edge.program.signal("TERM");
    drop(home.edge.program.says("draining"));
    home.origin.release();
    assert_eq!(asking.await.unwrap().status, StatusCode::OK);
    assert_eq!(home.edge.program.ends(), Some(0));
}

/// RFC 9114: what a visitor must not do ends the connection, or the stream, with the code that the RFC names.
#[tokio::test]
async fn broken_rules_have_the_rfc_s_codes() {
    let home = Home::published(Way::Quic).await;
    let visitor = home.edge.visitor3();
    let frame = |kind: u64, payload: &[u8]| {
        let mut out = BytesMut::new();
        put_header(kind, payload.len(), &mut out);
        out.extend_from_slice(payload);
        out.to_vec()
    };
    let control = [&[0][..], &frame(SETTINGS, &[])].concat();
    let uni_streams: [(&str, Vec<Vec<u8>>, u64); 8] = [
        ("two control streams", vec![control.clone(), control.clone()], 0x103),
        ("no settings", vec![[&[0][..], &frame(GOAWAY, &[0])].concat()], 0x10a),
        ("settings twice", vec![[&control[..], &frame(SETTINGS, &[])].concat()], 0x105),
        ("a setting of HTTP/2", vec![[&[0][..], &frame(SETTINGS, &[2, 0])].concat()], 0x109),
        ("data on the control stream", vec![[&control[..], &frame(DATA, b"x")].concat()], 0x105),
        ("a reserved frame on the control stream", vec![[&control[..], &frame(0x6, b"x")].concat()], 0x105),
        ("a push", vec![vec![1]], 0x103),
        ("an entry for the dynamic table", vec![vec![2, 0x3f, 0xe1, 0x1f]], 0x201),
    ];
    for (what, streams, code) in uni_streams {
        let quic = visitor.quic(APP).await.unwrap();
        for bytes in streams {
            let mut stream = quic.open_uni().await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            // To drop it would end it.
            std::mem::forget(stream);
        }
        assert_eq!(closed_with(&quic).await, code, "{what}");
    }
    let requests: [(&str, Vec<u8>, u64); 5] = [
        ("data before the head", frame(DATA, b"x"), 0x105),
        ("a frame of HTTP/2", frame(0x2, b"x"), 0x105),
        ("settings on a request", frame(SETTINGS, b""), 0x105),
        ("a table that is not there", frame(HEADERS, &[1, 0, 0x80]), 0x200),
        ("a head of a megabyte", frame(HEADERS, &[0; 1_000_000])[..20].to_vec(), 0x107),
    ];
    for (what, bytes, code) in requests {
        let quic = visitor.quic(APP).await.unwrap();
        let (mut send, _recv) = quic.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        assert_eq!(closed_with(&quic).await, code, "{what}");
    }
}

async fn closed_with(quic: &quinn::Connection) -> u64 {
    match tokio::time::timeout(Duration::from_secs(10), quic.closed()).await.unwrap() {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_malformed_request_costs_its_stream_alone() {
    let home = Home::published(Way::Quic).await;
    let quic = home.edge.visitor3().quic(APP).await.unwrap();
    let good = [(":method", "GET"), (":scheme", "https"), (":authority", APP), (":path", "/")];
    let malformed: [&[(&str, &str)]; 4] = [
        &[("Upper", "case")],
        &[("connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[(":path", "/twice")],
    ];
    for more in malformed {
        let (mut send, mut recv) = quic.open_bi().await.unwrap();
        send.write_all(&head_frame(&[&good[..], more].concat())).await.unwrap();
        send.finish().unwrap();
        let reset = recv.read_to_end(10).await;
        assert!(
            matches!(&reset, Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) if code.into_inner() == 0x10e),
            "{more:?}: {reset:?}"
        );
    }
    let (mut send, mut recv) = quic.open_bi().await.unwrap();
    send.write_all(&head_frame(&good)).await.unwrap();
    send.finish().unwrap();
    assert!(!recv.read_to_end(100_000).await.unwrap().is_empty(), "the connection goes on");
}

/// A body that is shorter than it says never reaches the origin as a whole one.
#[tokio::test]
async fn a_body_that_lies_about_its_length_is_no_request() {
    for way in Way::ours() {
        let home = Home::published(way).await;
        let visitor: Visitor3 = home.edge.visitor3();
        for length in ["100", "1"] {
            let mut sender = visitor.connect(APP).await;
            let request =
                Request::post(format!("https://{APP}/echo")).header("content-length", length).body(());
            let answer = sender.send(request.unwrap(), Bytes::from_static(b"hello")).await;
            assert!(
                answer.is_err() || answer.as_ref().is_ok_and(|answer| answer.body != "hello"),
                "{answer:?}"
            );
        }
    }
}

/// An origin that does not read holds back the visitor, not the memory of the edge.
#[tokio::test]
async fn a_stalled_origin_holds_the_visitor_not_memory() {
    // It takes connections, and nothing else.
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
    let rules = format!("  - service: http://{}", origin.local_addr().unwrap());
    let _connector = Connector::start(Way::Http2, &edge, "home", &rules);
    edge.has_connections(4).await;
    let visitor = edge.visitor3();
    drop(visitor.quic(APP).await.unwrap());
    let before = edge.program.memory();
    let uploads: Vec<_> = (0..8)
        .map(|_| {
            let quic = visitor.quic(APP);
            async {
                let quic = quic.await.unwrap();
                let (mut send, _recv) = quic.open_bi().await.unwrap();
                let head = [(":method", "POST"), (":scheme", "https"), (":authority", APP), (":path", "/")];
                send.write_all(&head_frame(&head)).await.unwrap();
                // Frames of one byte are the worst case for whoever keeps them.
                let tiny: Vec<u8> = [0, 1, b'x'].repeat(100_000);
                let writing = async {
                    for _ in 0..200 {
                        send.write_all(&tiny).await.unwrap();
                    }
                };
                assert!(tokio::time::timeout(Duration::from_secs(3), writing).await.is_err(), "held back");
            }
        })
        .collect();
    futures_util::future::join_all(uploads).await;
    let grown = edge.program.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "the edge grew by {} MiB", grown >> 20);
}

/// Passes datagrams between visitors and an edge, each visitor from a port of his own. Says how much went each way and
/// whether the edge asked for a proof of the address (RFC 9000, section 8).
struct Relay {
    address: std::net::SocketAddr,
    sent: Arc<AtomicUsize>,
    received: Arc<AtomicUsize>,
    retried: Arc<AtomicBool>,
}

/// Passes `first` datagrams of each visitor, and nothing back to him unless `answers`.
async fn relay(edge: std::net::SocketAddr, first: usize, answers: bool) -> Relay {
    let socket = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let relay = Relay {
        address: socket.local_addr().unwrap(),
        sent: Arc::default(),
        received: Arc::default(),
        retried: Arc::default(),
    };
    let (sent, received, retried) = (relay.sent.clone(), relay.received.clone(), relay.retried.clone());
    tokio::spawn(async move {
        let mut visitors: HashMap<std::net::SocketAddr, (Arc<tokio::net::UdpSocket>, usize)> = HashMap::new();
        let mut data = vec![0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut data).await {
            if let Entry::Vacant(place) = visitors.entry(from) {
                let out = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
                let (back, near) = (out.clone(), socket.clone());
                let (received, retried) = (received.clone(), retried.clone());
                tokio::spawn(async move {
                    let mut data = vec![0; 2048];
                    while let Ok((length, _)) = back.recv_from(&mut data).await {
                        received.fetch_add(length, Ordering::SeqCst);
                        retried.fetch_or(data[0] & 0xf0 == 0xf0, Ordering::SeqCst);
                        if answers {
                            drop(near.send_to(&data[..length], from).await);
                        }
                    }
                });
                place.insert((out, 0));
            }
            let (out, count) = visitors.get_mut(&from).unwrap();
            *count += 1;
            if *count <= first {
                sent.fetch_add(length, Ordering::SeqCst);
                drop(out.send_to(&data[..length], edge).await);
            }
        }
    });
    relay
}

#[tokio::test]
async fn a_stranger_gets_no_more_than_three_times_what_he_sends() {
    let home = Home::published(Way::Quic).await;
    let relay = relay(home.edge.https, 2, false).await;
    let visitor = home.edge.visitor3_at(relay.address);
    assert!(tokio::time::timeout(Duration::from_secs(4), visitor.quic(APP)).await.is_err());
    let (sent, received) = (relay.sent.load(Ordering::SeqCst), relay.received.load(Ordering::SeqCst));
    assert!(sent >= 1200 && received > 0 && received <= 3 * sent, "{received} bytes for {sent}");
}

#[tokio::test]
async fn under_load_strangers_prove_their_address_first() {
    let home = Home::published(Way::Quic).await;
    let flood = relay(home.edge.https, 1, false).await;
    let waiting: Vec<_> = (0..240).map(|_| home.edge.visitor3_at(flood.address)).collect();
    let mut dialling = Vec::new();
    // A socket's buffer holds so many at once.
    for batch in waiting.chunks(40) {
        dialling.extend(batch.iter().map(|visitor| visitor.endpoint.connect(flood.address, APP).unwrap()));
        while flood.sent.load(Ordering::SeqCst) < dialling.len() * 1200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let honest = relay(home.edge.https, usize::MAX, true).await;
    let coming_in = async {
        while !honest.retried.load(Ordering::SeqCst) {
            let visitor = home.edge.visitor3_at(honest.address);
            assert_eq!(visitor.get(APP, "/").await.status, StatusCode::OK, "whoever is there comes in");
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(9), coming_in).await;
    assert!(
        came.is_ok(),
        "{} bytes of the flood, {} back",
        flood.sent.load(Ordering::SeqCst),
        flood.received.load(Ordering::SeqCst)
    );
    drop(dialling);
}
