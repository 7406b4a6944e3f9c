//! Bytes of the real cloudflared, recorded once, against our edge: they still register, and still answer a visitor.
//!
//! To record anew: `CLOUDFLARED_BIN=… cargo test -p adit-integration -- --ignored record`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use adit_testkit::home::APP;
use adit_testkit::tap::{self, Recording, Said, Side};
use adit_testkit::visitor::Answer;
use adit_testkit::{Edge, Origin, Program};
use adit_wire::connect::decode_request_stream;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

/// The identity in the recordings. Nobody else's: it was made for them.
const TUNNEL: &str = "7d9a4b2c-51e6-4c0f-9b3a-2f6d8e1c0a45";
const SECRET: &str = "cmVjb3JkZWQgc2VjcmV0IGZvciB0ZXN0cyBvbmx5ISE=";
/// The path that the recorded visitor asked for.
const PATH: &str = "/recorded";
const PATIENCE: Duration = Duration::from_secs(10);

fn recording(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recordings").join(name)
}

fn read_recording(name: &str) -> Vec<Said> {
    Recording::from_text(&fs::read_to_string(recording(name)).unwrap())
}

fn edge() -> Edge {
    let lines = format!("tunnels:\n  home: {{ id: {TUNNEL}, secret-file: home.secret, hostnames: [{APP}] }}");
    let plan = Edge::plan().with(&lines);
    fs::write(plan.folder().join("home.secret"), SECRET).unwrap();
    plan.start()
}

#[tokio::test]
#[ignore = "records; needs CLOUDFLARED_BIN"]
async fn record() {
    let program = std::env::var_os("CLOUDFLARED_BIN").expect("CLOUDFLARED_BIN");
    for protocol in ["quic", "http2"] {
        let (edge, origin, heard) = (edge(), Origin::start(), Recording::default());
        let (to, data) = (edge.tunnel[0], edge.file("data"));
        let address = match protocol {
            "quic" => tap::quic(to, &data, heard.clone()),
            _ => tap::http2(to, &data, heard.clone()).await,
        };
        let credentials = format!(r#"{{"AccountTag":"","TunnelSecret":"{SECRET}","TunnelID":"{TUNNEL}"}}"#);
        fs::write(edge.file("home.json"), credentials).unwrap();
        let config = format!(
            "tunnel: {TUNNEL}\ncredentials-file: {}\nprotocol: {protocol}\nedge: ['{address}']\ncacert: {}\ningress:\n  - hostname: {APP}\n    service: http://{}\n  - service: http_status:404\n",
            edge.file("home.json").display(),
            edge.file("data/tunnel-ca.pem").display(),
            origin.address
        );
        fs::write(edge.file("config.yml"), config).unwrap();
        let mut command = Command::new(&program);
        command.args(["tunnel", "--no-autoupdate", "--config"]).arg(edge.file("config.yml")).arg("run");
        let _connector = Program::start(&mut command);
        edge.has_connections(1).await;
        // The upload of the configuration follows the registration.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(edge.visitor().get(APP, PATH).await.text(), format!("GET {PATH}\n"));
        let text = format!(
            "# cloudflared over {protocol}: registers, uploads its configuration, answers GET {PATH}.\n{}",
            heard.to_text()
        );
        fs::write(recording(&format!("cloudflared-{protocol}.txt")), text).unwrap();
    }
}

fn assert_recorded(answer: &Answer) {
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), format!("GET {PATH}\n"));
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
}

