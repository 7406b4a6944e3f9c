//! `cargo xtask abuse`: visitors who stall, trickle, cancel and crowd, beside a good one who only wants his page. What the
//! attack costs the server in memory, and what the good visitor notices; the same attacks against nginx and HAProxy.

mod attack;
mod good;
mod servers;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use super::parts::{Stage, Started};
use super::process::Process;
use super::table;
use attack::{Case, Target};
use good::{Good, Seen};
use servers::Server;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long a server has to recover.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// An answer within this time says that the attack is over for the good visitor.
const RECOVERED: Duration = Duration::from_millis(250);

/// What to try.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Servers to attack, by letter
    #[arg(long, value_delimiter = ',', default_value = "d,e,f,g,n,h")]
    servers: Vec<char>,
    /// Attacks, by a part of their name; all without one
    #[arg(long)]
    cases: Option<String>,
    /// Seconds of each attack
    #[arg(long, default_value_t = 12)]
    seconds: u64,
    /// Write the table to bench/abuse.md
    #[arg(long)]
    write: bool,
}

/// What one attack did to one server.
#[derive(Debug)]
struct Outcome {
    server: Server,
    /// Growth of the public end in MiB, at most and ten seconds after the attack.
    growth: f64,
    left: f64,
    /// Growth of the connector in MiB, at most.
    behind: Option<f64>,
    seen: Seen,
    /// Time until the good visitor was served quickly again.
    recovery: Option<Duration>,
    /// CPU seconds of all processes of the server for each second of the attack.
    load: f64,
}

/// Attacks and prints.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let program = super::build(root)?;
    let stage = Stage::set(&program, &root.join("target/bench-tools"))?;
    let servers: Vec<Server> = servers::wanted(&options.servers);
    let mut text = format!(
        "Loopback, {} s per attack, two cores for everybody: attackers, server, origin and the good visitor, who opens a connection for each request, twenty in a second, from an address of his own. Memory is PSS. Edge, nginx 1.22 and HAProxy 2.6 have their defaults, with compression where the attack is about it.\n",
        options.seconds
    );
    let wanted = |case: &&Case| options.cases.as_ref().is_none_or(|part| case.name.contains(part.as_str()));
    for case in attack::CASES.iter().filter(wanted) {
        head(&mut text, case);
        for server in &servers {
            eprintln!("{}: {}", case.name, server.name());
            let outcome = one(&stage, *server, case, options.seconds)
                .with_context(|| format!("{} against {}", case.name, server.name()))?;
            row(&mut text, &outcome);
        }
    }
    println!("{text}");
    if options.write {
        table::write(&root.join("bench/abuse.md"), &text)?;
    }
    Ok(())
}

/// Memory of the public end, and of the connector behind it, in MiB.
fn memory(started: &Started) -> (f64, f64) {
    let of = |process: &Process| process.memory() as f64 / 1024.0;
    let mut each = started.processes.iter().map(of);
    (each.next().unwrap_or_default(), each.sum())
}

fn cpu(started: &Started) -> f64 {
    started.processes.iter().map(Process::cpu).sum::<u64>() as f64 / 1e9
}

fn one(stage: &Stage, server: Server, case: &Case, seconds: u64) -> Result<Outcome> {
    let started = server.start(stage, case.is_compressed)?;
    let target = Target::new(started.port, &stage.certificate());
    let good = Good::start(&target);
    pause(Duration::from_secs(2));
    let (before, spent) = (memory(&started), cpu(&started));
    drop(good.take());
    let attack = attack::start(case, &target)?;
    let mut peak = before;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        pause(LOOK);
        let now = memory(&started);
        peak = (peak.0.max(now.0), peak.1.max(now.1));
    }
    let load = (cpu(&started) - spent) / began.elapsed().as_secs_f64();
    let seen = good.take();
    attack.shutdown_background();
    let recovery = good.recovers(RECOVERY_MAX);
    pause(Duration::from_secs(10));
    let after = memory(&started);
    Ok(Outcome {
        server,
        growth: peak.0 - before.0,
        left: after.0 - before.0,
        behind: server.has_connector().then_some(peak.1 - before.1),
        seen,
        recovery,
        load,
    })
}

#[expect(clippy::disallowed_methods, reason = "this thread only watches")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn head(text: &mut String, case: &Case) {
    put(text, format_args!("\n## {}\n\n{}\n\n", case.name, case.what));
    put(
        text,
        format_args!(
            "| server | grows by MiB | 10 s later | connector | good visitor | p50 ms | p99 ms | back after | CPU |\n|---|---|---|---|---|---|---|---|---|\n"
        ),
    );
}

fn row(text: &mut String, outcome: &Outcome) {
    let behind = outcome.behind.map_or_else(|| "–".to_owned(), |growth| format!("{growth:.0}"));
    let recovery = outcome
        .recovery
        .map_or_else(|| "not in 30 s".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
    let Outcome { server, growth, left, seen, load, .. } = outcome;
    put(
        text,
        format_args!(
            "| {} | {growth:.0} | {left:.0} | {behind} | {} of {} | {:.0} | {:.0} | {recovery} | {load:.2} |\n",
            server.name(),
            seen.served,
            seen.asked,
            seen.percentile(50),
            seen.percentile(99),
        ),
    );
}

fn put(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    text.write_fmt(words).unwrap_or_default();
}
