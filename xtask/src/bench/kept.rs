//! `cargo xtask kept`: what is kept, and limits. The edge beside nginx with the equivalent configuration.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use adit_cache::{Head, Kind, Meta, Place, Room, Store};
use adit_policy::cache::freshness::Life;
use adit_policy::snapshot::TunnelId;
use adit_testkit::visitor::{Sender, Visitor, empty, whole};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use http::{HeaderMap, Method, StatusCode};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::load;
use super::parts::{Stage, Started};
use super::table;

const HOST: &str = "localhost";
/// Visitors who want the same at the same time: connections, and requests on each.
const CROWD: (usize, usize) = (10, 100);

/// What to measure.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Seconds of each load
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Rounds through all loads
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Responses to store, each a file
    #[arg(long, default_value_t = 1_000_000)]
    objects: usize,
    /// Write the table to bench/kept.md
    #[arg(long)]
    write: bool,
}

/// Measures and prints.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let program = super::build(root)?;
    let stage = Stage::set(&program, &root.join("target/bench-tools"))?;
    let mut text = hits(&stage, options)?;
    text.push_str(&crowd(&stage)?);
    text.push_str(&cut_off(&stage, options.seconds)?);
    text.push_str(&addresses(&stage, options.seconds)?);
    text.push_str(&objects(options.objects)?);
    println!("{text}");
    if options.write {
        table::write(&root.join("bench/kept.md"), &text)?;
    }
    Ok(())
}

/// CPU microseconds of the server alone, for each request.
fn cost(server: &Started, file: &str, seconds: u32) -> Result<(f64, f64)> {
    let cpu = || server.processes.iter().map(super::process::Process::cpu).sum::<u64>();
    let before = cpu();
    let done = load::requests(&format!("https://{HOST}:{}/{file}", server.port), 64, seconds)?;
    ensure!(done.failed == 0, "{} requests failed", done.failed);
    Ok(((cpu() - before) as f64 / 1000.0 / done.count.max(1) as f64, done.per_second))
}

fn hits(stage: &Stage, options: &Options) -> Result<String> {
    let (edge, nginx) = (stage.kept("{ cache: static }")?, stage.nginx_kept()?);
    let mut text = format!(
        "Loopback, HTTPS on HTTP/1.1, 64 connections, {} rounds, {} s per load, medians. Both write an access record of the same kind. CPU is that of the edge and its connector, or of nginx 1.22 with `proxy_cache`.\n\n| hit | edge CPU µs | nginx CPU µs | ratio | edge per second | nginx per second |\n|---|---|---|---|---|---|\n",
        options.rounds, options.seconds
    );
    for (name, file) in [("1 KiB, in memory", "1k"), ("1 MiB, on disk", "1m")] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..options.rounds {
            eprintln!("round {}/{}: {name}", round + 1, options.rounds);
            ours.push(cost(&edge, file, options.seconds)?);
            theirs.push(cost(&nginx, file, options.seconds)?);
        }
        let ((ours, fast), (theirs, their_fast)) = (middle(ours)?, middle(theirs)?);
        let ratio = ours / theirs;
        // Writing to a string does not fail.
        writeln!(text, "| {name} | {ours:.1} | {theirs:.1} | {ratio:.2} | {fast:.0} | {their_fast:.0} |")
            .unwrap_or_default();
    }
    Ok(text)
}

fn middle(mut costs: Vec<(f64, f64)>) -> Result<(f64, f64)> {
    costs.sort_by(|a, b| a.0.total_cmp(&b.0));
    costs.get(costs.len() / 2).copied().context("no rounds")
}

/// Many want the same thing that is not there yet.
fn crowd(stage: &Stage) -> Result<String> {
    let edge = stage.kept("{ cache: { preset: static, lock-timeout: 1m } }")?;
    let visitor = visitor(&edge, stage).http2();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = stage.live().asked("/held");
    runtime.block_on(async {
        let mut askers = JoinSet::new();
        for _ in 0..CROWD.0 {
            let Sender::Http2(connection) = visitor.connect(HOST).await? else { continue };
            for _ in 0..CROWD.1 {
                let (visitor, mut connection) = (visitor.clone(), connection.clone());
                askers.spawn(async move {
                    let request = visitor.request(Method::GET, HOST, "/held", empty());
                    connection.ready().await.map_err(std::io::Error::other)?;
                    let answer = connection.send_request(request).await.map_err(std::io::Error::other)?;
                    Ok::<_, std::io::Error>(whole(answer).await?.status)
                });
            }
        }
        // All of them are there before the origin answers.
        tokio::time::sleep(Duration::from_secs(2)).await;
        (0..10).for_each(|_| stage.live().release());
        while let Some(asked) = askers.join_next().await {
            ensure!(asked?? == StatusCode::OK, "an answer was no 200");
        }
        Ok(())
    })?;
    let fetches = stage.live().asked("/held") - before;
    Ok(format!("\n{} simultaneous misses of one page: {fetches} fetch of the origin.\n", CROWD.0 * CROWD.1))
}

fn visitor(server: &Started, stage: &Stage) -> Visitor {
    Visitor::new(([127, 0, 0, 1], server.port).into(), &stage.certificate())
}

