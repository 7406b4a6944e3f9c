//! An edge as a process, with its folder.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{self, Program};
use crate::visitor::Visitor;
use crate::visitor3::Visitor3;

/// What an edge is to be.
#[derive(Debug)]
pub struct Plan {
    folder: TempDir,
    tunnels: Vec<(String, Vec<String>)>,
    domain: String,
    listen: String,
    rest: String,
}

/// A running edge.
#[derive(Debug)]
pub struct Edge {
    /// The process.
    pub program: Program,
    /// Its HTTPS address.
    pub https: SocketAddr,
    /// Its plain HTTP address.
    pub http: SocketAddr,
    /// Its tunnel addresses.
    pub tunnel: Vec<SocketAddr>,
    /// Its local endpoints.
    pub admin: SocketAddr,
    folder: TempDir,
}

impl Edge {
    /// An edge for `example.test`, on free ports.
    ///
    /// # Panics
    /// When there is no temporary folder.
    #[must_use]
    pub fn plan() -> Plan {
        // One loopback address for each of cloudflared's connections: it makes one per edge address.
        let listen = "{ https: '127.0.0.1:0', http: '127.0.0.1:0', tunnel: ['127.0.0.1:0', '127.0.0.2:0'], admin: '127.0.0.1:0' }";
        let folder = TempDir::with_prefix("adit-test-").unwrap();
        Plan {
            folder,
            tunnels: Vec::new(),
            domain: "example.test".to_owned(),
            listen: listen.to_owned(),
            rest: String::new(),
        }
    }

