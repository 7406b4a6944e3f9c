//! `cargo xtask front`: the public door alone. The edge answers by itself, beside nginx with the same answer.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use adit_testkit::visitor::{Sender, Visitor, empty, whole};
use adit_testkit::visitor3::Visitor3;
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use http::Method;
use tokio::task::JoinSet;

use super::load;
use super::parts::{Stage, Started};
use super::table;

const HOST: &str = "localhost";
/// Connections of the HTTP/2 and HTTP/3 loads, and requests at the same time on each.
const MULTIPLEXED: (usize, usize) = (8, 16);
/// Handshakes of one round, and those at the same time.
const HANDSHAKES: (usize, usize) = (4000, 16);
/// Idle visitors.
const IDLE: usize = 10_000;
/// Certificates of the look-up.
const CERTIFICATES: usize = 10_000;

/// What to measure.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Seconds of each load
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Rounds through all loads
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Write the table to bench/front.md
    #[arg(long)]
    write: bool,
}

/// CPU microseconds for each request or handshake, and how many there were in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    cpu: f64,
    per_second: f64,
}

/// A load; how much there was of it.
type Load = fn(&Started, &Path, u32) -> Result<u64>;

const LOADS: [(&str, Load); 4] = [
    ("HTTP/1.1, 64 connections", http1),
    ("HTTP/2, 8 × 16", http2),
    ("HTTP/3, 8 × 16", http3),
    ("full handshakes, P-256 and X25519", handshakes),
];

/// Measures and prints.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let program = super::build(root)?;
    let stage = Stage::set(&program, &root.join("target/bench-tools"))?;
    let edge = stage.front_alone()?;
    let page = page(&edge, &stage.certificate())?;
    let nginx = stage.nginx_alone(&page)?;
    let mut text = format!(
        "Loopback, {} rounds, {} s per load, medians. The edge answers with its maintenance page of {} bytes and writes an access record; nginx 1.22 returns the same page and writes the same kind of record. CPU is the server's alone.\n\n| load | edge CPU µs | nginx CPU µs | ratio | edge per second | nginx per second |\n|---|---|---|---|---|---|\n",
        options.rounds,
        options.seconds,
        page.len()
    );
    for (name, load) in LOADS {
        let mut costs = [Vec::new(), Vec::new()];
        for round in 0..options.rounds {
            eprintln!("round {}/{}: {name}", round + 1, options.rounds);
            costs[0].push(cost(&edge, &stage, load, options.seconds)?);
            if name.starts_with("HTTP/3") {
                continue;
            }
            costs[1].push(cost(&nginx, &stage, load, options.seconds)?);
        }
        row(&mut text, name, &costs);
    }
    drop(nginx);
    text.push_str(&idle(&edge, &stage)?);
    drop(edge);
    text.push_str(&many_certificates(&stage)?);
    println!("{text}");
    if options.write {
        table::write(&root.join("bench/front.md"), &text)?;
    }
    Ok(())
}

fn row(text: &mut String, name: &str, [ours, nginx]: &[Vec<Cost>; 2]) {
    let middle = |costs: &[Cost]| {
        let mut sorted = costs.to_vec();
        sorted.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
        sorted.get(sorted.len() / 2).copied()
    };
    let (Some(ours), nginx) = (middle(ours), middle(nginx)) else { return };
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
    let ratio = nginx.map_or_else(|| "–".to_owned(), |nginx| format!("{:.2}", ours.cpu / nginx.cpu));
    // Writing to a string does not fail.
    writeln!(
        text,
        "| {name} | {:.1} | {} | {ratio} | {:.0} | {} |",
        ours.cpu,
        number(nginx.map(|cost| cost.cpu)),
        ours.per_second,
        number(nginx.map(|cost| cost.per_second.round())),
    )
    .unwrap_or_default();
}

fn cost(server: &Started, stage: &Stage, load: Load, seconds: u32) -> Result<Cost> {
    let cpu = || server.processes.iter().map(super::process::Process::cpu).sum::<u64>();
    let (before, began) = (cpu(), Instant::now());
    let count = load(server, &stage.certificate(), seconds)?;
    let took = began.elapsed().as_secs_f64();
    Ok(Cost { cpu: (cpu() - before) as f64 / 1000.0 / count.max(1) as f64, per_second: count as f64 / took })
}