/// The connector is killed under load, and then there is none.
fn cut_off(stage: &Stage, seconds: u32) -> Result<String> {
    // One after the other: they have the same folder.
    let fresh = fresh_hits(stage, seconds)?;
    let mut edge = stage.kept("{ cache: { preset: static, ttl: { 200: 2s } } }")?;
    let url = format!("https://{HOST}:{}/1k", edge.port);
    let under_load = std::thread::scope(|scope| {
        let loading = scope.spawn(|| load::requests(&url, 64, seconds.max(4)));
        let _later = std::process::Command::new("sleep").arg("1").status();
        let connector = edge.processes.pop();
        drop(connector);
        loading.join().map_err(|_| anyhow::anyhow!("the load broke"))?
    })?;
    let stale = load::requests(&url, 64, seconds)?;
    ensure!(stale.failed == 0, "{} stale answers failed", stale.failed);
    Ok(format!(
        "\nThe connector is killed while {} requests read a kept page: {} failed. Stale answers with the tunnel cut: p99 {:.2} ms; hits: p99 {:.2} ms (ratio {:.2}).\n",
        under_load.count,
        under_load.failed,
        stale.p99,
        fresh.p99,
        stale.p99 / fresh.p99
    ))
}

/// The same page where it never ceases to be fresh.
fn fresh_hits(stage: &Stage, seconds: u32) -> Result<load::Requests> {
    let edge = stage.kept("{ cache: static }")?;
    load::requests(&format!("https://{HOST}:{}/1k", edge.port), 64, seconds)
}

/// Memory of the limiter, asked by very many addresses.
fn addresses(stage: &Stage, seconds: u32) -> Result<String> {
    let edge = stage.kept("{ cache: static, rate-limit: { rate: 1/h, burst: 1000 } }")?;
    let script = stage.script(
        "addresses.lua",
        "local n = math.random(1, 2^24)\nrequest = function()\n  n = n + 1\n  wrk.headers['X-Real-IP'] = string.format('%d.%d.%d.%d', 11 + n / 16777216 % 100, n / 65536 % 256, n / 256 % 256, n % 256)\n  return wrk.format('GET', '/1k')\nend\n",
    )?;
    let memory = || edge.processes.first().map_or(0, super::process::Process::memory) as f64 / 1024.0;
    let url = format!("https://{HOST}:{}/1k", edge.port);
    load::requests(&url, 64, 2)?;
    let before = memory();
    let (mut count, mut failed) = (0, 0);
    while count < 1_000_000 {
        let done = load::scripted(&url, &script, 64, seconds)?;
        count += done.count;
        failed += done.failed;
    }
    let after = memory();
    Ok(format!(
        "\nA rate limit asked by {count} addresses: {before:.0} MiB before, {after:.0} MiB after (PSS of the edge); {failed} refused.\n"
    ))
}

/// Very many stored responses: what each costs, and how long it takes to find one.
fn objects(count: usize) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let room = Room { memory: 32 << 20, disk: 1 << 40, inactive: Duration::from_secs(86_400) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(folder.path(), room)?;
        let (began, before) = (Instant::now(), resident()?);
        for number in 0..count {
            if number % 100_000 == 0 {
                eprintln!("{number} responses stored");
            }
            let mut fill = store.fill(meta(number));
            fill.write(bytes::Bytes::from_static(b"a small page")).await;
            ensure!(fill.finish().await.is_some(), "response {number} was not stored");
        }
        let stored = began.elapsed().as_secs_f64() * 1e6 / count as f64;
        let each = (resident()? - before - (32 << 20) as f64) / count as f64;
        let found = find(&store, count).await?;
        let absent = absent(&store).await;
        drop(store);
        let began = Instant::now();
        let store = Store::open(folder.path(), room)?;
        while store.stats().objects < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let known = began.elapsed().as_secs_f64();
        Ok(format!(
            "\n{count} responses on disk: {each:.0} bytes of memory each beside the 32 MiB of the memory cache; stored in {stored:.0} µs each; found and opened on disk in {:.1} µs, in memory in {:.2} µs, known to be absent in {absent:.2} µs; after a restart all are known within {known:.1} s, and each is found from the first moment on.\n",
            found.0, found.1
        ))
    })
}

fn resident() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.split_whitespace().next().context("VmRSS")?.parse()?;
    Ok(kib * 1024.0)
}

fn meta(number: usize) -> Meta {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", http::HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert("etag", http::HeaderValue::from_static("\"0123456789abcdef\""));
    let life = Life { fresh_for: Duration::from_secs(86_400), ..Life::default() };
    let target = format!("/page/{number}");
    Meta {
        key: format!("https://{HOST}{target}"),
        place: Place { tunnel: TunnelId(Uuid::nil()), host: HOST.to_owned(), target },
        kind: Kind::Response(Head { status: StatusCode::OK, headers, life, part: None }),
        came: SystemTime::now(),
        sequence: 0,
    }
}

/// Microseconds to find one that is on disk, and again in memory.
async fn find(store: &Arc<Store>, count: usize) -> Result<(f64, f64)> {
    const LOOKS: usize = 10_000;
    let keys: Vec<String> = (0..LOOKS).map(|number| meta(number * 7919 % (count * 9 / 10)).key).collect();
    let now = SystemTime::now();
    let mut times = [0.0, 0.0];
    for time in &mut times {
        let began = Instant::now();
        for key in &keys {
            ensure!(store.find(key, now).await.is_some(), "{key} is gone");
        }
        *time = began.elapsed().as_secs_f64() * 1e6 / LOOKS as f64;
    }
    Ok(times.into())
}

async fn absent(store: &Arc<Store>) -> f64 {
    const LOOKS: usize = 1_000_000;
    let (began, now) = (Instant::now(), SystemTime::now());
    let key = "https://localhost/absent/".to_owned();
    for _ in 0..LOOKS {
        std::hint::black_box(store.find(&key, now).await);
    }
    began.elapsed().as_secs_f64() * 1e6 / LOOKS as f64
}
