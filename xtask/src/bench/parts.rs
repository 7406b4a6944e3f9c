//! The parts of a chain: certificates, the origin, and each program with its configuration.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use adit_testkit::origin::Origin;
use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use super::peers;
use super::process::Process;

/// How long a chain may take to answer first.
const START_MAX: Duration = Duration::from_secs(20);
/// What an origin adds to its answers.
const ORIGIN_HEADERS: [(&str, &str); 6] = [
    ("Cache-Control", "public, max-age=60"),
    ("Content-Language", "en"),
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("Vary", "Accept-Encoding"),
];
/// The record that nginx writes: the same kind as ours.
const LOG_FORMAT: &str = "log_format j escape=json '{\"time\":\"$time_iso8601\",\"remote_addr\":\"$remote_addr\",\"request_method\":\"$request_method\",\"request_uri\":\"$request_uri\",\"status\":$status,\"body_bytes_sent\":$body_bytes_sent,\"request_time\":$request_time,\"http_host\":\"$http_host\",\"http_user_agent\":\"$http_user_agent\",\"request_id\":\"$request_id\"}';";
/// Sizes of the origin's files.
const FILES: [(&str, usize); 5] =
    [("1k", 1024), ("1m", 1 << 20), ("4m", 4 << 20), ("16m", 16 << 20), ("100m", 100 << 20)];
/// Bytes of an upload.
const UPLOAD: usize = 64 * 1024;
const UPLOAD_SCRIPT: &str = "upload.lua";
/// A loopback address for each of cloudflared's four connections: it makes one per edge address.
const EDGES: [&str; 4] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];

/// What all chains share: a folder, a certificate, the origin.
pub(crate) struct Stage {
    folder: TempDir,
    program: PathBuf,
    tools: PathBuf,
    pub(super) origin: u16,
    _origin: Process,
    live: Origin,
}

/// Processes that together listen on a port.
pub(crate) struct Started {
    pub(crate) processes: Vec<Process>,
    pub(crate) port: u16,
    pub(super) folder: PathBuf,
}

impl Started {
    /// Waits for the first good answer.
    pub(crate) fn wait_for(&self, url: &str) -> Result<()> {
        self.wait_until(url, |code| code == b"200")
    }

    fn wait_until(&self, url: &str, is_good: impl Fn(&[u8]) -> bool) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < START_MAX {
            let code = Command::new("curl")
                .args(["-sk", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", url])
                .output()?;
            if is_good(&code.stdout) {
                return Ok(());
            }
            let _later = Command::new("sleep").arg("0.1").status()?;
        }
        let logs = fs::read_dir(&self.folder)?.filter_map(Result::ok).map(|entry| entry.path());
        let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        bail!(
            "no answer from {url}\n{}",
            logs.filter_map(|log| fs::read_to_string(log).ok()).collect::<String>()
        )
    }
}

impl Stage {
    /// Makes the certificate and starts the origin.
    pub(crate) fn set(program: &Path, tools: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("adit-bench-").tempdir()?;
        certificate(folder.path())?;
        let www = folder.path().join("www");
        fs::create_dir(&www)?;
        for (name, size) in FILES {
            fs::write(www.join(name), vec![b'x'; size])?;
        }
        let port = free_port()?;
        let headers: String =
            ORIGIN_HEADERS.iter().map(|(name, value)| format!("add_header {name} '{value}'; ")).collect();
        let server = format!(
            "server {{ listen 127.0.0.1:{port}; root {}; {headers} location = /upload {{ client_max_body_size 1m; return 204; }} }}",
            www.display()
        );
        let script = format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {UPLOAD})\n");
        fs::write(folder.path().join(UPLOAD_SCRIPT), script)?;
        let origin = nginx(folder.path(), "origin", 1, &server)?;
        let live = Origin::start_tls(&folder.path().join("cert.pem"), &folder.path().join("key.pem"));
        Ok(Self {
            folder,
            program: program.to_owned(),
            tools: tools.to_owned(),
            origin: port,
            _origin: origin,
            live,
        })
    }

    /// The certificate that visitors trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// A script of one's own for wrk.
    pub(crate) fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// wrk's script for uploads.
    pub(crate) fn upload_script(&self) -> PathBuf {
        self.folder.path().join(UPLOAD_SCRIPT)
    }

