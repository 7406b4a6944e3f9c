//! `cargo xtask bench`: the same work through Adit and through its peers, in one run, on loopback.
//!
//! Rounds go through all chains in turn, so that a machine that changes its speed treats all alike. What counts is
//! ratios of one run, and CPU per request before requests per second.

pub(crate) mod abuse;
mod chain;
pub(crate) mod front;
pub(crate) mod kept;
mod live;
mod load;
mod parts;
mod peers;
mod process;
pub(crate) mod suite;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use chain::{Chain, Kind};
use load::{Bulk, Requests};
use process::Usage;

/// What to measure.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Install the peers first: nginx and wrk from Debian, rathole from the crate registry
    #[arg(long)]
    install: bool,
    /// Chains to measure, by letter
    #[arg(long, value_delimiter = ',', default_value = "a,b,c,d,e,f,g")]
    chains: Vec<char>,
    /// Seconds of each load
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Rounds through all chains
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Then send this many requests through our chains and show how memory grows
    #[arg(long, default_value_t = 0)]
    soak: u64,
    /// Write the table to bench/README.md
    #[arg(long)]
    write: bool,
}

/// Everything that was measured of one chain in one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    pub(crate) many: Measured<Requests>,
    pub(crate) few: Measured<Requests>,
    pub(crate) uploads: Measured<Requests>,
    pub(crate) medium: Measured<Bulk>,
    pub(crate) large: Measured<Bulk>,
    /// Only where our edge is in front.
    pub(crate) grpc: Measured<Requests>,
    pub(crate) websockets: Measured<Requests>,
    pub(crate) events: Measured<Requests>,
    /// PSS by process before any load, and right after the requests.
    pub(crate) idle: Vec<(String, u64)>,
    pub(crate) loaded: Vec<(String, u64)>,
}

/// A load's outcome with the CPU time it took, by process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured<T> {
    pub(crate) outcome: T,
    pub(crate) cpu: Vec<(String, Usage)>,
}

/// Measures and prints.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let tools = root.join("target/bench-tools");
    if options.install {
        peers::install(&tools)?;
    }
    let program = build(root)?;
    let kinds = kinds(&options.chains, &tools);
    let stage = parts::Stage::set(&program, &tools)?;
    let mut rounds: Vec<(Kind, Vec<Round>)> = kinds.into_iter().map(|kind| (kind, Vec::new())).collect();
    for number in 1..=options.rounds {
        for (kind, done) in &mut rounds {
            eprintln!("round {number}/{}: {}", options.rounds, kind.name());
            done.push(measure(&stage, *kind, options.seconds)?);
        }
    }
    let mut text = table::render(&rounds, options);
    if options.soak > 0 {
        text.push_str(&soak(&stage, &rounds, options.soak)?);
    }
    println!("{text}");
    if options.write {
        table::write(&root.join("bench/README.md"), &text)?;
    }
    Ok(())
}

/// The release build, or what `ADIT_BIN` names.
fn build(root: &Path) -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("ADIT_BIN") {
        return Ok(PathBuf::from(program));
    }
    let built =
        Command::new(env!("CARGO")).args(["build", "--release", "-p", "adit"]).current_dir(root).status()?;
    ensure!(built.success(), "the release build failed");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/adit"))
}

/// The chains that were asked for and can be had; says which cannot.
fn kinds(letters: &[char], tools: &Path) -> Vec<Kind> {
    let wanted = Kind::ALL.into_iter().filter(|kind| letters.contains(&kind.letter()));
    wanted
        .filter(|kind| match kind.missing(tools) {
            Some(missing) => {
                eprintln!("without ({}) {}: {missing}", kind.letter(), kind.name());
                false
            }
            None => true,
        })
        .collect()
}

fn measure(stage: &parts::Stage, kind: Kind, seconds: u32) -> Result<Round> {
    let chain = Chain::start(stage, kind).with_context(|| format!("starting {}", kind.name()))?;
    let idle = chain.memory();
    load::requests(&chain.url("1k"), 64, 1)?;
    let many = chain.watch(|| load::requests(&chain.url("1k"), 64, seconds))?;
    let loaded = chain.memory();
    let few = chain.watch(|| load::requests(&chain.url("1k"), 4, seconds))?;
    let uploads =
        chain.watch(|| load::scripted(&chain.url("upload"), &stage.upload_script(), 16, seconds))?;
    let medium = chain.watch(|| load::megabytes(&chain.url("1m"), 8, seconds))?;
    let large = chain.watch(|| load::download(&chain.url("100m"), 5))?;
    let mut round = Round { many, few, uploads, medium, large, idle, loaded, ..Round::default() };
    if kind.has_our_edge() {
        let live = chain.live(stage)?;
        if kind.carries_trailers() {
            round.grpc = chain.watch(|| live.grpc(seconds))?;
        }
        round.websockets = chain.watch(|| live.websockets(seconds))?;
        round.events = chain.watch(|| live.events(seconds))?;
    }
    Ok(round)
}

/// Memory of our two ends over many requests.
fn soak(stage: &parts::Stage, rounds: &[(Kind, Vec<Round>)], requests: u64) -> Result<String> {
    let mut text = format!("\n## Memory over {requests} requests (PSS, MiB)\n\n");
    for (kind, _) in rounds.iter().filter(|(kind, _)| kind.is_ours()) {
        let chain = Chain::start(stage, *kind)?;
        let mut sent = 0;
        let mut steps = vec![(0, chain.memory())];
        while sent < requests {
            sent += load::requests(&chain.url("1k"), 64, 5)?.count;
            steps.push((sent, chain.memory()));
        }
        text.push_str(&table::soak(*kind, &steps));
    }
    Ok(text)
}
