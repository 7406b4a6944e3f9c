//! Responses to uploads that were not read arrive: the visitor is heard out, within bounds, before the connection is
//! closed.

use std::time::Duration;

use adit_testkit::home::APP;
use adit_testkit::{Connector, Edge, Home, Way};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How an upload says where it ends.
#[derive(Clone, Copy, Debug)]
enum Upload {
    Length,
    Chunked,
    /// Announces that it waits for 100, and does not wait.
    Expect,
}

const UPLOADS: [Upload; 3] = [Upload::Length, Upload::Chunked, Upload::Expect];

/// Uploads `size` bytes, all of them before it looks at the response, as many simple clients do.
async fn upload<IO>(mut stream: IO, host: &str, size: usize, how: Upload) -> std::io::Result<String>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let framing = match how {
        Upload::Length => format!("Content-Length: {size}"),
        Upload::Chunked => "Transfer-Encoding: chunked".to_owned(),
        Upload::Expect => format!("Content-Length: {size}\r\nExpect: 100-continue"),
    };
    stream.write_all(format!("POST /up HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n").as_bytes()).await?;
    let part = vec![b'x'; 50_000];
    for _ in 0..size / part.len() {
        if matches!(how, Upload::Chunked) {
            stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await?;
        }
        stream.write_all(&part).await?;
        if matches!(how, Upload::Chunked) {
            stream.write_all(b"\r\n").await?;
        }
    }
    if matches!(how, Upload::Chunked) {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    stream.flush().await?;
    let mut response = Vec::new();
    while !response.ends_with(b"too much") && stream.read_buf(&mut response).await? > 0 {}
    Ok(String::from_utf8_lossy(&response).into_owned())
}

/// An origin that answers at once, and reads what comes afterwards only if it is polite.
async fn hasty_origin() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
                        return;
                    }
                }
                let answer =
                    b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much";
                drop(stream.write_all(answer).await);
                drop(stream.shutdown().await);
                drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
            });
        }
    });
    address
}

#[tokio::test]
async fn an_answer_before_the_upload_is_read_arrives() {
    let origin = hasty_origin().await;
    for way in Way::all() {
        let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
        let rules =
            format!("  - hostname: {APP}\n    service: http://{origin}\n  - service: http_status:404");
        let _connector = Connector::start(way, &edge, "home", &rules);
        edge.serves(&[APP]).await;
        for size in [100_000, 5_000_000] {
            for how in UPLOADS {
                let stream = edge.visitor().raw(APP).await.unwrap();
                let response = upload(stream, APP, size, how).await;
                let response = response.unwrap_or_else(|error| panic!("{way:?} {size} {how:?}: {error}"));
                let response = response.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
                assert!(response.starts_with("HTTP/1.1 413 "), "{way:?} {size} {how:?}: {response}");
                assert!(response.ends_with("too much"), "{way:?} {size} {how:?}: {response}");
            }
        }
        for version in ["--http1.1", "--http2"] {
            curl(&edge, version, 5_000_000).await;
        }
    }
}

/// Uploads with curl, which must report the status and no error.
async fn curl(edge: &Edge, version: &str, size: usize) {
    let file = edge.file("upload");
    std::fs::write(&file, vec![b'x'; size]).unwrap();
    let port = edge.https.port();
    let output = tokio::process::Command::new("curl")
        .args(["-sS", version, "--cacert"])
        .arg(edge.file("data/tunnel-ca.pem"))
        .args(["--resolve", &format!("{APP}:{port}:127.0.0.1"), "-w", " %{http_code}", "--data-binary"])
        .arg(format!("@{}", file.display()))
        .arg(format!("https://{APP}:{port}/up"))
        .output()
        .await
        .unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{version}: {error}");
    assert!(said.ends_with(" 413"), "{version}: {said}");
}

/// The edge's own refusals, which read no byte of the body; with TLS and without.
#[tokio::test]
async fn the_edge_s_own_refusals_arrive() {
    let lines = "hostnames:\n  app.example.test: { body-limit: 1k }\n  no.example.test: { deny: [0.0.0.0/0, '::/0'] }\n";
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).with(lines).start();
    let rules = "  - hostname: '*.example.test'\n    service: http_status:200\n  - service: http_status:404";
    let _connector = Connector::start(Way::Quic, &edge, "home", rules);
    edge.has_connections(4).await;
    edge.serves(&["*.example.test"]).await;
    for (host, status) in [(APP, "413"), ("no.example.test", "403")] {
        for how in UPLOADS {
            let plain = upload_plain(&edge, host, how).await;
            assert!(plain.starts_with("HTTP/1.1 ") && plain.len() > 12, "{host} {how:?}: {plain}");
            let stream = edge.visitor().raw(host).await.unwrap();
            let response = upload(stream, host, 5_000_000, how).await.unwrap();
            let response = response.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{host} {how:?}: {response}");
        }
    }
}

async fn upload_plain(edge: &Edge, host: &str, how: Upload) -> String {
    let stream = TcpStream::connect(edge.http).await.unwrap();
    upload(stream, host, 5_000_000, how).await.unwrap_or_else(|error| panic!("plain {host} {how:?}: {error}"))
}

/// A visitor who never stops sending, or never closes, is not waited for.
#[tokio::test]
async fn a_connection_lingers_only_so_long() {
    let home = Home::published(Way::Quic).await;
    let mut stream = home.visitor().raw(APP).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {APP}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    assert!(response.starts_with(b"HTTP/1.1 200 "));
    // The visitor keeps its side open. The edge counts the connection no longer, soon.
    let gone = async {
        while !home.edge.metrics().await.contains("visitor_connections 0") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("the edge lets go");
}
