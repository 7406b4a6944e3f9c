//! The text of a file, with its name and its lines.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Report, Severity};

/// Bytes of a configuration file: 10 000 rules of 400 bytes.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The text of a configuration file. Clones share it.
#[derive(Clone)]
pub struct Source {
    path: Arc<Path>,
    text: Arc<str>,
}

impl Source {
    /// A text that is already at hand. A byte order mark is dropped.
    ///
    /// # Errors
    /// A report if the text is too long.
    pub fn new(path: &Path, text: &str) -> Result<Self, Report> {
        if text.len() > FILE_BYTES_MAX {
            return Err(refused(path, too_large()));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok(Self { path: path.into(), text: text.into() })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A report if the file cannot be read, is too large, or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, Report> {
        let bytes = read_limited(path).map_err(|error| refused(path, format!("cannot be read: {error}")))?;
        if bytes.len() > FILE_BYTES_MAX {
            return Err(refused(path, too_large()));
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::new(path, text),
            Err(error) => Err(not_utf8(path, &bytes, error.valid_up_to())),
        }
    }

    /// Where the text comes from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The directory that relative paths start at.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or_else(|| Path::new(""))
    }

    /// The path as seen from the working directory.
    #[must_use]
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.directory().join(path)
    }

    /// A line, counted from 1.
    #[must_use]
    pub fn line(&self, number: usize) -> Option<&str> {
        self.text.lines().nth(number.checked_sub(1)?)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.path.display())
    }
}

/// One byte more than allowed is enough to refuse a file.
fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn too_large() -> String {
    format!("is too large (more than {} MiB)", FILE_BYTES_MAX / 1024 / 1024)
}

fn refused(path: &Path, what: String) -> Report {
    Report::from(Diagnostic::new(path, Severity::Error, format!("the file {what}")))
}

fn not_utf8(path: &Path, bytes: &[u8], valid: usize) -> Report {
    let before = bytes.get(..valid).unwrap_or_default();
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let in_line = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default());
    let mut diagnostic = Diagnostic::new(path, Severity::Error, "the file is not UTF-8 text".to_owned());
    diagnostic.line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    diagnostic.column = in_line.chars().count() + 1;
    diagnostic.help("save it in UTF-8; a UTF-16 file, as some Windows editors write, is not accepted");
    Report::from(diagnostic)
}
