//! Names that are shut off: a file beside the edge's state, so that it holds over a restart, and works while no edge runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use adit_policy::host::HostPattern;
use adit_policy::shutoff::Shutoff;

use crate::files::{self, Access};

/// First line of the file.
const HEAD: &str = "# Names that are shut off, written by `adit shutoff` and `adit resume`.\n";

/// The file: a name or a pattern a line; `*` for everything.
#[must_use]
pub fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("shutoff")
}

/// What is shut off.
///
/// # Errors
/// When the file is there and cannot be read, or a line is no name: nobody knows then what may be open.
pub fn read(data_dir: &Path) -> io::Result<Shutoff> {
    patterns(data_dir).map(Shutoff::of)
}

fn patterns(data_dir: &Path) -> io::Result<Vec<HostPattern>> {
    let text = match fs::read_to_string(file(data_dir)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if text.trim().is_empty() {
        let message = "the file is empty: it may be cut off; remove it to shut nothing off";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parse = |line: &str| {
        HostPattern::parse(line).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("`{line}` is no host name: {error}"))
        })
    };
    lines.map(parse).collect()
}

/// Shuts names off. Says which were not shut off before.
///
/// # Errors
/// When the file cannot be written.
pub fn add(data_dir: &Path, names: &[HostPattern]) -> io::Result<Vec<HostPattern>> {
    let mut all = patterns(data_dir)?;
    let mut added: Vec<HostPattern> = Vec::new();
    for name in names {
        if !all.contains(name) {
            all.push(name.clone());
            added.push(name.clone());
        }
    }
    write(data_dir, &all)?;
    Ok(added)
}

/// Takes names back into service. Says which were shut off; `None` means all of them.
///
/// # Errors
/// The same.
pub fn remove(data_dir: &Path, names: Option<&[HostPattern]>) -> io::Result<Vec<HostPattern>> {
    let is_meant = |pattern: &HostPattern| names.is_none_or(|names| names.contains(pattern));
    let (gone, kept): (Vec<_>, Vec<_>) = patterns(data_dir)?.into_iter().partition(is_meant);
    write(data_dir, &kept)?;
    Ok(gone)
}

fn write(data_dir: &Path, patterns: &[HostPattern]) -> io::Result<()> {
    // The first line tells a list without names from a file that was cut off.
    let names: String = patterns.iter().map(|pattern| format!("{pattern}\n")).collect();
    files::write(&file(data_dir), format!("{HEAD}{names}").as_bytes(), Access::Owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shut_off_and_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let pattern = |text| HostPattern::parse(text).unwrap();
        let now = |folder: &tempfile::TempDir| read(folder.path()).unwrap();
        assert!(now(&folder).patterns().is_empty());
        let (one, two) = (pattern("a.example"), pattern("*.b.example"));
        assert_eq!(add(folder.path(), &[one.clone(), two.clone()]).unwrap().len(), 2);
        assert!(add(folder.path(), std::slice::from_ref(&one)).unwrap().is_empty());
        assert!(now(&folder).includes("a.example") && now(&folder).includes("x.b.example"));
        assert_eq!(remove(folder.path(), Some(&[one])).unwrap().len(), 1);
        assert!(!now(&folder).includes("a.example"));
        fs::write(file(folder.path()), "# a word\n*.b.example\n").unwrap();
        assert_eq!(now(&folder).patterns(), [two]);
        assert_eq!(remove(folder.path(), None).unwrap().len(), 1);
        assert!(now(&folder).patterns().is_empty());
        fs::write(file(folder.path()), "not a name!\n").unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("not a name!"), "{error}");
        fs::write(file(folder.path()), "").unwrap();
        assert!(read(folder.path()).is_err(), "a file that was cut off opens nothing");
    }
}