    /// nginx in front of the origin.
    pub(crate) fn floor(&self) -> Result<Started> {
        let folder = self.fresh("floor")?;
        let (process, port) = self.front(&folder, self.origin)?;
        Ok(Started { processes: vec![process], port, folder })
    }

    /// nginx in front of a rathole server, its client beside the origin.
    pub(crate) fn rathole(&self, transport: &str) -> Result<Started> {
        let folder = self.fresh(&format!("rathole-{transport}"))?;
        let (control, visit) = (free_port()?, free_port()?);
        let (server, client) = self.rathole_transport(transport)?;
        let origin = self.origin;
        let write = |name: &str, text: String| fs::write(folder.join(name), text);
        write(
            "server.toml",
            format!(
                "[server]\nbind_addr = \"127.0.0.1:{control}\"\ndefault_token = \"bench\"\n{server}\n[server.services.web]\nbind_addr = \"127.0.0.1:{visit}\"\n"
            ),
        )?;
        write(
            "client.toml",
            format!(
                "[client]\nremote_addr = \"127.0.0.1:{control}\"\ndefault_token = \"bench\"\n{client}\n[client.services.web]\nlocal_addr = \"127.0.0.1:{origin}\"\n"
            ),
        )?;
        let run = |role: &str| {
            let mut command = Command::new(peers::rathole(&self.tools));
            command.arg(format!("--{role}")).arg(folder.join(format!("{role}.toml")));
            Process::start(&format!("rathole {role}"), &mut command, &folder.join(format!("{role}.log")))
        };
        let (server, client) = (run("server")?, run("client")?);
        let (front, port) = self.front(&folder, visit)?;
        Ok(Started { processes: vec![front, server, client], port, folder })
    }

    fn rathole_transport(&self, transport: &str) -> Result<(String, String)> {
        if transport == "tls" {
            let at = self.folder.path();
            let server = format!(
                "[server.transport]\ntype = \"tls\"\n[server.transport.tls]\npkcs12 = \"{}\"\npkcs12_password = \"bench\"\n",
                at.join("pair.p12").display()
            );
            let client = format!(
                "[client.transport]\ntype = \"tls\"\n[client.transport.tls]\ntrusted_root = \"{}\"\nhostname = \"localhost\"\n",
                at.join("cert.pem").display()
            );
            return Ok((server, client));
        }
        let keys = Command::new(peers::rathole(&self.tools)).arg("--genkey").output()?;
        let keys = String::from_utf8_lossy(&keys.stdout).into_owned();
        let lines: Vec<&str> = keys.lines().map(str::trim).collect();
        let after = |label: &str| {
            let at = lines.iter().position(|line| line.starts_with(label)).context("rathole's keys")?;
            lines.get(at + 1).copied().context("rathole's keys")
        };
        let server = format!(
            "[server.transport]\ntype = \"noise\"\n[server.transport.noise]\nlocal_private_key = \"{}\"\n",
            after("Private Key")?
        );
        let client = format!(
            "[client.transport]\ntype = \"noise\"\n[client.transport.noise]\nremote_public_key = \"{}\"\n",
            after("Public Key")?
        );
        Ok((server, client))
    }

    /// Our edge and our connector.
    pub(crate) fn adit(&self, protocol: &str) -> Result<Started> {
        self.adit_with(protocol, "")
    }

    /// The same with more lines in the edge's file.
    pub(crate) fn adit_with(&self, protocol: &str, more: &str) -> Result<Started> {
        let folder = self.fresh(&format!("adit-{protocol}"))?;
        let (edge, port) = self.edge_with(&folder, protocol, &EDGES[..1], more)?;
        let mut command = Command::new(&self.program);
        command.arg("connect").arg("--config").arg(folder.join("config.yml"));
        let connector = Process::start("connector", &mut command, &folder.join("connector.log"))?;
        Ok(Started { processes: vec![edge, connector], port, folder })
    }

    /// Our edge and the real program, with its four connections.
    pub(crate) fn cloudflared(&self, protocol: &str) -> Result<Started> {
        self.cloudflared_with(protocol, "")
    }

