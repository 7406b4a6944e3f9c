//! The chains: from a visitor's TLS to the same origin, by different programs.

use std::path::Path;

use anyhow::Result;

use super::Measured;
use super::live::Live;
use super::parts::{Stage, Started};
use super::peers;
use super::process::{Process, Usage};

/// Which programs stand between visitor and origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// nginx in front of the origin, no tunnel: the floor.
    Floor,
    /// nginx and rathole over TLS.
    RatholeTls,
    /// nginx and rathole over Noise.
    RatholeNoise,
    /// Our edge and our connector over QUIC.
    Quic,
    /// Our edge and our connector over HTTP/2.
    Http2,
    /// Our edge and cloudflared, over QUIC.
    Cloudflared,
    /// Our edge and cloudflared, over HTTP/2.
    CloudflaredHttp2,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Floor,
        Self::RatholeTls,
        Self::RatholeNoise,
        Self::Quic,
        Self::Http2,
        Self::Cloudflared,
        Self::CloudflaredHttp2,
    ];

    pub(crate) fn letter(self) -> char {
        match self {
            Self::Floor => 'a',
            Self::RatholeTls => 'b',
            Self::RatholeNoise => 'c',
            Self::Quic => 'd',
            Self::Http2 => 'e',
            Self::Cloudflared => 'f',
            Self::CloudflaredHttp2 => 'g',
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "nginx, no tunnel",
            Self::RatholeTls => "nginx + rathole, TLS",
            Self::RatholeNoise => "nginx + rathole, Noise",
            Self::Quic => "adit, QUIC",
            Self::Http2 => "adit, HTTP/2",
            Self::Cloudflared => "adit edge + cloudflared, QUIC",
            Self::CloudflaredHttp2 => "adit edge + cloudflared, HTTP/2",
        }
    }

    /// Whether both ends are ours.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Quic | Self::Http2)
    }

    /// Whether our edge is in front.
    pub(crate) fn has_our_edge(self) -> bool {
        self.is_ours() || matches!(self, Self::Cloudflared | Self::CloudflaredHttp2)
    }

    /// Whether gRPC passes: cloudflared's QUIC has no trailers.
    pub(crate) fn carries_trailers(self) -> bool {
        self != Self::Cloudflared
    }

    /// What has to be installed first.
    pub(crate) fn missing(self, tools: &Path) -> Option<String> {
        let program =
            ["nginx", "wrk", "curl", "openssl"].into_iter().find(|program| !peers::is_installed(program));
        if let Some(program) = program {
            return Some(format!("{program} is not installed (--install)"));
        }
        match self {
            Self::RatholeTls | Self::RatholeNoise if !peers::rathole(tools).is_file() => {
                Some("rathole is not installed (--install)".to_owned())
            }
            Self::Cloudflared | Self::CloudflaredHttp2 if peers::cloudflared().is_none() => {
                Some("CLOUDFLARED_BIN is not set".to_owned())
            }
            _ => None,
        }
    }
}

/// A running chain.
pub(crate) struct Chain {
    started: Started,
}

impl Chain {
    /// Starts the chain and waits until it answers.
    pub(crate) fn start(stage: &Stage, kind: Kind) -> Result<Self> {
        let started = match kind {
            Kind::Floor => stage.floor(),
            Kind::RatholeTls => stage.rathole("tls"),
            Kind::RatholeNoise => stage.rathole("noise"),
            Kind::Quic => stage.adit("quic"),
            Kind::Http2 => stage.adit("http2"),
            Kind::Cloudflared => stage.cloudflared("quic"),
            Kind::CloudflaredHttp2 => stage.cloudflared("http2"),
        }?;
        let chain = Self { started };
        chain.started.wait_for(&chain.url("1k"))?;
        Ok(chain)
    }

    pub(crate) fn url(&self, file: &str) -> String {
        format!("https://localhost:{}/{file}", self.started.port)
    }

    /// Visitors for loads that wrk cannot make.
    pub(crate) fn live(&self, stage: &Stage) -> Result<Live> {
        Live::new(self.started.port, &stage.certificate())
    }

    /// PSS in KiB by process.
    pub(crate) fn memory(&self) -> Vec<(String, u64)> {
        self.each(Process::memory)
    }

    /// Runs a load and counts what CPU time it took.
    pub(crate) fn watch<T>(&self, load: impl FnOnce() -> Result<T>) -> Result<Measured<T>> {
        let before = self.each(Process::cpu);
        let outcome = load()?;
        let after = self.each(Process::cpu);
        let used = |((name, after), (_, before)): ((String, Usage), (String, Usage))| {
            (name, after.saturating_sub(before))
        };
        Ok(Measured { outcome, cpu: after.into_iter().zip(before).map(used).collect() })
    }

    fn each<T>(&self, of: impl Fn(&Process) -> T) -> Vec<(String, T)> {
        self.started.processes.iter().map(|process| (process.name.clone(), of(process))).collect()
    }
}
