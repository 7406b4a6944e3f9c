//! A process of a chain: started, measured by the kernel's own counters, and killed in the end.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// CPU time in nanoseconds.
pub(crate) type Usage = u64;

/// A running process of a chain, with its children.
pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
}

impl Process {
    /// Starts a program; what it says goes to a file.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let log = fs::File::create(log)?;
        // Backtraces cost CPU where errors are made; nobody serves with them.
        command.env_remove("RUST_BACKTRACE").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// CPU time that it and its children have used.
    pub(crate) fn cpu(&self) -> Usage {
        self.tree().iter().map(|pid| threads_cpu(*pid)).sum()
    }

    /// Proportional set size in KiB, its children's included.
    pub(crate) fn memory(&self) -> u64 {
        self.tree().iter().map(|pid| pss(*pid)).sum()
    }

    fn tree(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).chain([own]).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for pid in self.tree() {
            // It may be gone already.
            drop(Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status());
        }
        drop(self.child.wait());
    }
}

fn threads_cpu(pid: u32) -> Usage {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    threads.filter_map(Result::ok).filter_map(|thread| first_number(&thread.path().join("schedstat"))).sum()
}

fn first_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

fn pss(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}