    /// The same with more lines in the edge's file.
    pub(crate) fn cloudflared_with(&self, protocol: &str, more: &str) -> Result<Started> {
        let folder = self.fresh(&format!("cloudflared-{protocol}"))?;
        let (edge, port) = self.edge_with(&folder, protocol, &EDGES, more)?;
        let mut command = Command::new(peers::cloudflared().context("CLOUDFLARED_BIN is not set")?);
        command.args(["tunnel", "--no-autoupdate", "--config"]).arg(folder.join("config.yml")).arg("run");
        let connector = Process::start("cloudflared", &mut command, &folder.join("cloudflared.log"))?;
        Ok(Started { processes: vec![edge, connector], port, folder })
    }

    /// Our edge with one tunnel and more lines in its file, and a `config.yml` for whoever connects.
    fn edge_with(
        &self,
        folder: &Path,
        protocol: &str,
        addresses: &[&str],
        more: &str,
    ) -> Result<(Process, u16)> {
        let (port, tunnel, admin) = (free_port()?, free_port()?, free_port()?);
        let edges =
            addresses.iter().map(|address| format!("'{address}:{tunnel}'")).collect::<Vec<_>>().join(", ");
        let pair = self.folder.path();
        let text = format!(
            "domain: localhost\nlisten: {{ https: '127.0.0.1:{port}', http: off, tunnel: [{edges}], admin: '127.0.0.1:{admin}' }}\naccess-log: access.log\ncertificates: [{{ cert: {}, key: {} }}]\n{more}",
            pair.join("cert.pem").display(),
            pair.join("key.pem").display(),
        );
        let config = folder.join("edge.yml");
        fs::write(&config, text)?;
        let id = tunnel_id(&self.create_tunnel(&config, folder)?)?;
        let text = format!(
            "tunnel: {id}\ncredentials-file: {}\nprotocol: {protocol}\nedge: [{edges}]\ncacert: {}\ningress:\n  - {{ hostname: localhost, path: ^/grpc, service: 'https://{live}', originRequest: {{ http2Origin: true, noTLSVerify: true }} }}\n  - {{ hostname: localhost, path: '^/(events|websocket|held)', service: 'https://{live}', originRequest: {{ noTLSVerify: true }} }}\n  - hostname: localhost\n    service: http://127.0.0.1:{}\n  - service: http_status:404\n",
            folder.join("bench.json").display(),
            folder.join("data/tunnel-ca.pem").display(),
            self.origin,
            live = self.live.address,
        );
        fs::write(folder.join("config.yml"), text)?;
        let mut command = Command::new(&self.program);
        command.args(["edge", "run", "--config"]).arg(&config);
        let edge = Process::start("edge", &mut command, &folder.join("edge.log"))?;
        await_port(tunnel)?;
        Ok((edge, port))
    }

    /// Our edge, which answers every request by itself.
    pub(crate) fn front_alone(&self) -> Result<Started> {
        let folder = self.fresh("front")?;
        let (edge, port) = self.edge_with(
            &folder,
            "http2",
            &EDGES[..1],
            "hostnames: { localhost: { maintenance: true } }\n",
        )?;
        Ok(Started { processes: vec![edge], port, folder })
    }

    /// Our edge, which keeps what the origin answers, and our connector. The lines are the policy of the one name.
    pub(crate) fn kept(&self, policy: &str) -> Result<Started> {
        let folder = self.fresh("kept")?;
        let more = format!(
            "hostnames: {{ localhost: {policy} }}\ntrusted: {{ from: [127.0.0.0/8], header: x-real-ip }}\n"
        );
        let (edge, port) = self.edge_with(&folder, "http2", &EDGES[..1], &more)?;
        let mut command = Command::new(&self.program);
        command.arg("connect").arg("--config").arg(folder.join("config.yml"));
        let connector = Process::start("connector", &mut command, &folder.join("connector.log"))?;
        let started = Started { processes: vec![edge, connector], port, folder };
        started.wait_for(&format!("https://localhost:{port}/1k"))?;
        Ok(started)
    }

