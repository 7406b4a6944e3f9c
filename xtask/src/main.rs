//! `cargo xtask`: what holds the house together, what attacks it, and what measures it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod bench;
mod budget;
mod hostile;
mod layers;
mod sources;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks of the house, and the benchmark.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Hold the import direction of crates and the rooms of modules
    Layers,
    /// Hold the size of files and functions, and that every file says what it is for
    Budget,
    /// Send hostile and legal requests through a real edge and connectors, and judge what origins see
    Hostile(hostile::Options),
    /// Measure Adit beside its peers, in one run, on loopback
    Bench(bench::Options),
    /// Measure the public door alone, beside nginx
    Front(bench::front::Options),
    /// Attack the edge beside a good visitor, and nginx and HAProxy the same way
    Abuse(bench::abuse::Options),
    /// Measure the cache and the limits, beside nginx
    Kept(bench::kept::Options),
    /// Run the public HTTP cache test suite against the edge
    Suite(bench::suite::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Layers => layers::check(&root()),
        Verb::Budget => budget::check(&root()),
        Verb::Hostile(options) => hostile::run(&root(), &options),
        Verb::Bench(options) => bench::run(&root(), &options),
        Verb::Front(options) => bench::front::run(&root(), &options),
        Verb::Abuse(options) => bench::abuse::run(&root(), &options),
        Verb::Kept(options) => bench::kept::run(&root(), &options),
        Verb::Suite(options) => bench::suite::run(&root(), &options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new(".")).to_owned()
}
