//! Messages by the book: interim responses, expectations, trailers, and fields that belong to a status.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use adit_http3::frame::{FrameReader, Piece, SETTINGS};
use adit_http3::qpack;
use adit_testkit::home::APP;
use adit_testkit::visitor::empty;
use adit_testkit::visitor3::head_frame;
use adit_testkit::{Connector, Edge, Home, Origin, Way};
use bytes::BytesMut;
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(10);

/// An origin on HTTP/1.1 that answers by path, one request a connection.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { drop(serve(stream).await) });
        }
    });
    address
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let end = read_until(&mut stream, &mut bytes, b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let last = match path.as_str() {
        "/hints" => {
            stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\n\r\n").await?;
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlast"
        }
        "/sum" => {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nlast\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a=b\r\n\r\n"
        }
        "/empty" => {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\nX-Sum: 7\r\n\r\n"
        }
        "/upgrade" => {
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: HTTP/3.0\r\nConnection: Upgrade, close\r\nContent-Length: 0\r\n\r\n"
        }
        "/refuse" => "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "/continue" | "/silent" => {
            if path == "/continue" && head.contains("expect: 100-continue") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            read_until(&mut stream, &mut bytes, b"data").await?;
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlast"
        }
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    };
    stream.write_all(last.as_bytes()).await
}