fn page(edge: &Started, certificate: &Path) -> Result<String> {
    let answer = runtime()?.block_on(visitor(edge, certificate).get(HOST, "/"));
    ensure!(answer.status.as_u16() == 503, "the edge answered {}", answer.status);
    Ok(answer.text())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn visitor(server: &Started, certificate: &Path) -> Visitor {
    Visitor::new(([127, 0, 0, 1], server.port).into(), certificate)
}

fn http1(server: &Started, _: &Path, seconds: u32) -> Result<u64> {
    Ok(load::requests(&format!("https://{HOST}:{}/1k", server.port), 64, seconds)?.count)
}

fn http2(server: &Started, certificate: &Path, seconds: u32) -> Result<u64> {
    let visitor = visitor(server, certificate).http2();
    runtime()?.block_on(async {
        let end = Instant::now() + Duration::from_secs(seconds.into());
        let mut askers = JoinSet::new();
        for _ in 0..MULTIPLEXED.0 {
            let Sender::Http2(connection) = visitor.connect(HOST).await? else { continue };
            for _ in 0..MULTIPLEXED.1 {
                let (visitor, mut connection) = (visitor.clone(), connection.clone());
                askers.spawn(async move {
                    let mut count = 0;
                    while Instant::now() < end {
                        let request = visitor.request(Method::GET, HOST, "/1k", empty());
                        connection.ready().await.map_err(std::io::Error::other)?;
                        let answer = connection.send_request(request).await.map_err(std::io::Error::other)?;
                        drop(whole(answer).await?);
                        count += 1;
                    }
                    Ok::<u64, std::io::Error>(count)
                });
            }
        }
        total(askers).await
    })
}

fn http3(server: &Started, certificate: &Path, seconds: u32) -> Result<u64> {
    runtime()?.block_on(async {
        let visitor = Visitor3::new(([127, 0, 0, 1], server.port).into(), certificate);
        let end = Instant::now() + Duration::from_secs(seconds.into());
        let mut askers = JoinSet::new();
        for _ in 0..MULTIPLEXED.0 {
            let sender = visitor.connect(HOST).await;
            for _ in 0..MULTIPLEXED.1 {
                let mut sender = sender.clone();
                askers.spawn(async move {
                    let mut count = 0;
                    while Instant::now() < end {
                        drop(sender.ask(Method::GET, HOST, "/1k", bytes::Bytes::new()).await);
                        count += 1;
                    }
                    Ok::<u64, std::io::Error>(count)
                });
            }
        }
        total(askers).await
    })
}

/// Whole handshakes: nobody brings a ticket, and nobody offers what nginx's library does not know.
fn handshakes(server: &Started, certificate: &Path, _: u32) -> Result<u64> {
    let visitor = Visitor::without_tickets(([127, 0, 0, 1], server.port).into(), certificate);
    runtime()?.block_on(async {
        let mut askers = JoinSet::new();
        for _ in 0..HANDSHAKES.1 {
            let visitor = visitor.clone();
            askers.spawn(async move {
                for _ in 0..HANDSHAKES.0 / HANDSHAKES.1 {
                    drop(visitor.raw(HOST).await?);
                }
                Ok::<u64, std::io::Error>((HANDSHAKES.0 / HANDSHAKES.1) as u64)
            });
        }
        total(askers).await
    })
}

async fn total(mut askers: JoinSet<std::io::Result<u64>>) -> Result<u64> {
    let mut sum = 0;
    while let Some(asked) = askers.join_next().await {
        sum += asked??;
    }
    Ok(sum)
}

/// What many visitors cost who say nothing.
fn idle(edge: &Started, stage: &Stage) -> Result<String> {
    let memory = || edge.processes.iter().map(super::process::Process::memory).sum::<u64>() as f64 / 1024.0;
    let before = memory();
    let visitor = visitor(edge, &stage.certificate()).http2();
    let held = runtime()?.block_on(async {
        let mut kept = Vec::with_capacity(IDLE);
        for _ in 0..IDLE / 50 {
            let batch = (0..50).map(|_| async {
                let mut sender = visitor.connect(HOST).await?;
                drop(whole(sender.send(visitor.request(Method::GET, HOST, "/", empty())).await?).await?);
                Ok::<_, std::io::Error>(sender)
            });
            for sender in futures_util::future::join_all(batch).await {
                kept.push(sender?);
            }
        }
        Ok::<f64, anyhow::Error>(memory())
    })?;
    Ok(format!("\n{IDLE} idle HTTP/2 connections: {held:.0} MiB (PSS; {before:.0} before).\n"))
}

/// Time to start with many certificates, and to find one.
fn many_certificates(stage: &Stage) -> Result<String> {
    let names: Vec<String> = (0..CERTIFICATES).map(|number| format!("n{number}.many.example")).collect();
    let (folder, config) = stage.many_certificates(&names)?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let started = stage.edge_of(&config, &folder)?;
        times.push(began.elapsed().as_secs_f64());
        drop(started);
    }
    times.sort_by(f64::total_cmp);
    let start = times.get(1).copied().unwrap_or_default();
    let mut table = adit_edge::tls::CertTable::default();
    let key = certified(&folder)?;
    for name in &names {
        table.insert(adit_policy::host::HostPattern::parse(name)?, key.clone());
    }
    let began = Instant::now();
    let mut found = 0_u64;
    for round in 0..100 {
        found += names.iter().skip(round % 7).filter(|name| table.has(name)).count() as u64;
    }
    let each = began.elapsed().as_secs_f64() * 1e9 / found as f64;
    Ok(format!(
        "\n{CERTIFICATES} certificates: {start:.2} s from start to serving; a look-up by name takes {each:.0} ns.\n"
    ))
}

fn certified(folder: &Path) -> Result<std::sync::Arc<rustls::sign::CertifiedKey>> {
    let file = |end: &str| folder.join(format!("0.{end}"));
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    let loaded = adit_certs::file::load(&file("pem"), &file("key"), now.cast_signed())?;
    Ok(loaded.key)
}

/// A certificate and its key for each name, and the lines of an edge.yml that list them.
pub(crate) fn make_certificates(folder: &Path, names: &[String]) -> Result<String> {
    let key = rcgen::KeyPair::generate()?;
    let mut lines = String::new();
    for (number, name) in names.iter().enumerate() {
        let (pem, private) = (folder.join(format!("{number}.pem")), folder.join(format!("{number}.key")));
        fs::write(&pem, rcgen::CertificateParams::new([name.clone()])?.self_signed(&key)?.pem())?;
        fs::write(&private, key.serialize_pem())?;
        writeln!(lines, "  - {{ cert: {}, key: {} }}", pem.display(), private.display())?;
    }
    let _ready = Command::new("sync").arg(folder).status().context("sync")?;
    Ok(lines)
}
