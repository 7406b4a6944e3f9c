//! `cache`: how much room what is kept has, and where.

use std::path::PathBuf;
use std::time::Duration;

use crate::diagnostic::Findings;
use crate::policy::{Decoder, Files};
use crate::yaml::{self, Node, Table};

/// Bytes on disk where nothing else is said: what the smallest machines have to spare.
const DISK: u64 = 1 << 30;
/// Bytes in memory: a quarter of what a machine of 256 MB has.
const MEMORY: u64 = 64 << 20;
/// What nobody has asked for in a month goes.
const INACTIVE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Room for what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRoom {
    /// Folder; relative to the file.
    pub folder: PathBuf,
    /// Bytes on disk; zero for none.
    pub disk: u64,
    /// Bytes in memory.
    pub memory: u64,
    /// What nobody has asked for during that time goes.
    pub inactive: Duration,
}

/// Reads it. Without it, the folder is in the edge's own.
pub(super) fn decode(node: Option<&Node>, data_dir: &str, findings: &mut Findings) -> Option<CacheRoom> {
    let folder = findings.source().resolve(data_dir).join("cache");
    let mut room = CacheRoom { folder, disk: DISK, memory: MEMORY, inactive: INACTIVE };
    let Some(node) = node else { return Some(room) };
    let mut table = Table::open(node, "`cache` at the top", findings)?;
    if let Some(path) = table.take("folder").and_then(|node| yaml::path_text(node, findings)) {
        room.folder = findings.source().resolve(path);
    }
    let mut size = |key| {
        let node = table.take(key)?;
        Decoder { files: Files::Leave, findings: &mut *findings }.size(node)
    };
    let (disk, memory) = (size("size"), size("memory"));
    room.disk = disk.unwrap_or(room.disk);
    room.memory = memory.unwrap_or(room.memory);
    if let Some(time) = table.take("inactive").and_then(|node| yaml::period(node, findings)) {
        room.inactive = time;
    }
    table.finish(findings);
    Some(room)
}
