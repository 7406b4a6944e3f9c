//! Bytes pass as they come, in both directions, and an end on one side is an end on the other.

use std::time::Duration;

use adit_testkit::home::APP;
use adit_testkit::visitor::{empty, full, streamed, whole};
use adit_testkit::{Home, Way};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;

#[tokio::test]
async fn events_arrive_one_by_one() {
    for way in Way::all() {
        let home = Home::published(way).await;
        for (left, visitor) in [home.visitor(), home.visitor().http2()].into_iter().enumerate() {
            let request = visitor.request(Method::GET, APP, "/events", empty());
            let mut events = visitor.send(APP, request).await.unwrap().into_body();
            for number in 1..=3 {
                home.origin.tick();
                let expected = format!("data: {number}\n\n");
                let arrival = async {
                    loop {
                        let data = events.frame().await.unwrap().unwrap().into_data().unwrap();
                        if String::from_utf8_lossy(&data).contains(&expected) {
                            return;
                        }
                    }
                };
                let arrived = tokio::time::timeout(Duration::from_secs(5), arrival).await;
                assert!(arrived.is_ok(), "{way:?}: event {number}");
            }
            drop(events);
            home.origin.has_been_left(left + 1).await;
        }
    }
}

#[tokio::test]
async fn a_visitor_that_leaves_ends_the_request_at_the_origin() {
    for way in Way::all() {
        let home = Home::published(way).await;
        for (left, visitor) in [home.visitor(), home.visitor().http2()].into_iter().enumerate() {
            let request = visitor.request(Method::GET, APP, "/events", empty());
            let mut events = visitor.send(APP, request).await.unwrap().into_body();
            assert!(events.frame().await.unwrap().is_ok());
            drop(events);
            home.origin.has_been_left(left + 1).await;
        }
        assert_eq!(
            home.visitor().get(APP, "/").await.status,
            StatusCode::OK,
            "{way:?}: others are untouched"
        );
    }
}

#[tokio::test]
async fn a_broken_upload_is_no_complete_message_for_the_origin() {
    for way in Way::ours() {
        let home = Home::published(way).await;
        for (broken, visitor) in [home.visitor(), home.visitor().http2()].into_iter().enumerate() {
            let (mut sender, body) = streamed();
            let request = visitor.request(Method::POST, APP, "/echo", body);
            sender.send_data("half".into()).await.unwrap();
            let response = visitor.send(APP, request).await.unwrap();
            let mut echoed = response.into_body();
            assert_eq!(echoed.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
            sender.abort(std::io::Error::other("gone"));
            drop(echoed);
            home.origin.has_seen_broken_uploads(broken + 1).await;
        }
    }
}

#[tokio::test]
async fn a_broken_answer_is_broken_for_the_visitor() {
    for way in Way::all() {
        let home = Home::published(way).await;
        for visitor in [home.visitor(), home.visitor().http2()] {
            let request = visitor.request(Method::GET, APP, "/broken", empty());
            // The head may have come or not; what must not come is a whole answer.
            if let Ok(response) = visitor.send(APP, request).await {
                assert!(response.status().is_server_error() || whole(response).await.is_err(), "{way:?}");
            }
        }
        assert_eq!(
            home.visitor().get(APP, "/").await.status,
            StatusCode::OK,
            "{way:?}: others are untouched"
        );
    }
}

#[tokio::test]
async fn a_visitor_that_does_not_read_stops_the_origin_and_nobody_else() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let visitor = home.visitor();
        let request = visitor.request(Method::GET, APP, "/bytes/200000000", empty());
        let mut stalled = visitor.send(APP, request).await.unwrap().into_body();
        assert!(stalled.frame().await.unwrap().is_ok());
        for _ in 0..20 {
            assert_eq!(visitor.get(APP, "/bytes/100000").await.body.len(), 100_000, "{way:?}");
        }
        let memory = (home.edge.program.memory() + home.connector.program.memory()) >> 10;
        assert!(memory < 200 << 10, "{way:?}: {memory} KiB for an answer that nobody reads");
    }
}

#[tokio::test]
async fn cancelling_many_requests_harms_no_connection() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let visitor = home.visitor().http2();
        let before = home.edge.tunnels().await;
        for _ in 0..10 {
            let mut sender = visitor.connect(APP).await.unwrap();
            for _ in 0..100 {
                let mut asked = Box::pin(sender.send(visitor.request(Method::GET, APP, "/events", empty())));
                // Started, and given up before the answer.
                let given_up = tokio::time::timeout(Duration::from_millis(1), &mut asked).await;
                drop(given_up);
            }
            drop(sender);
        }
        assert_eq!(visitor.get(APP, "/").await.status, StatusCode::OK, "{way:?}");
        let ids = |tunnels: &serde_json::Value| -> Vec<String> {
            let list = tunnels["tunnels"][0]["connections"].as_array().unwrap().iter();
            list.map(|connection| connection["id"].to_string()).collect()
        };
        assert_eq!(ids(&before), ids(&home.edge.tunnels().await), "{way:?}: the same connections");
    }
}

/// Libraries close a connection on HTTP/2 at the hundredth empty frame. Neither the visitor's nor the origin's connection may
/// come to that, whatever the origin sends (this one sends an empty frame with each answer).
#[tokio::test]
async fn many_short_answers_share_connections_on_http2() {
    for way in Way::ours() {
        for (origin, path) in
            [("", "/echo"), ("      http2Origin: true", "/echo"), ("      http2Origin: true", "/grpc")]
        {
            let home = Home::published_with(way, origin).await;
            let visitor = home.visitor().http2();
            let mut sender = visitor.connect(APP).await.unwrap();
            for number in 0..250 {
                let mut request = visitor.request(Method::POST, APP, path, full(vec![7; 105]));
                request.headers_mut().insert("te", "trailers".parse().unwrap());
                let answer = whole(sender.send(request).await.unwrap()).await.unwrap();
                assert_eq!(answer.body.len(), 105, "{way:?} {origin} {path}: call {number}");
                assert_eq!(answer.trailers.len(), if path == "/grpc" { 2 } else { 0 }, "{way:?} {origin}");
            }
        }
    }
}
