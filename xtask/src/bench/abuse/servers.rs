//! Who is attacked: our edge with each connector over each transport, nginx and HAProxy before the same origins.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::bench::parts::{Stage, Started, await_port, free_port, nginx};
use crate::bench::peers;
use crate::bench::process::Process;

/// A server with what stands behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Quic,
    Http2,
    Cloudflared,
    CloudflaredHttp2,
    Nginx,
    HaProxy,
}

impl Server {
    const ALL: [(char, Self); 6] = [
        ('d', Self::Quic),
        ('e', Self::Http2),
        ('f', Self::Cloudflared),
        ('g', Self::CloudflaredHttp2),
        ('n', Self::Nginx),
        ('h', Self::HaProxy),
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Quic => "edge and connector, QUIC",
            Self::Http2 => "edge and connector, HTTP/2",
            Self::Cloudflared => "edge and cloudflared, QUIC",
            Self::CloudflaredHttp2 => "edge and cloudflared, HTTP/2",
            Self::Nginx => "nginx, no tunnel",
            Self::HaProxy => "HAProxy, no tunnel",
        }
    }

    pub(super) fn has_connector(self) -> bool {
        !matches!(self, Self::Nginx | Self::HaProxy)
    }

    fn is_missing(self) -> Option<&'static str> {
        match self {
            Self::Cloudflared | Self::CloudflaredHttp2 if peers::cloudflared().is_none() => {
                Some("CLOUDFLARED_BIN is not set")
            }
            Self::Nginx if !peers::is_installed("nginx") => Some("nginx is not installed"),
            Self::HaProxy if !peers::is_installed("haproxy") => Some("haproxy is not installed"),
            _ => None,
        }
    }

    /// Starts it and waits for its first answer.
    pub(super) fn start(self, stage: &Stage, is_compressed: bool) -> Result<Started> {
        let more = if is_compressed { "defaults: { compress: true }\n" } else { "" };
        let started = match self {
            Self::Quic => stage.adit_with("quic", more),
            Self::Http2 => stage.adit_with("http2", more),
            Self::Cloudflared => stage.cloudflared_with("quic", more),
            Self::CloudflaredHttp2 => stage.cloudflared_with("http2", more),
            Self::Nginx => nginx_before(stage, is_compressed),
            Self::HaProxy => haproxy_before(stage, is_compressed),
        }?;
        started.wait_for(&format!("https://localhost:{}/1k", started.port))?;
        Ok(started)
    }
}

/// The servers that were asked for and can be had; says which cannot.
pub(super) fn wanted(letters: &[char]) -> Vec<Server> {
    let asked = Server::ALL.into_iter().filter(|(letter, _)| letters.contains(letter));
    asked
        .map(|(_, server)| server)
        .filter(|server| {
            let missing = server.is_missing();
            if let Some(missing) = missing {
                eprintln!("without {}: {missing}", server.name());
            }
            missing.is_none()
        })
        .collect()
}

fn nginx_before(stage: &Stage, is_compressed: bool) -> Result<Started> {
    let (folder, port) = (stage.fresh("nginx-abused")?, free_port()?);
    let gzip = if is_compressed { "gzip on; gzip_proxied any; gzip_types text/plain;" } else { "" };
    let pair = stage.certificate();
    let server = format!(
        "upstream files {{ server 127.0.0.1:{}; keepalive 64; }} upstream live {{ server {}; }}
server {{ listen 127.0.0.1:{port} ssl http2; server_name localhost; ssl_certificate {}; ssl_certificate_key {}; client_max_body_size 0; {gzip}
proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;
location / {{ proxy_pass http://files; }} location /held {{ proxy_pass https://live; }} }}",
        stage.origin,
        stage.live().address,
        pair.display(),
        pair.with_file_name("key.pem").display(),
    );
    let process = nginx(&folder, "nginx-abused", 2, &server)?;
    await_port(port)?;
    Ok(Started { processes: vec![process], port, folder })
}

fn haproxy_before(stage: &Stage, is_compressed: bool) -> Result<Started> {
    let (folder, port) = (stage.fresh("haproxy")?, free_port()?);
    let gzip = if is_compressed { "compression algo gzip\n compression type text/plain" } else { "" };
    let pair = folder.join("pair.pem");
    let read = |name| fs::read_to_string(stage.certificate().with_file_name(name));
    fs::write(&pair, read("cert.pem")? + &read("key.pem")?)?;
    let text = format!(
        "global\n nbthread 2\n maxconn 8000\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n timeout http-request 10s\n {gzip}
frontend door\n bind 127.0.0.1:{port} ssl crt {} alpn h2,http/1.1\n use_backend live if {{ path_beg /held }}\n default_backend files
backend files\n server one 127.0.0.1:{}\nbackend live\n server one {} ssl verify none\n",
        pair.display(),
        stage.origin,
        stage.live().address,
    );
    let config = folder.join("haproxy.cfg");
    fs::write(&config, text)?;
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(&config);
    let process = Process::start("haproxy", &mut command, &folder.join("haproxy.log"))?;
    await_port(port)?;
    Ok(Started { processes: vec![process], port, folder })
}
