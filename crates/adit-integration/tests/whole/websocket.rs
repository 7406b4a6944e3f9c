//! WebSockets, from HTTP/1.1 by upgrade and from HTTP/2 by extended CONNECT.

use std::time::Duration;

use adit_testkit::home::APP;
use adit_testkit::{Home, Way};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
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

/// One frame of a client, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut frame = vec![first];
    match length {
        0..=125 => frame.push(0x80 | length as u8),
        126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Everything that a client may say: texts, bytes, fragments with a ping between them, long and empty messages, a close
/// with a reason.
fn said() -> Vec<u8> {
    let (fin, more) = (0x80, 0x00);
    let (go_on, text, bytes, close, ping) = (0, 1, 2, 8, 9);
    [
        frame(fin | text, "héllo".as_bytes()),
        frame(fin | bytes, b"\x00\xff\x01"),
        frame(fin | text, b""),
        frame(more | text, b"in "),
        frame(fin | ping, b"are you there"),
        frame(more | go_on, b"three "),
        frame(fin | go_on, b"parts"),
        frame(fin | bytes, &[7; 125]),
        frame(fin | bytes, &[8; 126]),
        frame(fin | bytes, &[9; 65_535]),
        frame(fin | bytes, &vec![10; 1_000_000]),
        frame(fin | ping, b""),
        frame(fin | close, &[&4001_u16.to_be_bytes()[..], b"enough"].concat()),
    ]
    .concat()
}

/// Says all of it and hears until the end: head of the answer, and the bytes after it.
async fn conversation(stream: impl AsyncRead + AsyncWrite + Unpin, host: &str) -> (String, Vec<u8>) {
    let (mut read, mut write) = tokio::io::split(stream);
    let head = format!(
        "GET /websocket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    write.write_all(head.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        heard.push(read.read_u8().await.unwrap());
    }
    let head = String::from_utf8(heard).unwrap();
    let saying = async { write.write_all(&said()).await.unwrap() };
    let mut heard = Vec::new();
    let hearing = async {
        // A close without TLS's own goodbye is an end too.
        drop(read.read_to_end(&mut heard).await);
    };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(saying, hearing) }).await.unwrap();
    (head, heard)
}

#[tokio::test]
async fn frame_by_frame_it_is_the_same_with_us_and_without() {
    for way in Way::all() {
        let home = Home::published(way).await;
        let direct = TcpStream::connect(home.origin.address).await.unwrap();
        let (_, without) = conversation(direct, APP).await;
        let (head, with) = conversation(home.visitor().raw(APP).await.unwrap(), APP).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{way:?}: {head}");
        let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert!(head.to_ascii_lowercase().contains(&accept.to_ascii_lowercase()), "{way:?}: {head}");
        assert!(without.len() > 1_000_000 && without.ends_with(b"enough"), "{}", without.len());
        assert!(with == without, "{way:?}: {} bytes with us, {} without", with.len(), without.len());
    }
}
