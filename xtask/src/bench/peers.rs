//! Getting the peers, only when told to.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// The version that is compared with.
const RATHOLE: &str = "0.5.0";

/// Where the peer from the crate registry is.
pub(crate) fn rathole(tools: &Path) -> PathBuf {
    tools.join("bin/rathole")
}

/// The real program, when its path is given.
pub(crate) fn cloudflared() -> Option<PathBuf> {
    std::env::var_os("CLOUDFLARED_BIN").map(PathBuf::from)
}

/// Installs nginx and wrk from Debian, rathole from the crate registry.
pub(crate) fn install(tools: &Path) -> Result<()> {
    let wanted = ["nginx-light", "wrk", "curl", "openssl", "libssl-dev", "pkg-config"];
    run(Command::new("apt-get").args(["install", "-y", "--no-install-recommends"]).args(wanted))?;
    if rathole(tools).is_file() {
        return Ok(());
    }
    run(Command::new(env!("CARGO")).args(["install", "rathole", "--version", RATHOLE, "--root"]).arg(tools))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}

/// Whether a program can be started.
pub(crate) fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .chain([PathBuf::from("/usr/sbin")])
        .any(|folder| folder.join(program).is_file())
}