    /// Its folder: `edge.yml`, `data`, `access.log`, and the credentials of each tunnel as `NAME.json`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file of its folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its file with the addresses in fact, for commands that ask it.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        let text = fs::read_to_string(self.file("edge.yml")).unwrap();
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        lines[1] = format!("listen: {{ admin: '{}' }}", self.admin);
        let path = self.file("edge-now.yml");
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        path
    }

    /// A visitor who trusts it.
    #[must_use]
    pub fn visitor(&self) -> Visitor {
        Visitor::new(self.https, &self.file("data/tunnel-ca.pem"))
    }

    /// The same on HTTP/3.
    ///
    /// # Panics
    /// When there is no socket.
    #[must_use]
    pub fn visitor3(&self) -> Visitor3 {
        Visitor3::new(self.https, &self.file("data/tunnel-ca.pem"))
    }

    /// The same, connecting from this loopback address.
    ///
    /// # Panics
    /// When there is no socket.
    #[must_use]
    pub fn visitor3_from(&self, ip: IpAddr) -> Visitor3 {
        Visitor3::from_address(ip, self.https, &self.file("data/tunnel-ca.pem"))
    }

    /// The same, who looks for it somewhere else.
    ///
    /// # Panics
    /// When there is no socket.
    #[must_use]
    pub fn visitor3_at(&self, address: SocketAddr) -> Visitor3 {
        Visitor3::new(address, &self.file("data/tunnel-ca.pem"))
    }

    /// Its tunnels as JSON, from its local endpoint.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn tunnels(&self) -> Value {
        let answer = Visitor::plain(self.admin).get("localhost", "/tunnels").await;
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Its metrics.
    pub async fn metrics(&self) -> String {
        Visitor::plain(self.admin).get("localhost", "/metrics").await.text()
    }

    /// Waits until this many connections of all tunnels serve and none other is there.
    ///
    /// # Panics
    /// When that does not come about in time.
    pub async fn has_connections(&self, count: usize) {
        let connections = async {
            loop {
                let tunnels = self.tunnels().await;
                let list = tunnels["tunnels"].as_array().unwrap().iter();
                if list.map(|tunnel| tunnel["connections"].as_array().unwrap().len()).sum::<usize>() == count
                {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let within = tokio::time::timeout(program::PATIENCE, connections).await;
        assert!(within.is_ok(), "no {count} connections; the edge says {}", self.tunnels().await);
    }

    /// Waits until this many visitors' connections are there.
    ///
    /// # Panics
    /// When that does not come about in time.
    pub async fn has_visitors(&self, count: usize) {
        let expected = format!("adit_edge_visitor_connections {count}");
        let left = async {
            while !self.metrics().await.lines().any(|line| line == expected) {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let within = tokio::time::timeout(program::PATIENCE, left).await;
        assert!(within.is_ok(), "no {count} visitors; the edge says {}", self.metrics().await);
    }

    /// Waits until connectors have claimed these names.
    ///
    /// # Panics
    /// When that does not come about in time.
    pub async fn serves(&self, names: &[&str]) {
        let claimed = async {
            loop {
                let tunnels = self.tunnels().await.to_string();
                if names.iter().all(|name| tunnels.contains(name)) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(program::PATIENCE, claimed).await.expect("the names are claimed");
    }

    /// Access records so far, oldest first, once there are at least this many.
    ///
    /// # Panics
    /// When there are not that many in time.
    pub async fn records(&self, at_least: usize) -> Vec<Value> {
        let reading = async {
            loop {
                let text = fs::read_to_string(self.file("access.log")).unwrap_or_default();
                let records: Vec<Value> =
                    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
                if records.len() >= at_least {
                    return records;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(program::PATIENCE, reading).await.expect("access records")
    }

    /// Ends the process as a crash does and starts it again on the same addresses.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn crash_and_return(&mut self) {
        self.crash_and_return_at(None);
    }

    /// The same with a clock that is ahead by so much, such as `+4y`.
    ///
    /// # Panics
    /// When it does not come back, or there is no `faketime`.
    pub fn crash_and_return_at(&mut self, clock: Option<&str>) {
        self.program.signal("KILL");
        assert_eq!(self.program.ends(), None);
        let text = fs::read_to_string(self.file("edge.yml")).unwrap();
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        let tunnels: Vec<String> = self.tunnel.iter().map(|address| format!("'{address}'")).collect();
        let (https, http, admin) = (self.https, self.http, self.admin);
        let tunnels = tunnels.join(", ");
        lines[1] =
            format!("listen: {{ https: '{https}', http: '{http}', tunnel: [{tunnels}], admin: '{admin}' }}");
        fs::write(self.file("edge.yml"), lines.join("\n") + "\n").unwrap();
        self.program =
            launch(self.folder.path(), &clock.map_or_else(Vec::new, |shift| vec!["faketime", "-f", shift]));
        drop(self.program.says("edge is serving"));
    }
}

impl Plan {
    /// With a tunnel that may claim these names.
    #[must_use]
    pub fn tunnel(mut self, name: &str, hostnames: &[&str]) -> Self {
        self.tunnels.push((name.to_owned(), hostnames.iter().map(|name| (*name).to_owned()).collect()));
        self
    }

    /// With another domain than `example.test`.
    #[must_use]
    pub fn domain(mut self, domain: &str) -> Self {
        domain.clone_into(&mut self.domain);
        self
    }

    /// With these listeners, as YAML.
    #[must_use]
    pub fn listen(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.listen);
        self
    }

    /// With more lines in its file.
    #[must_use]
    pub fn with(mut self, yaml: &str) -> Self {
        self.rest.push_str(yaml);
        self.rest.push('\n');
        self
    }

    /// Its folder, to put files in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes its file and creates its tunnels, by command.
    ///
    /// # Panics
    /// When a tunnel cannot be created.
    pub fn prepare(&self) {
        let mut text = format!("domain: {}\nlisten: {}\naccess-log: access.log\n", self.domain, self.listen);
        text.write_str(&self.rest).unwrap();
        fs::write(self.folder().join("edge.yml"), text).unwrap();
        for (name, hostnames) in &self.tunnels {
            create_tunnel(self.folder(), name, hostnames);
        }
    }

    /// Its folder, prepared for somebody else to serve from.
    ///
    /// # Panics
    /// When a tunnel cannot be created.
    #[must_use]
    pub fn into_folder(self) -> TempDir {
        self.prepare();
        self.folder
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(self) -> Edge {
        self.start_under(&[])
    }

    /// The same, started by another program with these arguments.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_under(self, under: &[&str]) -> Edge {
        self.prepare();
        let program = launch(self.folder(), under);
        let line: Value = serde_json::from_str(&program.says("edge is serving")).unwrap();
        let addresses = |name: &str| -> Vec<SocketAddr> {
            let list = line[name].as_str().unwrap_or_default();
            list.split(", ").filter_map(|address| address.parse().ok()).collect()
        };
        let first = |name: &str| {
            addresses(name).first().copied().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
        };
        let (https, http, admin) = (first("https"), first("http"), first("admin"));
        Edge { https, http, admin, tunnel: addresses("tunnel"), program, folder: self.folder }
    }
}

/// Creates a tunnel beside an edge, running or not; its credentials go to `NAME.json`.
///
/// # Panics
/// When that fails.
pub fn create_tunnel(folder: &Path, name: &str, hostnames: &[String]) {
    let (config, credentials) = (folder.join("edge.yml"), folder.join(format!("{name}.json")));
    let mut arguments = vec!["tunnel".to_owned(), "create".to_owned(), name.to_owned()];
    arguments.extend(hostnames.iter().flat_map(|name| ["--hostname".to_owned(), name.clone()]));
    arguments.extend(["--config".to_owned(), config.display().to_string()]);
    arguments.extend(["--credentials-file".to_owned(), credentials.display().to_string()]);
    let ended = program::run(&arguments);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// `under` is a program that starts the edge in another world, with its arguments.
fn launch(folder: &Path, under: &[&str]) -> Program {
    let mut command = match under.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(program::adit());
            command
        }
        None => Command::new(program::adit()),
    };
    command.args(["edge", "run", "--log-format", "json", "--config"]).arg(folder.join("edge.yml"));
    Program::start(&mut command)
}
