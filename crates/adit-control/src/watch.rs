//! Tells when files change: written in place, replaced, or swapped as a Kubernetes ConfigMap is.
//!
//! Folders are watched, not files: a replaced file is another file. What counts is content: a log that grows beside the
//! configuration is no change of it.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

/// A change comes as several events; this much silence ends it.
const SETTLE: Duration = Duration::from_millis(150);
/// Where there is never silence, as beside a log, it is looked at after this time.
const SETTLE_MAX: Duration = Duration::from_millis(450);

/// A running watch. It ends with this.
#[derive(Debug)]
pub struct Watch {
    _watcher: RecommendedWatcher,
    _thread: JoinHandle<()>,
}

/// Calls `changed` after any of the files, or anything in the folders, has changed. Folders that do not exist are left
/// out. The call happens on a thread of its own.
///
/// # Errors
/// When the system offers no watch.
pub fn watch(paths: &[PathBuf], changed: impl Fn() + Send + 'static) -> notify::Result<Watch> {
    let (sender, events) = channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // The other side ends only with the watch.
            sender.send(()).unwrap_or_default();
        }
    })?;
    let mut folders: Vec<&Path> = paths.iter().map(|path| folder_of(path)).collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in folders.into_iter().filter(|folder| folder.is_dir()) {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    let paths = paths.to_owned();
    let mut known = fingerprint(&paths);
    let run = move || {
        while settled(&events) {
            let now = fingerprint(&paths);
            if std::mem::replace(&mut known, now) != now {
                changed();
            }
        }
    };
    let thread =
        std::thread::Builder::new().name("watch".to_owned()).spawn(run).map_err(notify::Error::io)?;
    Ok(Watch { _watcher: watcher, _thread: thread })
}

fn folder_of(path: &Path) -> &Path {
    if path.is_dir() {
        return path;
    }
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Waits for an event and the silence after it; `false` when the watch has ended.
fn settled(events: &Receiver<()>) -> bool {
    if events.recv().is_err() {
        return false;
    }
    let start = Instant::now();
    loop {
        match events.recv_timeout(SETTLE) {
            Ok(()) if start.elapsed() < SETTLE_MAX => {}
            Ok(()) | Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// A number that changes with the content of the files, and of the files in the folders.
fn fingerprint(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        match fs::read_dir(path) {
            Ok(entries) => {
                let mut files: Vec<PathBuf> =
                    entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
                files.sort();
                files.iter().for_each(|file| (file, fs::read(file).ok()).hash(&mut hasher));
            }
            Err(_) => fs::read(path).ok().hash(&mut hasher),
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_change_is_seen_beside_a_file_that_is_written_all_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yml");
        fs::write(&path, "1").unwrap();
        let (sender, seen) = channel();
        let _watch = watch(std::slice::from_ref(&path), move || sender.send(()).unwrap_or_default()).unwrap();
        let log = folder.path().join("access.log");
        let start = Instant::now();
        fs::write(&path, "2").unwrap();
        while seen.recv_timeout(Duration::from_millis(10)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "it is never looked at");
            fs::write(&log, format!("{:?}", start.elapsed())).unwrap();
        }
    }

    #[test]
    fn a_swapped_link_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("v1"), "1").unwrap();
        symlink("v1", path("config.yml")).unwrap();
        let (sender, seen) = channel();
        let _watch = watch(&[path("config.yml")], move || assert!(sender.send(()).is_ok())).unwrap();
        fs::write(path("v2"), "2").unwrap();
        symlink("v2", path("next")).unwrap();
        fs::rename(path("next"), path("config.yml")).unwrap();
        seen.recv_timeout(Duration::from_secs(10)).unwrap();
    }
}