#[tokio::test]
async fn recorded_quic_registers_and_answers() {
    let said = read_recording("cloudflared-quic.txt");
    let edge = edge();
    let (_, tls) = tap::tls(&edge.file("data"));
    let endpoint = adit_tunnel::quic::client(([127, 0, 0, 1], 0).into(), tls.quic).unwrap();
    let connection = endpoint.connect(edge.tunnel[0], "quic.cftunnel.com").unwrap().await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let mut edge_spoke = false;
    for part in said.iter().filter(|part| part.stream == 0) {
        match part.side {
            Side::Edge => edge_spoke = true,
            Side::Connector => {
                if std::mem::take(&mut edge_spoke) {
                    assert!(some(&mut recv).await > 0, "the edge answers where it did when it was recorded");
                }
                send.write_all(&part.bytes).await.unwrap();
            }
        }
    }
    edge.has_connections(1).await;
    let visitor = edge.visitor();
    let asking = tokio::spawn(async move { visitor.get(APP, PATH).await });
    let (mut answer, mut request) = connection.accept_bi().await.unwrap();
    let target = read_request(&mut request).await;
    assert_eq!(&target[..], format!("https://{APP}{PATH}").as_bytes());
    for part in said.iter().filter(|part| part.stream == 1 && part.side == Side::Connector) {
        answer.write_all(&part.bytes).await.unwrap();
    }
    assert_recorded(&asking.await.unwrap());
    // The end of the stream comes after the whole body: the edge waits for it, and does not tell the connector to stop.
    answer.finish().unwrap();
    assert_eq!(answer.stopped().await.unwrap(), None);
}

/// Waits for some bytes; how many.
async fn some(from: &mut (impl AsyncRead + Unpin)) -> usize {
    let mut buffer = [0; 4096];
    tokio::time::timeout(PATIENCE, from.read(&mut buffer)).await.unwrap().unwrap()
}

/// The target of a request stream.
async fn read_request(from: &mut (impl AsyncRead + Unpin)) -> Bytes {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let length = from.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..length]);
        if let Some((request, _)) = decode_request_stream(&Bytes::copy_from_slice(&bytes)).unwrap() {
            return request.dest;
        }
        assert!(length > 0, "the request breaks off");
    }
}

#[tokio::test]
async fn recorded_http2_registers_and_answers() {
    let said = read_recording("cloudflared-http2.txt");
    let edge = edge();
    let (_, tls) = tap::tls(&edge.file("data"));
    let (mut recv, mut send) = tokio::io::split(tap::connect_tcp(edge.tunnel[0], &tls).await);
    let (mut recorded, mut heard) = (Frames::default(), Frames::default());
    let mut asking = None;
    for part in &said {
        match part.side {
            Side::Edge => recorded.add(&part.bytes),
            Side::Connector => {
                // The second request is the visitor's; the first is the control stream.
                if recorded.headers() > 1 && asking.is_none() {
                    edge.has_connections(1).await;
                    let visitor = edge.visitor();
                    asking = Some(tokio::spawn(async move { visitor.get(APP, PATH).await }));
                }
                while !heard.have(&recorded) {
                    let mut buffer = [0; 4096];
                    let read = tokio::time::timeout(PATIENCE, recv.read(&mut buffer)).await;
                    let length =
                        read.unwrap_or_else(|_| panic!("waiting for {recorded:?}, heard {heard:?}")).unwrap();
                    assert!(length > 0, "the edge closed the connection; heard {heard:?}");
                    heard.add(&buffer[..length]);
                }
                send.write_all(&part.bytes).await.unwrap();
                send.flush().await.unwrap();
            }
        }
    }
    assert_recorded(&asking.expect("a recorded request").await.unwrap());
}

/// Counts HTTP/2 frames of the edge: HEADERS, DATA and SETTINGS tell how far it is.
#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    seen_preface: bool,
    counts: [usize; 3],
}

impl Frames {
    const KINDS: [u8; 3] = [1, 0, 4];
    const PREFACE: usize = 24;
    const HEAD: usize = 9;

    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if !self.seen_preface && self.bytes.len() >= Self::PREFACE {
            self.seen_preface = true;
            self.bytes.drain(..Self::PREFACE);
        }
        while let Some(&[a, b, c, kind, ..]) = self.bytes.get(..Self::HEAD).filter(|_| self.seen_preface) {
            let length = Self::HEAD + u32::from_be_bytes([0, a, b, c]) as usize;
            if self.bytes.len() < length {
                return;
            }
            self.bytes.drain(..length);
            if let Some(at) = Self::KINDS.iter().position(|known| *known == kind) {
                self.counts[at] += 1;
            }
        }
    }

    fn headers(&self) -> usize {
        self.counts[0]
    }

    fn have(&self, recorded: &Self) -> bool {
        self.counts.iter().zip(recorded.counts).all(|(have, want)| *have >= want)
    }
}
