//! The stored tunnels of a data directory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::StoredTunnel;
use crate::diagnostic::{Diagnostic, Report, Severity};

/// Reads every `DATA-DIR/tunnels/*.json`, in the order of their names. No directory means no tunnels.
///
/// # Errors
/// A report of every file that is no tunnel, or not the one that its name says.
pub fn load_all(data_dir: &Path) -> Result<Vec<StoredTunnel>, Report> {
    let directory = StoredTunnel::directory(data_dir);
    let paths = match json_files(&directory) {
        Ok(paths) => paths,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(wrong(&directory, format!("the directory cannot be read: {error}")).into()),
    };
    let mut tunnels = Vec::new();
    let mut report = Report::default();
    for path in paths {
        match load(&path) {
            Ok(tunnel) => tunnels.push(tunnel),
            Err(what) => report.0.push(wrong(&path, what)),
        }
    }
    match report.has_errors() {
        true => Err(report),
        false => Ok(tunnels),
    }
}

/// Files in the making begin with a dot.
fn json_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.path().extension().is_some_and(|extension| extension == "json") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn load(path: &Path) -> Result<StoredTunnel, String> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|error| format!("the file cannot be read: {error}"))?;
    let tunnel = StoredTunnel::parse(&text).map_err(|error| error.to_string())?;
    match path.file_stem().is_some_and(|stem| *stem == *tunnel.name) {
        true => Ok(tunnel),
        false => Err(format!("the file holds tunnel `{}`: its name must be the same", tunnel.name)),
    }
}

fn wrong(path: &Path, what: String) -> Diagnostic {
    Diagnostic::new(path, Severity::Error, what)
}
