//! Visitors who are slow, many, or change their mind all the time: each is ended, and others are served.

use std::time::{Duration, Instant};

use adit_testkit::home::APP;
use adit_testkit::visitor::{empty, streamed, whole};
use adit_testkit::{Connector, Edge, Home, Origin, Visitor, Way};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Far above what the edge is told below, far below what a held visitor takes.
const SOON: Duration = Duration::from_secs(15);

/// A home whose edge has more lines in its file.
async fn home(way: Way, lines: &str) -> (Edge, Origin, Connector) {
    let origin = Origin::start();
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(lines).start();
    let connector = Connector::start(way, &edge, "home", &format!("  - service: http://{}", origin.address));
    edge.has_connections(4).await;
    (edge, origin, connector)
}

const FAST: &str = "defaults: { min-rate: { request: 10k, response: 10k, window: 1s, grace: 1s } }";

fn head(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {APP}\r\n{more}\r\n")
}

/// Reads until the end, however it comes.
async fn all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut heard = Vec::new();
    drop(timeout(SOON, stream.read_to_end(&mut heard)).await.unwrap());
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn a_body_that_trickles_is_answered_with_408() {
    for way in Way::ours() {
        let (edge, _origin, _connector) = home(way, FAST).await;
        for chunked in [false, true] {
            let stream = edge.visitor().raw(APP).await.unwrap();
            let (mut read, mut write) = tokio::io::split(stream);
            let framing =
                if chunked { "Transfer-Encoding: chunked\r\n" } else { "Content-Length: 100000\r\n" };
            write.write_all(head("POST", "/held", framing).as_bytes()).await.unwrap();
            let trickle = tokio::spawn(async move {
                let piece: &[u8] = if chunked { b"1\r\nx\r\n" } else { b"x" };
                while write.write_all(piece).await.is_ok() && write.flush().await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
            let mut answer = [0; 12];
            timeout(SOON, read.read_exact(&mut answer)).await.expect("in time").unwrap();
            assert_eq!(&answer, b"HTTP/1.1 408", "{way:?} {chunked}");
            trickle.abort();
        }
        // The same on HTTP/2 and HTTP/3.
        let visitor = edge.visitor().http2();
        let (mut sender, body) = streamed();
        let request = visitor.request(Method::POST, APP, "/held", body);
        let trickle = tokio::spawn(async move {
            while sender.send_data("x".into()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let answer = timeout(SOON, visitor.send(APP, request)).await.expect("in time").unwrap();
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT, "{way:?}");
        trickle.abort();
        assert!(edge.metrics().await.contains("overload_total{reason=\"slow_request\"} 3"));
    }
}

#[tokio::test]
async fn a_slow_origin_makes_no_visitor_slow() {
    for way in Way::ours() {
        let (edge, origin, _connector) = home(way, FAST).await;
        for visitor in [edge.visitor(), edge.visitor().http2()] {
            // The whole body is there; it is the origin that takes its time.
            let asked = tokio::spawn(async move { visitor.post(APP, "/held", vec![b'x'; 50_000]).await });
            origin.has_held(1).await;
            let held = timeout(Duration::from_secs(4), asked);
            assert!(held.await.is_err(), "{way:?}: it waits for the origin");
            origin.release();
        }
        // Events may be as rare as they like.
        let visitor = edge.visitor().http2();
        let events = visitor.send(APP, visitor.request(Method::GET, APP, "/events/3000", empty())).await;
        let mut body = events.unwrap().into_body();
        for _ in 0..2 {
            let frame = timeout(SOON, body.frame()).await.expect("an event").expect("an event");
            assert!(frame.is_ok(), "{way:?}");
        }
    }
}

async fn tls(edge: &Edge) -> tokio_rustls::client::TlsStream<TcpStream> {
    edge.visitor().raw(APP).await.unwrap()
}

async fn sends(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn a_reader_who_does_not_read_is_ended() {
    let idle = "defaults: { min-rate: false, timeouts: { idle: 2s } }";
    for (lines, reason) in [(FAST, "min-rate"), (idle, "timeouts.idle")] {
        for way in Way::ours() {
            let (edge, _origin, _connector) = home(way, lines).await;
            let mut stalled = Vec::new();
            for _ in 0..10 {
                let mut stream = tls(&edge).await;
                sends(&mut stream, &head("GET", "/bytes/50000000", "")).await;
                stalled.push(stream);
            }
            let records = edge.records(10).await;
            assert!(
                records.iter().all(|record| record["cause"].to_string().contains(reason)),
                "{way:?}: {records:?}"
            );
            // On HTTP/2 it is the stream that is ended; the connection goes on.
            let visitor = edge.visitor().http2();
            let mut connection = visitor.connect(APP).await.unwrap();
            let request = visitor.request(Method::GET, APP, "/bytes/50000000", empty());
            let unread = connection.send(request).await.unwrap();
            drop(edge.records(11).await);
            assert!(whole(unread).await.is_err(), "{way:?}: it was reset");
            let request = visitor.request(Method::GET, APP, "/", empty());
            assert_eq!(connection.send(request).await.unwrap().status(), StatusCode::OK);
            assert_eq!(edge.visitor().get(APP, "/").await.status, StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn a_connection_without_requests_ends_although_it_answers_pings() {
    let (edge, _origin, _connector) = home(Way::Http2, "limits: { idle: 2s }").await;
    let visitor = edge.visitor().http2();
    let mut connection = visitor.connect(APP).await.unwrap();
    let request = visitor.request(Method::GET, APP, "/", empty());
    assert_eq!(connection.send(request).await.unwrap().status(), StatusCode::OK);
    let quic = edge.visitor3().connect(APP).await;
    timeout(SOON, quic.quic.closed()).await.expect("HTTP/3 ends");
    let ended = async {
        while !edge.metrics().await.contains("overload_total{reason=\"idle\"} 2") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, ended).await.expect("HTTP/2 ends");
    let request = visitor.request(Method::GET, APP, "/", empty());
    assert!(connection.send(request).await.is_err(), "it is over");
}

#[tokio::test]
async fn one_address_leaves_room_for_others_and_idle_ones_go_first() {
    let lines = "http-mode: serve\nlimits: { connections: 20, connections-per-address: 10 }";
    let (edge, _origin, _connector) = home(Way::Http2, lines).await;
    // Idle ones make room for as many as come.
    let mut idle = Vec::new();
    for _ in 0..12 {
        idle.push(edge.visitor().raw(APP).await.unwrap());
    }
    assert_eq!(edge.visitor().get(APP, "/").await.status, StatusCode::OK);
    drop(idle);
    // Busy ones do not.
    let mut busy = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(edge.http).await.unwrap();
        sends(&mut stream, &head("POST", "/echo", "Content-Length: 10\r\n")).await;
        busy.push(stream);
    }
    let mut refused = 0;
    for _ in 0..10 {
        let mut stream = TcpStream::connect(edge.http).await.unwrap();
        sends(&mut stream, &head("POST", "/echo", "Content-Length: 10\r\n")).await;
        let mut start = [0; 12];
        let answered = timeout(Duration::from_secs(2), stream.read_exact(&mut start)).await;
        if matches!(answered, Ok(Ok(_))) && &start == b"HTTP/1.1 503" {
            assert!(all(&mut stream).await.to_lowercase().contains("retry-after: "));
            refused += 1;
        }
        busy.push(stream);
    }
    assert!(refused >= 9, "{refused} were refused");
    // Another address is served.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(edge.http).await.unwrap();
    sends(&mut other, &head("GET", "/", "Connection: close\r\n")).await;
    assert!(all(&mut other).await.starts_with("HTTP/1.1 200"));
    drop(edge.program.says("refusing connections"));
    drop(busy);
}

#[tokio::test]
async fn requests_in_flight_are_capped_by_the_visitor_whom_a_proxy_names() {
    let lines = "http-mode: serve\ntrusted: [127.0.0.1]\nlimits: { requests-per-address: 2 }";
    let (edge, origin, _connector) = home(Way::Http2, lines).await;
    let of = |last: u8| {
        let visitor = Visitor::plain(edge.http);
        let mut request = visitor.request(Method::GET, APP, "/held", empty());
        let fields = request.headers_mut();
        fields.insert("x-forwarded-for", format!("192.0.2.{last}").parse().unwrap());
        fields.insert("x-forwarded-proto", "https".parse().unwrap());
        async move { visitor.ask(APP, request).await }
    };
    let first = [tokio::spawn(of(1)), tokio::spawn(of(1))];
    origin.has_held(2).await;
    let refused = of(1).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers["retry-after"], "5");
    let other = tokio::spawn(of(2));
    origin.has_held(3).await;
    for _ in 0..3 {
        origin.release();
    }
    for asked in first.into_iter().chain([other]) {
        assert_eq!(asked.await.unwrap().status, StatusCode::OK);
    }
}

#[tokio::test]
async fn who_only_cancels_is_sent_away() {
    for way in Way::ours() {
        let (edge, _origin, _connector) = home(way, "").await;
        let visitor = edge.visitor().http2();
        let mut connection = visitor.connect(APP).await.unwrap();
        let mut ended = None;
        for number in 0..1_000 {
            let request = visitor.request(Method::GET, APP, "/held", empty());
            // Given up as soon as it is under way.
            match timeout(Duration::from_millis(5), connection.send(request)).await {
                Ok(Err(_)) => {
                    ended = Some(number);
                    break;
                }
                Ok(Ok(_)) => panic!("it is held"),
                Err(_) => {}
            }
        }
        let ended = ended.expect("the connection is ended");
        assert!((100..200).contains(&ended), "{way:?}: after {ended}");
        let begun = Instant::now();
        assert_eq!(edge.visitor().get(APP, "/").await.status, StatusCode::OK);
        assert!(begun.elapsed() < Duration::from_secs(1), "{way:?}");
        assert!(edge.metrics().await.contains("overload_total{reason=\"cancelling\"} 1"));
    }
}

/// The end of a stream may come after its last bytes. On HTTP/1.1 nobody waits for it who knows the length.
#[tokio::test]
async fn who_takes_whole_answers_on_one_connection_cancels_nothing() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let visitor = home.visitor();
        let mut connection = visitor.connect(APP).await.unwrap();
        for number in 0..300 {
            let request = visitor.request(Method::GET, APP, "/bytes/2000", empty());
            let response = connection.send(request).await;
            let response = response.unwrap_or_else(|error| panic!("{way:?}: request {number}: {error}"));
            assert_eq!(whole(response).await.unwrap().body.len(), 2000);
        }
    }
}

/// An origin that accepts one connection after the other and says what it likes.
async fn rude(says: fn(TcpStream) -> tokio::task::JoinHandle<()>) -> (Edge, Connector) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(says(stream));
        }
    });
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
    let connector = Connector::start(Way::Quic, &edge, "home", &format!("  - service: http://{address}"));
    edge.has_connections(4).await;
    (edge, connector)
}

#[tokio::test]
async fn an_origin_that_floods_or_trickles_loses_its_request() {
    let flood = |mut stream: TcpStream| {
        tokio::spawn(async move {
            while stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await.is_ok() {}
        })
    };
    let (edge, connector) = rude(flood).await;
    assert_eq!(edge.visitor().get(APP, "/").await.status, StatusCode::BAD_GATEWAY);
    drop(connector.program.says("more than 32 interim responses"));
    let trickle = |mut stream: TcpStream| {
        tokio::spawn(async move {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nX-Long: ").await);
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    };
    let (edge, connector) = rude(trickle).await;
    let answer = timeout(SOON, edge.visitor().get(APP, "/")).await.expect("in time");
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    drop(connector.program.says("did not complete a head"));
}
