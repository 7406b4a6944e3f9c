//! Requests and answers arrive as they were sent.

use adit_testkit::home::APP;
use adit_testkit::visitor::{empty, full, streamed};
use adit_testkit::{Home, Visitor, Way};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

/// 5 MiB that no compression and no repetition hides mistakes in.
fn payload() -> Bytes {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(5 << 20).collect()
}

fn visitors(home: &Home) -> [Visitor; 2] {
    [home.visitor(), home.visitor().http2()]
}

fn header<'a>(request: &'a Value, name: &str) -> Vec<&'a str> {
    let list = request["headers"].as_array().unwrap().iter();
    list.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_request_reaches_a_service_that_has_no_address() {
    for way in Way::all() {
        let home = Home::published(way).await;
        for visitor in visitors(&home) {
            let answer = visitor.get(APP, "/some/path?a=1&b=%20").await;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (StatusCode::OK, "GET /some/path\n"),
                "{way:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_origin_learns_who_asks_and_visitors_cannot_lie_about_it() {
    for way in Way::all() {
        let home = Home::published(way).await;
        for visitor in visitors(&home) {
            let mut request = visitor.request(Method::GET, APP, "/request?q=%2F..", empty());
            for (name, value) in [
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-proto", "gopher"),
                ("x-real-ip", "6.6.6.6"),
                ("cf-connecting-ip", "6.6.6.6"),
                ("cf-cloudflared-proxy-connection-upgrade", "control-stream"),
                ("x-kept", "yes"),
            ] {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            let answer = visitor.ask(APP, request).await;
            let seen: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(seen["target"], "/request?q=%2F..", "{way:?}");
            assert_eq!(header(&seen, "host"), [APP]);
            assert_eq!(header(&seen, "x-forwarded-for"), ["127.0.0.1"]);
            assert_eq!(header(&seen, "x-forwarded-proto"), ["https"]);
            assert_eq!(header(&seen, "x-forwarded-host"), [APP]);
            assert_eq!(header(&seen, "x-real-ip"), ["127.0.0.1"]);
            assert_eq!(header(&seen, "x-request-id").len(), 1);
            assert_eq!(header(&seen, "x-kept"), ["yes"]);
            assert!(header(&seen, "via")[0].contains("adit"), "{seen}");
            assert!(!seen.to_string().contains("6.6.6.6"), "{seen}");
            assert!(!seen.to_string().contains("control-stream"), "{seen}");
        }
    }
}

#[tokio::test]
async fn uploads_arrive_whole_with_and_without_a_length() {
    let payload = payload();
    for way in Way::all() {
        let home = Home::published(way).await;
        for visitor in visitors(&home) {
            let answer = visitor.post(APP, "/echo", payload.clone()).await;
            assert!(answer.body == payload, "{way:?}: {} bytes came back", answer.body.len());
            let (mut sender, body) = streamed();
            let parts = payload.clone();
            let feeding = tokio::spawn(async move {
                for at in (0..parts.len()).step_by(100_000) {
                    let part = parts.slice(at..(at + 100_000).min(parts.len()));
                    sender.send_data(part).await.unwrap();
                }
            });
            let answer = visitor.ask(APP, visitor.request(Method::PUT, APP, "/echo", body)).await;
            feeding.await.unwrap();
            assert!(answer.body == payload, "{way:?}: {} bytes came back", answer.body.len());
        }
    }
}

#[tokio::test]
async fn an_origin_that_takes_no_chunks_is_told_the_length() {
    for way in Way::ours() {
        let home = Home::published_with(way, "      disableChunkedEncoding: true").await;
        for visitor in visitors(&home) {
            for (path, parts) in [("/request", 3), ("/echo", 30), ("/request", 0)] {
                let (mut sender, body) = streamed();
                let feeding = tokio::spawn(async move {
                    for _ in 0..parts {
                        sender.send_data(vec![b'y'; 1000].into()).await.unwrap();
                    }
                });
                let answer = visitor.ask(APP, visitor.request(Method::POST, APP, path, body)).await;
                feeding.await.unwrap();
                if path == "/echo" {
                    assert_eq!(answer.body.len(), parts * 1000, "{way:?}");
                    continue;
                }
                let seen: Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(header(&seen, "content-length"), [(parts * 1000).to_string()], "{way:?}");
                assert!(header(&seen, "transfer-encoding").is_empty(), "{way:?}: {seen}");
            }
        }
    }
}

/// An origin may answer without reading an upload: the answer arrives, and the visitor's connection stays good.
#[tokio::test]
async fn an_early_answer_costs_no_connection() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for way in Way::ours() {
        let home = Home::published(way).await;
        let mut stream = home.visitor().raw(APP).await.unwrap();
        for _ in 0..3 {
            let head = format!("POST /status/403 HTTP/1.1\r\nHost: {APP}\r\nContent-Length: 65536\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
                assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{way:?}: closed");
            }
            assert!(answer.starts_with(b"HTTP/1.1 403 "), "{way:?}: {}", String::from_utf8_lossy(&answer));
            stream.write_all(&[b'u'; 65536]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn large_answers_arrive_whole() {
    for way in Way::all() {
        let home = Home::published(way).await;
        for visitor in visitors(&home) {
            let answer = visitor.get(APP, "/bytes/20000000").await;
            assert_eq!(answer.body.len(), 20_000_000, "{way:?}");
            assert_eq!(answer.header("content-length"), "20000000");
        }
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    for way in Way::all() {
        let home = Home::published(way).await;
        for visitor in visitors(&home) {
            let request = visitor.request(Method::HEAD, APP, "/bytes/1000", empty());
            let head = visitor.ask(APP, request).await;
            assert_eq!(
                (head.status, head.header("content-length"), head.body.len()),
                (StatusCode::OK, "1000", 0),
                "{way:?}"
            );
            for (path, status) in [("/status/204", 204), ("/status/304", 304), ("/status/500", 500)] {
                let answer = visitor.get(APP, path).await;
                assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0), "{way:?} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_without_a_body_stays_without() {
    for way in Way::ours() {
        let home = Home::published(way).await;
        for visitor in visitors(&home) {
            for method in [Method::GET, Method::DELETE, Method::OPTIONS] {
                let answer = visitor.ask(APP, visitor.request(method, APP, "/request", empty())).await;
                let seen: Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(seen["has_body"], false, "{way:?} {seen}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_expects_100_continue_learns_what_the_origin_says() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for way in Way::all() {
        let home = Home::published(way).await;
        let mut stream = home.visitor().raw(APP).await.unwrap();
        let head = format!(
            "POST /echo HTTP/1.1\r\nHost: {APP}\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut first = [0; 13];
        stream.read_exact(&mut first).await.unwrap();
        // This origin answers without saying 100 before, which our connector does not hide; cloudflared cannot tell.
        let expected: &[u8; 13] = if way.is_ours() { b"HTTP/1.1 200 " } else { b"HTTP/1.1 100 " };
        assert_eq!(&first, expected, "{way:?}");
        stream.write_all(b"data").await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        let is_answered = way.is_ours() || rest.contains("HTTP/1.1 200 OK\r\n");
        assert!(is_answered && rest.contains("data"), "{way:?}: {rest}");
    }
}

#[tokio::test]
async fn grpc_works_with_messages_both_ways_and_trailers_at_the_end() {
    use http_body_util::BodyExt as _;
    // cloudflared's protocol has no trailers over QUIC: there it is our two ends only.
    let ways = Way::all().into_iter().filter(|way| *way != Way::CloudflaredQuic);
    for way in ways {
        let home = Home::published_with(way, "      http2Origin: true").await;
        // cloudflared speaks HTTP/2 to origins with TLS only, so the origin it asks here speaks 1.1, without trailers.
        if !way.is_ours() {
            continue;
        }
        let visitor = home.visitor().http2();
        let (mut sender, body) = streamed();
        let mut request = visitor.request(Method::POST, APP, "/grpc", body);
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        sender.send_data("one".into()).await.unwrap();
        let response = visitor.send(APP, request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc", "{way:?}");
        let mut answer = response.into_body();
        for message in ["one", "two", "three"] {
            let frame = answer.frame().await.unwrap().unwrap();
            assert_eq!(
                frame.into_data().unwrap(),
                message,
                "{way:?}: each message comes before the next is sent"
            );
            let next = if message == "one" { "two" } else { "three" };
            if message != "three" {
                sender.send_data(next.into()).await.unwrap();
            }
        }
        drop(sender);
        let trailers = loop {
            match answer.frame().await.expect("trailers").unwrap().into_trailers() {
                Ok(trailers) => break trailers,
                Err(frame) => assert!(frame.into_data().unwrap().is_empty()),
            }
        };
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"0".parse().unwrap(), &"fine".parse().unwrap())
        );
    }
}

/// gRPC's clients take a refusal only when its head ends the stream.
#[tokio::test]
async fn a_grpc_refusal_is_a_head_without_a_body() {
    for way in Way::ours() {
        let home = Home::published_with(way, "      http2Origin: true").await;
        let visitor = home.visitor().http2();
        let request = visitor.request(Method::POST, APP, "/grpc/refused", full("ask"));
        let response = visitor.send(APP, request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "5", "{way:?}");
        assert!(http_body::Body::is_end_stream(response.body()), "{way:?}: the head ends the stream");
    }
}

#[tokio::test]
async fn one_record_per_request_says_what_happened() {
    let home = Home::published(Way::Quic).await;
    let visitor = home.visitor();
    let mut request = visitor.request(Method::POST, APP, "/echo?x=1", full("four"));
    request.headers_mut().insert("user-agent", "test/1 \"quoted\"".parse().unwrap());
    visitor.ask(APP, request).await;
    let record = home.edge.records(1).await.remove(0);
    for (field, value) in [
        ("remote_addr", "127.0.0.1"),
        ("client_ip", "127.0.0.1"),
        ("request_method", "POST"),
        ("request_uri", "/echo?x=1"),
        ("http_host", APP),
        ("http_user_agent", "test/1 \"quoted\""),
        ("protocol", "HTTP/1.1"),
        ("scheme", "https"),
        ("tunnel", "home"),
        ("transport", "quic"),
    ] {
        assert_eq!(record[field], value, "{record}");
    }
    assert_eq!(
        (&record["status"], &record["body_bytes_sent"], &record["request_bytes"]),
        (&200.into(), &4.into(), &4.into())
    );
    assert!(record["upstream_response_time"].is_number() && record["request_time"].is_number(), "{record}");
    let metrics = Visitor::plain(home.edge.admin).get("localhost", "/metrics").await.text();
    assert!(metrics.contains("adit_"), "{metrics}");
}