    /// nginx, which keeps the same, and writes the same kind of record.
    pub(crate) fn nginx_kept(&self) -> Result<Started> {
        let (folder, port) = (self.fresh("nginx-kept")?, free_port()?);
        let (pair, at) = (self.folder.path(), folder.display());
        let server = format!(
            "{LOG_FORMAT}
proxy_cache_path {at}/kept levels=1:2 keys_zone=kept:64m max_size=1g inactive=30d use_temp_path=off;
upstream next {{ server 127.0.0.1:{}; keepalive 128; }}
server {{ listen 127.0.0.1:{port} ssl http2; server_name localhost; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3;
access_log {at}/access.log j buffer=64k flush=1s;
location / {{ proxy_pass http://next; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;
proxy_cache kept; proxy_cache_key $host$uri; proxy_cache_valid 200 1d; proxy_cache_valid 404 1m; proxy_cache_lock on;
proxy_cache_use_stale error timeout updating http_502 http_503 http_504; proxy_cache_background_update on;
proxy_ignore_headers Cache-Control Expires Set-Cookie; proxy_hide_header Set-Cookie; add_header X-Cache-Status $upstream_cache_status; }} }}",
            self.origin,
            pair.join("cert.pem").display(),
            pair.join("key.pem").display(),
        );
        let process = nginx(&folder, "nginx-kept", 2, &server)?;
        await_port(port)?;
        let started = Started { processes: vec![process], port, folder };
        started.wait_for(&format!("https://localhost:{port}/1k"))?;
        Ok(started)
    }

    /// Our edge on plain HTTP with everything kept that may be, before an origin at a port of this machine.
    pub(crate) fn for_suite(&self, origin: u16) -> Result<Started> {
        let folder = self.fresh("for-suite")?;
        let (port, tunnel) = (free_port()?, free_port()?);
        let config = folder.join("edge.yml");
        fs::write(
            &config,
            format!(
                "domain: example.test\nlisten: {{ https: '127.0.0.1:0', http: '127.0.0.1:{port}', tunnel: '127.0.0.1:{tunnel}', admin: off }}\nhttp-mode: serve\naccess-log: off\ndefaults: {{ cache: true }}\n"
            ),
        )?;
        let credentials = self.create_tunnel(&config, &folder)?;
        let text = format!(
            "tunnel: {}\ncredentials-file: {}\nprotocol: http2\nedge: ['127.0.0.1:{tunnel}']\ncacert: {}\ningress: [{{ service: 'http://127.0.0.1:{origin}' }}]\n",
            tunnel_id(&credentials)?,
            credentials.display(),
            folder.join("data/tunnel-ca.pem").display(),
        );
        fs::write(folder.join("config.yml"), text)?;
        let edge = self.edge_of(&config, &folder)?;
        let mut command = Command::new(&self.program);
        command.arg("connect").arg("--config").arg(folder.join("config.yml"));
        let connector = Process::start("connector", &mut command, &folder.join("connector.log"))?;
        let started = Started { processes: vec![edge, connector], port, folder };
        // The suite's server knows no page at all; whatever it says comes from there.
        started.wait_until(&format!("http://localhost:{port}/"), |code| code == b"404" || code == b"200")?;
        Ok(started)
    }

    /// A tunnel for `localhost`; its credentials.
    fn create_tunnel(&self, config: &Path, folder: &Path) -> Result<PathBuf> {
        let credentials = folder.join("bench.json");
        let created = Command::new(&self.program)
            .args(["tunnel", "create", "bench", "--hostname", "localhost", "--config"])
            .arg(config)
            .arg("--credentials-file")
            .arg(&credentials)
            .output()?;
        ensure!(created.status.success(), "tunnel create: {}", String::from_utf8_lossy(&created.stderr));
        Ok(credentials)
    }

    /// Where a program's words go.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// The origin of streams, which counts what it is asked.
    pub(crate) fn live(&self) -> &Origin {
        &self.live
    }

    /// nginx, which answers every request with a page, and writes the same kind of record.
    pub(crate) fn nginx_alone(&self, page: &str) -> Result<Started> {
        let (folder, port) = (self.fresh("nginx-alone")?, free_port()?);
        let (pair, page) = (self.folder.path(), page.trim_end().replace('\'', ""));
        let server = format!(
            "{LOG_FORMAT}
server {{ listen 127.0.0.1:{port} ssl http2; server_name localhost; ssl_certificate {}; ssl_certificate_key {}; ssl_session_cache off; ssl_protocols TLSv1.2 TLSv1.3;
http2_max_concurrent_streams 128; access_log {}/access.log j buffer=64k flush=1s;
location / {{ default_type 'text/html; charset=utf-8'; add_header Cache-Control no-store always; add_header Retry-After 5 always; return 503 '{page}'; }} }}",
            pair.join("cert.pem").display(),
            pair.join("key.pem").display(),
            folder.display(),
        );
        let process = nginx(&folder, "nginx-alone", 2, &server)?;
        await_port(port)?;
        Ok(Started { processes: vec![process], port, folder })
    }

