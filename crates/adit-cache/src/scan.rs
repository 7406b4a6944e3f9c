//! What lies on disk when the edge starts is found by looking, in the background.

use std::fs::{self, DirEntry};
use std::path::Path;
use std::time::SystemTime;

use crate::file;
use crate::index::{Index, Number};

/// The folder of a file, and its name in it: 256 folders, so that none gets too long.
pub(crate) fn name(number: Number) -> (String, String) {
    let text = format!("{:016x}{:016x}", number[0], number[1]);
    let (folder, name) = text.split_at(2);
    (folder.to_owned(), name.to_owned())
}

fn number(folder: &str, name: &str) -> Option<Number> {
    let text = format!("{folder}{name}");
    let (high, low) = text.split_at_checked(16)?;
    (text.len() == 32).then_some(())?;
    Some([u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?])
}

/// Fills the index. What is foreign stays; what cannot be looked at is skipped.
pub(crate) fn scan(root: &Path, index: &Index) {
    for folder in entries(root) {
        let folder_name = folder.file_name();
        for entry in entries(&folder.path()) {
            let found = number(&folder_name.to_string_lossy(), &entry.file_name().to_string_lossy());
            let Some((number, metadata)) = found.zip(entry.metadata().ok()) else { continue };
            // What came while we looked is known better already.
            if !index.find(number, 0) {
                index.insert(number, metadata.len(), seconds(metadata.modified().ok()));
            }
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// Seconds since the epoch.
pub(crate) fn seconds(time: Option<SystemTime>) -> u32 {
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    u32::try_from(since.unwrap_or_default().as_secs()).unwrap_or(u32::MAX)
}

/// Removes what was being written when the edge ended.
pub(crate) fn clear(folder: &Path) {
    entries(folder).for_each(|entry| file::remove(&entry.path()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_together() {
        let (folder, name) = name([0x0123_4567_89ab_cdef, 7]);
        assert_eq!((folder.as_str(), name.as_str()), ("01", "23456789abcdef0000000000000007"));
        assert_eq!(number(&folder, &name), Some([0x0123_4567_89ab_cdef, 7]));
        for (folder, name) in
            [("tm", "p"), ("01", "2345"), ("", ""), ("zz", "23456789abcdef0000000000000007")]
        {
            assert_eq!(number(folder, name), None);
        }
    }
}
