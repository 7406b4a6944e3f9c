//! `cargo xtask hostile`: builds the program and its tests' build of `adit`, and runs it. The cases are in `crates/adit-hostile`.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::Args;

/// Which cases.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only cases whose corpus or name contains this text, such as `smuggling` or `paths: gate`
    filter: Option<String>,
}

/// Runs the cases in a debug build.
///
/// # Errors
/// When one of them fails.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--package", "adit-hostile", "--"]).args(&options.filter);
    let status = command.current_dir(root).status()?;
    ensure!(status.success(), "not every case is safe, or not every legal request passed");
    Ok(())
}
