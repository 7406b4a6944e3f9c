//! `cargo xtask hostile`: builds the program and its tests' build of `adit`, and runs it. The cases are in `crates/adit-hostile`.

use std::path::{Path, PathBuf};
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
    // Named so that features are those of `cargo test --workspace`: then only this program is built, and no library again.
    let selection = ["build", "--quiet", "--workspace", "--bin", "adit-hostile", "--test", "golden"];
    let built = Command::new(env!("CARGO")).args(selection).current_dir(root).status()?;
    ensure!(built.success(), "the build of adit-hostile failed");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut command = Command::new(target.join("debug/adit-hostile"));
    let status = command.args(&options.filter).current_dir(root).status()?;
    ensure!(status.success(), "not every case is safe, or not every legal request passed");
    Ok(())
}