/// Reads until the bytes have this mark; where it ends.
async fn read_until(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    mark: &[u8],
) -> std::io::Result<usize> {
    loop {
        if let Some(at) = bytes.windows(mark.len()).position(|window| window == mark) {
            return Ok(at + mark.len());
        }
        if stream.read_buf(bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn published(way: Way) -> (Edge, Connector) {
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
    let rules = format!("  - service: http://{}", origin().await);
    let connector = Connector::start(way, &edge, "home", &rules);
    edge.has_connections(4).await;
    (edge, connector)
}

/// Writes on a connection of HTTP/1.1 and reads to its end.
async fn raw(edge: &Edge, text: &str) -> String {
    let mut stream = edge.visitor().raw(APP).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap());
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn interim_responses_reach_clients_of_http1_and_http3() {
    for way in Way::ours() {
        let (edge, _connector) = published(way).await;
        let get = format!("GET /hints HTTP/1.1\r\nHost: {APP}\r\n");
        let answer = raw(&edge, &format!("{get}\r\n{get}Connection: close\r\n\r\n")).await;
        for message in answer.split_inclusive("last") {
            let order = [
                "HTTP/1.1 102 ",
                "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n",
                "HTTP/1.1 200 OK",
            ];
            let places: Vec<_> = order.iter().map(|part| message.find(part)).collect();
            assert!(places.is_sorted() && places[0] == Some(0), "{way:?}: {places:?} in {answer}");
        }
        assert_eq!(answer.matches("last").count(), 2, "{way:?}: {answer}");
        let old = raw(&edge, &format!("GET /hints HTTP/1.0\r\nHost: {APP}\r\n\r\n")).await;
        assert!(old.starts_with("HTTP/1.0 200 "), "HTTP/1.0 knows none: {old}");
        assert_eq!(statuses(&edge, "/hints").await, ["102", "103", "200"], "{way:?}");
        let visitor = edge.visitor().http2();
        assert_eq!(visitor.get(APP, "/hints").await.text(), "last", "{way:?}");
    }
}

/// The statuses of all heads that come for a GET on HTTP/3.
async fn statuses(edge: &Edge, path: &str) -> Vec<String> {
    let quic = edge.visitor3().quic(APP).await.unwrap();
    let mut control = quic.open_uni().await.unwrap();
    control.write_all(&[0, SETTINGS as u8, 0]).await.unwrap();
    let (mut send, mut recv) = quic.open_bi().await.unwrap();
    let head = [(":method", "GET"), (":scheme", "https"), (":authority", APP), (":path", path)];
    send.write_all(&head_frame(&head)).await.unwrap();
    send.finish().unwrap();
    let (mut reader, mut buffer, mut statuses) = (FrameReader::new(65_536), BytesMut::new(), Vec::new());
    loop {
        match reader.take(&mut buffer).unwrap() {
            Piece::NeedMore => match recv.read_chunk(65_536, true).await.unwrap() {
                Some(chunk) => buffer.extend_from_slice(&chunk.bytes),
                None => return statuses,
            },
            Piece::Headers(section) => {
                let fields = qpack::decode(section, 65_536, 100).unwrap();
                let status = String::from_utf8_lossy(&fields[0].value).into_owned();
                if status.starts_with('1') {
                    // The reader is one of requests, whose second head is the trailer section.
                    reader = FrameReader::new(65_536);
                }
                statuses.push(status);
            }
            Piece::Data(_) => {}
        }
    }
}

fn expecting(path: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {APP}\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
}

#[tokio::test]
async fn a_client_that_waits_is_told_to_go_on_by_the_origin() {
    for way in Way::ours() {
        let (edge, _connector) = published(way).await;
        for (path, is_prompt) in [("/continue", true), ("/silent", false)] {
            let mut stream = edge.visitor().raw(APP).await.unwrap();
            let begun = Instant::now();
            stream.write_all(expecting(path).as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let end = tokio::time::timeout(PATIENCE, read_until(&mut stream, &mut answer, b"\r\n\r\n"));
            let end = end.await.expect("an origin that says nothing holds nobody for ever").unwrap();
            assert_eq!(&answer[..end], b"HTTP/1.1 100 Continue\r\n\r\n", "{way:?} {path}");
            assert!(
                is_prompt || begun.elapsed() >= Duration::from_secs(1),
                "{way:?} {path}: {:?}",
                begun.elapsed()
            );
            stream.write_all(b"data").await.unwrap();
            drop(stream.read_to_end(&mut answer).await);
            let text = String::from_utf8_lossy(&answer);
            assert!(text.contains("HTTP/1.1 200 OK") && text.ends_with("last"), "{way:?} {path}: {text}");
        }
        let answer = raw(&edge, &expecting("/refuse")).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{way:?}: the body was not wanted: {answer}");
    }
}

#[tokio::test]
async fn trailers_that_nobody_announced_arrive() {
    for way in Way::ours() {
        let (edge, _connector) = published(way).await;
        for (path, text) in [("/sum", "last"), ("/empty", "")] {
            let http2 = edge.visitor().http2().get(APP, path).await;
            let http3 = edge.visitor3().get(APP, path).await;
            for answer in [http2, http3] {
                assert_eq!(answer.text(), text, "{way:?}");
                let sum = answer.trailers.get("x-sum").map(|sum| sum.as_bytes());
                assert_eq!(sum, Some(&b"7"[..]), "{way:?} {path}");
                assert!(!answer.trailers.contains_key("set-cookie"), "{way:?}: only a head sets cookies");
            }
        }
    }
}

#[tokio::test]
async fn a_426_response_names_the_protocol() {
    for way in Way::ours() {
        let (edge, _connector) = published(way).await;
        let answer =
            raw(&edge, &format!("GET /upgrade HTTP/1.1\r\nHost: {APP}\r\nConnection: close\r\n\r\n")).await;
        let answer = answer.to_ascii_lowercase();
        assert!(
            answer.starts_with("http/1.1 426 ") && answer.contains("\r\nupgrade: http/3.0\r\n"),
            "{way:?}: {answer}"
        );
        let answer = edge.visitor().http2().get(APP, "/upgrade").await;
        assert_eq!((answer.status.as_u16(), answer.header("upgrade")), (426, ""), "{way:?}");
    }
}

#[tokio::test]
async fn a_request_that_may_go_no_further_is_answered_here() {
    let home = Home::published(Way::Quic).await;
    let ask = |target: &str, more: &str| {
        format!("OPTIONS {target} HTTP/1.1\r\nHost: {APP}\r\n{more}Connection: close\r\n\r\n")
    };
    for request in [ask("*", ""), ask("/request", "Max-Forwards: 0\r\n")] {
        let answer = raw(&home.edge, &request).await.to_ascii_lowercase();
        assert!(
            answer.starts_with("http/1.1 204 ") && answer.contains("\r\nallow: get, "),
            "{request}: {answer}"
        );
    }
    let answer = raw(&home.edge, &ask("/request", "Max-Forwards: 3\r\n")).await;
    assert!(answer.contains(r#"["max-forwards","2"]"#), "{answer}");
    assert_eq!(home.origin.asked("/request"), 1);
}

#[tokio::test]
async fn heads_of_compressed_responses_agree() {
    let origin = Origin::start();
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with("defaults: { compress: true }").start();
    let rules = format!("  - service: http://{}", origin.address);
    let _connector = Connector::start(Way::Quic, &edge, "home", &rules);
    edge.has_connections(4).await;
    let target = "/say?size=5000&content-type=text/css&etag=%22a%22";
    for visitor in [edge.visitor(), edge.visitor().http2()] {
        let ask = async |method: Method, target: &str, validator: &str| {
            let mut request = visitor.request(method, APP, target, empty());
            request.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
            request.headers_mut().insert("if-none-match", validator.parse().unwrap());
            visitor.ask(APP, request).await
        };
        let full = ask(Method::GET, target, "\"b\"").await;
        assert_eq!((full.header("etag"), full.header("vary")), ("W/\"a\"", "accept-encoding"), "{full:?}");
        let head = ask(Method::HEAD, target, "\"b\"").await;
        for name in ["etag", "vary", "content-encoding", "content-type"] {
            assert_eq!(head.header(name), full.header(name), "{name}");
        }
        let unchanged = ask(Method::GET, "/say?status=304&etag=%22a%22", "W/\"a\"").await;
        assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED);
        assert_eq!((unchanged.header("etag"), unchanged.header("vary")), ("W/\"a\"", "accept-encoding"));
    }
}
