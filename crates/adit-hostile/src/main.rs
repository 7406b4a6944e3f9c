//! Hostile and legal requests against a real edge with real connectors, over every protocol and both tunnel transports, and the
//! judge of what origins see of them. `cargo xtask hostile` runs it; docs/design/hostile.md says what is judged.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod case;
mod client;
mod corpus;
mod judge;
mod origin;
mod read;
mod report;
mod run;
mod scene;

use std::process::ExitCode;

use crate::report::Report;

fn main() -> ExitCode {
    let filter = std::env::args().nth(1).unwrap_or_default();
    match tokio::runtime::Runtime::new().and_then(|runtime| runtime.block_on(all(&filter))) {
        Ok(report) => {
            println!("{report}");
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the cases whose corpus or name contains the filter.
async fn all(filter: &str) -> std::io::Result<Report> {
    let scene = scene::Scene::start().await?;
    let cases = corpus::all(&scene.issuer);
    let chosen = cases.into_iter().filter(|case| format!("{}: {}", case.corpus, case.name).contains(filter));
    Ok(run::all(scene, chosen.collect()).await)
}
