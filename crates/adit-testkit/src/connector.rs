//! Connectors in every way there is: ours and the real cloudflared, over both transports.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::edge::Edge;
use crate::program::{self, Program};

/// Which program connects, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Our connector over QUIC.
    Quic,
    /// Our connector over HTTP/2.
    Http2,
    /// The real cloudflared over QUIC.
    CloudflaredQuic,
    /// The real cloudflared over HTTP/2.
    CloudflaredHttp2,
}

impl Way {
    /// Ours, and cloudflared's when `CLOUDFLARED_BIN` names it.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let real =
            [Self::CloudflaredQuic, Self::CloudflaredHttp2].into_iter().filter(|_| cloudflared().is_some());
        Self::ours().into_iter().chain(real).collect()
    }

    /// Our connector over both transports.
    #[must_use]
    pub fn ours() -> [Self; 2] {
        [Self::Quic, Self::Http2]
    }

    /// Whether our own program connects.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Quic | Self::Http2)
    }

    /// As configurations spell it.
    #[must_use]
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Quic | Self::CloudflaredQuic => "quic",
            Self::Http2 | Self::CloudflaredHttp2 => "http2",
        }
    }

    fn command(self) -> Command {
        if self.is_ours() {
            let mut command = Command::new(program::adit());
            command.args(["connect", "--log-format", "json"]);
            return command;
        }
        let mut command = Command::new(cloudflared().unwrap_or_default());
        command.args(["tunnel", "--no-autoupdate"]);
        command
    }
}

fn cloudflared() -> Option<PathBuf> {
    std::env::var_os("CLOUDFLARED_BIN").map(PathBuf::from)
}

/// A running connector.
#[derive(Debug)]
pub struct Connector {
    /// The process.
    pub program: Program,
}

impl Connector {
    /// Starts a connector of a tunnel with ingress rules (a YAML list, indented by two).
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(way: Way, edge: &Edge, tunnel: &str, ingress: &str) -> Self {
        Self::start_with(way, edge, tunnel, ingress, "")
    }

    /// The same with more lines in its file.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_with(way: Way, edge: &Edge, tunnel: &str, ingress: &str, more: &str) -> Self {
        Self::start_at(way, edge.folder(), &edge.tunnel, tunnel, &format!("{more}\ningress:\n{ingress}\n"))
    }

    /// One that dials these addresses of an edge whose folder is given; `lines` are the rest of its file.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_at(way: Way, folder: &Path, edge: &[SocketAddr], tunnel: &str, lines: &str) -> Self {
        Self::start_in(&[], way, folder, edge, tunnel, lines)
    }

    /// The same with variables of the environment.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_in(
        environment: &[(&str, &str)],
        way: Way,
        folder: &Path,
        edge: &[SocketAddr],
        tunnel: &str,
        lines: &str,
    ) -> Self {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let config = folder.join(format!("config-{number}.yml"));
        let addresses: Vec<String> = edge.iter().map(|address| format!("'{address}'")).collect();
        let credentials = folder.join(format!("{tunnel}.json"));
        let id: serde_json::Value = serde_json::from_slice(&fs::read(&credentials).unwrap()).unwrap();
        let text = format!(
            "tunnel: {}\ncredentials-file: {}\nprotocol: {}\nedge: [{}]\ncacert: {}\ngrace-period: 5s\n{lines}",
            id["TunnelID"].as_str().unwrap(),
            credentials.display(),
            way.protocol(),
            addresses.join(", "),
            folder.join("data/tunnel-ca.pem").display(),
        );
        fs::write(&config, text).unwrap();
        let mut command = way.command();
        command.arg("--config").arg(&config).envs(environment.iter().copied());
        if !way.is_ours() {
            command.arg("run");
        }
        Self { program: Program::start(&mut command) }
    }
}
