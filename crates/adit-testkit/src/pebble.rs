//! A real certificate authority (pebble) and a real name server (bind9), on a loopback address of their own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

use crate::pki::{Authority, Pair};
use crate::program::Program;
use crate::visitor::Visitor;

/// Where the authority looks for proofs.
pub const HTTP: u16 = 5080;
/// See [`HTTP`].
pub const HTTPS: u16 = 5443;
/// The name of the TSIG key.
pub const KEY_NAME: &str = "adit-test";
const KEY: &str = "c2VjcmV0IG9mIGEgdGVzdCwgMzIgYnl0ZXMgbG9uZy4=";

/// A loopback address that no other test of this machine has.
#[must_use]
pub fn own_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 1 + high % 250, low, NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// A name server that answers for `acme.test`: every name is at one address, and a key may change it.
#[derive(Debug)]
pub struct NameServer {
    /// Where it answers.
    pub address: SocketAddr,
    program: Program,
    folder: TempDir,
}

impl NameServer {
    /// Starts it; every name of its zone is at `at`.
    ///
    /// # Panics
    /// When bind9 is not there, or does not start.
    #[must_use]
    pub fn start(at: IpAddr) -> Self {
        let folder = TempDir::with_prefix("adit-named-").unwrap();
        let path = folder.path().display();
        // It listens at addresses of interfaces only, so the port is its own.
        let port = free_port();
        let zone = format!(
            "$TTL 30\n@ IN SOA ns.acme.test. root.acme.test. 1 60 60 60 30\n@ IN NS ns\n@ IN A {at}\nns IN A {at}\n* IN A {at}\n"
        );
        fs::write(folder.path().join("zone"), zone).unwrap();
        let config = format!(
            "options {{ directory \"{path}\"; pid-file none; session-keyfile none; recursion no; dnssec-validation no;\n\
             listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; }};\ncontrols {{ }};\n\
             key \"{KEY_NAME}\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n\
             zone \"acme.test\" {{ type primary; file \"zone\"; allow-update {{ key \"{KEY_NAME}\"; }}; }};\n"
        );
        fs::write(folder.path().join("named.conf"), config).unwrap();
        fs::write(folder.path().join("tsig.key"), KEY).unwrap();
        let mut command = Command::new("named");
        command.args(["-g", "-n", "1", "-c"]).arg(folder.path().join("named.conf"));
        let program = Program::start(&mut command);
        drop(program.says("running"));
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), program, folder }
    }

    /// `dns` of an edge's `acme`.
    #[must_use]
    pub fn yaml(&self) -> String {
        let key = self.folder.path().join("tsig.key");
        let (address, key) = (self.address, key.display());
        format!("{{ provider: rfc2136, server: '{address}', key-name: {KEY_NAME}, key-file: {key} }}")
    }

    /// Everything that it has said.
    #[must_use]
    pub fn said(&self) -> String {
        self.program.said()
    }
}

/// A certificate authority that proves names at [`HTTP`] and [`HTTPS`].
#[derive(Debug)]
pub struct Pebble {
    /// The process.
    pub program: Program,
    /// Its directory.
    pub directory: String,
    /// What its own HTTPS is checked with.
    pub authority: Authority,
    management: SocketAddr,
    folder: TempDir,
}

impl Pebble {
    /// Starts it, with more members of its configuration and with variables of the environment.
    ///
    /// # Panics
    /// When pebble is not there, or does not start.
    #[must_use]
    pub fn start(at: IpAddr, names: SocketAddr, more: &str, environment: &[(&str, &str)]) -> Self {
        let authority = Authority::new();
        let Pair { certificate, key, .. } = authority.server(&["localhost", &at.to_string()]);
        let folder = TempDir::with_prefix("adit-pebble-").unwrap();
        let (certificate, key) = (certificate.display(), key.display());
        let config = format!(
            "{{\"pebble\": {{\"listenAddress\": \"{at}:14000\", \"managementListenAddress\": \"{at}:15000\", \
             \"certificate\": \"{certificate}\", \"privateKey\": \"{key}\", \"httpPort\": {HTTP}, \"tlsPort\": {HTTPS}{more}}}}}"
        );
        fs::write(folder.path().join("pebble.json"), config).unwrap();
        let mut command = Command::new("pebble");
        command
            .arg("-config")
            .arg(folder.path().join("pebble.json"))
            .args(["-dnsserver", &names.to_string()]);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        command.envs(environment.iter().copied());
        let program = Program::start(&mut command);
        drop(program.says("ACME directory available"));
        let directory = format!("https://{at}:14000/dir");
        Self { program, directory, authority, management: SocketAddr::new(at, 15000), folder }
    }

    /// `authorities` of an edge's `acme` that name it.
    #[must_use]
    pub fn yaml(&self) -> String {
        format!("{{ directory: '{}', ca: {} }}", self.directory, self.authority.file().display())
    }

    /// The root that its certificates lead to, as a file.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn root(&self) -> std::path::PathBuf {
        let visitor = Visitor::new(self.management, &self.authority.file());
        let answer = visitor.get("localhost", "/roots/0").await;
        let path = self.folder.path().join("root.pem");
        fs::write(&path, &answer.body).unwrap();
        path
    }
}
