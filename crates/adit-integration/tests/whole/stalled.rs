//! Whoever does not read, or does not take, holds little and stops nobody else: visitors and origins, over both transports.

use std::time::{Duration, Instant};

use adit_testkit::home::APP;
use adit_testkit::visitor::{Incoming, Sender, Visitor, empty, streamed};
use adit_testkit::{Home, Way};
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;

/// More than any window on the way.
const LARGE: &str = "/stream/16777216";
/// What a good visitor waits at most, on a machine that runs other tests too.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the edge may grow by, in bytes: with our connector (promise 5), and with cloudflared, whose streams have one window
/// that is large enough for a fast reader.
fn growth_max(way: Way) -> usize {
    if way.is_ours() { 64 << 20 } else { 160 << 20 }
}

/// Asks some times, as somebody who knows nothing of the others; each time an answer comes soon.
async fn is_served(visitor: &Visitor, way: Way) {
    for number in 0..20 {
        let before = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, visitor.get(APP, "/bytes/100000")).await;
        let answer = answer.unwrap_or_else(|_| panic!("{way:?}: request {number} of a good visitor hangs"));
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 100_000), "{way:?}");
        assert!(before.elapsed() < PATIENCE, "{way:?}: request {number} took {:?}", before.elapsed());
    }
}

/// Response bodies that are not read, until they are dropped.
type Unread = Vec<(Sender, Vec<Response<Incoming>>)>;

async fn stall(visitor: &Visitor, connections: usize, streams: usize) -> Unread {
    let mut all = Vec::new();
    for _ in 0..connections {
        let mut sender = visitor.connect(APP).await.unwrap();
        let mut unread = Vec::new();
        for _ in 0..streams {
            unread.push(sender.send(visitor.request(Method::GET, APP, LARGE, empty())).await.unwrap());
        }
        all.push((sender, unread));
    }
    all
}

#[tokio::test]
async fn readers_that_stop_hold_little_and_stop_nobody() {
    for way in Way::all() {
        let home = Home::published(way).await;
        is_served(&home.visitor(), way).await;
        let before = home.edge.program.memory();
        for (visitor, connections, streams) in
            [(home.visitor().http2().with_window(0), 2, 120), (home.visitor(), 100, 1)]
        {
            let unread = stall(&visitor, connections, streams).await;
            is_served(&home.visitor(), way).await;
            let growth = home.edge.program.memory().saturating_sub(before);
            println!("{way:?}, {connections} connections of {streams}: {} MiB", growth >> 20);
            assert!(growth < growth_max(way), "{way:?}: the edge grew by {} MiB", growth >> 20);
            drop(unread);
            is_served(&home.visitor(), way).await;
        }
    }
}

#[tokio::test]
async fn a_reader_that_goes_on_gets_everything() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let mut stalled = stall(&home.visitor().http2().with_window(1 << 20), 1, 3).await;
        is_served(&home.visitor(), way).await;
        let (_sender, unread) = stalled.pop().unwrap();
        for response in unread {
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.len(), 16 << 20, "{way:?}");
        }
    }
}

#[tokio::test]
async fn uploads_that_nobody_takes_hold_little_and_stop_nobody() {
    for way in Way::all() {
        let home = Home::published(way).await;
        is_served(&home.visitor(), way).await;
        let before = home.edge.program.memory();
        let mut uploads = Vec::new();
        for _ in 0..150 {
            let (mut sender, body) = streamed();
            let visitor = home.visitor();
            let request = visitor.request(Method::POST, APP, "/held", body);
            let asked = tokio::spawn(async move { visitor.send(APP, request).await });
            let sending = tokio::spawn(async move {
                let piece = Bytes::from_static(&[b'x'; 16 * 1024]);
                while sender.send_data(piece.clone()).await.is_ok() {}
            });
            uploads.push((asked, sending));
        }
        home.origin.has_held(150).await;
        is_served(&home.visitor(), way).await;
        let growth = home.edge.program.memory().saturating_sub(before);
        assert!(growth < growth_max(way), "{way:?}: the edge grew by {} MiB", growth >> 20);
        for (asked, sending) in uploads {
            asked.abort();
            sending.abort();
        }
        is_served(&home.visitor(), way).await;
    }
}

/// Visitors that leave while nobody reads from them: with a byte that nobody asked for, in the middle of an upload that
/// waits, and with messages that nobody takes.
#[tokio::test]
async fn visitors_that_leave_bytes_behind_are_let_go() {
    let requests = [
        format!("GET /held HTTP/1.1\r\nhost: {APP}\r\n\r\nX"),
        format!("POST /held HTTP/1.1\r\nhost: {APP}\r\ncontent-length: 5\r\n\r\nwholeGET"),
        format!(
            "POST /held HTTP/1.1\r\nhost: {APP}\r\ncontent-length: 100000000\r\n\r\n{}",
            "x".repeat(2 << 20)
        ),
    ];
    for way in Way::ours() {
        let home = Home::published(way).await;
        let mut streams = Vec::new();
        for request in &requests {
            for _ in 0..5 {
                let mut stream = home.visitor().raw(APP).await.unwrap();
                // The last one does not get everything out: nobody takes it.
                drop(
                    tokio::time::timeout(Duration::from_millis(300), stream.write_all(request.as_bytes()))
                        .await,
                );
                streams.push(stream);
            }
        }
        home.origin.has_held(streams.len()).await;
        drop(streams);
        home.edge.has_visitors(0).await;
    }
}