    /// Certificates for all names, and an edge's file that lists them.
    pub(crate) fn many_certificates(&self, names: &[String]) -> Result<(PathBuf, PathBuf)> {
        let folder = self.fresh("many")?;
        let list = super::front::make_certificates(&folder, names)?;
        let text = format!(
            "domain: many.example\nlisten: {{ https: '127.0.0.1:0', http: off, tunnel: '127.0.0.1:0', admin: off }}\naccess-log: off\ncertificates:\n{list}"
        );
        let config = folder.join("edge.yml");
        fs::write(&config, text)?;
        Ok((folder, config))
    }

    /// An edge with a file of one's own, once it serves.
    pub(crate) fn edge_of(&self, config: &Path, folder: &Path) -> Result<Process> {
        let log = folder.join("edge.log");
        let mut command = Command::new(&self.program);
        command.args(["edge", "run", "--config"]).arg(config);
        let edge = Process::start("edge", &mut command, &log)?;
        let began = Instant::now();
        while !fs::read_to_string(&log).unwrap_or_default().contains("edge is serving") {
            ensure!(began.elapsed() < 3 * START_MAX, "the edge does not serve");
            std::thread::yield_now();
        }
        Ok(edge)
    }

    /// nginx with TLS before a port of this machine.
    fn front(&self, folder: &Path, upstream: u16) -> Result<(Process, u16)> {
        let port = free_port()?;
        let pair = self.folder.path();
        let server = format!(
            "upstream next {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000; }}
server {{ listen 127.0.0.1:{port} ssl; server_name localhost; ssl_certificate {}; ssl_certificate_key {};
location / {{ proxy_pass http://next; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Real-IP $remote_addr;
proxy_max_temp_file_size 0; }} }}",
            pair.join("cert.pem").display(),
            pair.join("key.pem").display(),
        );
        Ok((nginx(folder, "nginx", 2, &server)?, port))
    }

    pub(super) fn fresh(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        Ok(folder)
    }
}

pub(super) fn nginx(folder: &Path, name: &str, workers: u8, servers: &str) -> Result<Process> {
    let at = folder.display();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {at}/{name}-{kind}; "))
        .collect();
    let text = format!(
        "daemon off; user root; pid {at}/{name}.pid; error_log {at}/{name}.err; worker_processes {workers};
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 100000000; {paths} {servers} }}\n"
    );
    let config = folder.join(format!("{name}.conf"));
    fs::write(&config, text)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(&config).arg("-p").arg(folder).arg("-e").arg(folder.join(format!("{name}.err")));
    Process::start(name, &mut command, &folder.join(format!("{name}.log")))
}

/// One certificate for all: P-256, as certificate authorities give.
fn certificate(folder: &Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(folder.join("cert.pem"), made.cert.pem())?;
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
    let packed = Command::new("openssl")
        .args([
            "pkcs12",
            "-export",
            "-passout",
            "pass:bench",
            "-in",
            "cert.pem",
            "-inkey",
            "key.pem",
            "-out",
            "pair.p12",
        ])
        .current_dir(folder)
        .output()?;
    ensure!(packed.status.success(), "openssl: {}", String::from_utf8_lossy(&packed.stderr));
    Ok(())
}

fn tunnel_id(credentials: &Path) -> Result<String> {
    let json: serde_json::Value = serde_json::from_slice(&fs::read(credentials)?)?;
    json.get("TunnelID").and_then(serde_json::Value::as_str).map(ToOwned::to_owned).context("no TunnelID")
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub(super) fn await_port(port: u16) -> Result<()> {
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(began.elapsed() < START_MAX, "nobody listens on port {port}");
        let _later = Command::new("sleep").arg("0.05").status()?;
    }
    Ok(())
}
