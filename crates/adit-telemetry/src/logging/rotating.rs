//! A log file that is put aside when it is large (cloudflared's `log-directory`: 1 MiB, five files).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// Bytes of one file.
const SIZE_MAX: u64 = 1024 * 1024;
/// Files that are kept beside the present one.
const KEPT: usize = 5;
/// The end of an old file's name, as cloudflared's library writes it.
const STAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]-[minute]-[second].[subsecond digits:3]");

/// The file.
#[derive(Debug)]
pub(super) struct Rotating {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Rotating {
    /// Opens a file to be continued.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let now = OffsetDateTime::now_utc().format(STAMP).map_err(io::Error::other)?;
        fs::rename(&self.path, self.path.with_file_name(format!("{}-{now}.log", self.stem())))?;
        *self = Self::open(&self.path)?;
        self.forget()
    }

    /// Removes the oldest files beyond those that are kept; their names sort by time.
    fn forget(&self) -> io::Result<()> {
        let Some(folder) = self.path.parent() else { return Ok(()) };
        let prefix = format!("{}-", self.stem());
        let is_old =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
        let mut old: Vec<PathBuf> =
            fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).filter(is_old).collect();
        old.sort();
        let superfluous = old.len().saturating_sub(KEPT);
        old.iter().take(superfluous).try_for_each(fs::remove_file)
    }

    fn stem(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Write for Rotating {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + data.len() as u64 > SIZE_MAX {
            // A file that cannot be put aside goes on growing: better than no log.
            drop(self.rotate());
        }
        let written = self.file.write(data)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_put_aside_and_few_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloudflared.log");
        let line = [b'x'; 200 * 1024];
        for number in 0..50 {
            // Each is opened anew: a process that starts again goes on in the same file.
            let mut log = Rotating::open(&path).unwrap();
            log.write_all(&line).unwrap();
            log.flush().unwrap();
            let files = fs::read_dir(folder.path()).unwrap().count();
            assert!(files <= 1 + KEPT && (number < 5 || files > 1), "{files} files after {number}");
        }
        assert!(fs::metadata(&path).unwrap().len() <= SIZE_MAX);
    }
}
