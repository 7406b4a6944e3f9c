//! WebSockets, from HTTP/1.1 by upgrade and from HTTP/2 by extended CONNECT.

use adit_testkit::home::APP;
use adit_testkit::{Home, Way};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn messages_pass_both_ways_and_the_close_too() {
    for way in Way::all() {
        let home = Home::published(way).await;
        for visitor in [home.visitor(), home.visitor().http2()] {
            let mut socket = visitor.websocket(APP, "/websocket").await;
            for size in [0_usize, 1, 125, 126, 70_000, 1_000_000] {
                let sent = Message::binary(vec![7; size]);
                socket.send(sent.clone()).await.unwrap();
                assert_eq!(socket.next().await.unwrap().unwrap(), sent, "{way:?}");
            }
            socket.send(Message::text("grüß dich")).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("grüß dich"));
            socket.close(None).await.unwrap();
            assert!(
                matches!(socket.next().await, None | Some(Ok(Message::Close(_)))),
                "{way:?}: the answer to the close"
            );
        }
    }
}

#[tokio::test]
async fn a_refused_upgrade_is_a_plain_answer() {
    for way in Way::ours() {
        let home = Home::published(way).await;
        let visitor = home.visitor();
        let mut request =
            visitor.request(http::Method::GET, APP, "/status/403", adit_testkit::visitor::empty());
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        assert_eq!(visitor.ask(APP, request).await.status, 403, "{way:?}");
    }
}
