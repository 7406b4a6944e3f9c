//! One response on disk: the body from the first byte on, then what is known of it, then a footer that says how long both are
//! and what their checksums are. A file is written under another name first, so a torn one is never found; what a crash of
//! the machine tears afterwards fails its checksum.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::SystemTime;

use crc32fast::Hasher;

use crate::meta::Meta;

/// Bytes of the footer.
const FOOTER: usize = 32;
/// Marks a file as ours, and its form.
const MAGIC: [u8; 8] = *b"aditcch2";
/// Bytes of the largest meta: the largest head, three times over.
const META_MAX: u64 = 256 * 1024;
/// Bytes that are checked at a time.
const CHECKED_AT_ONCE: usize = 128 * 1024;

/// A file that holds a response.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) meta: Meta,
    /// Bytes of the body.
    pub(crate) length: u64,
    body_sum: u32,
}

/// Why a file holds no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is not there")]
    Absent,
    #[error("it is torn or foreign")]
    Torn,
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent,
            io::ErrorKind::UnexpectedEof => Self::Torn,
            _ => Self::Io(error),
        }
    }
}

/// Writes what follows the body, and cuts off what was behind.
pub(crate) fn write_tail(file: &File, meta: &Meta, length: u64, body_sum: u32) -> io::Result<u64> {
    let encoded = meta.encode().ok_or_else(|| io::Error::other("the head cannot be written"))?;
    let mut tail = encoded.clone();
    tail.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
    tail.extend_from_slice(&length.to_le_bytes());
    tail.extend_from_slice(&sum(&encoded).to_le_bytes());
    tail.extend_from_slice(&body_sum.to_le_bytes());
    tail.extend_from_slice(&[0; 4]);
    tail.extend_from_slice(&MAGIC);
    file.write_all_at(&tail, length)?;
    let whole = length + tail.len() as u64;
    file.set_len(whole)?;
    Ok(whole)
}

impl Opened {
    /// Opens a file.
    pub(crate) fn open(path: &Path) -> Result<Self, Unreadable> {
        Self::read(File::options().read(true).write(true).open(path)?)
    }

    fn read(file: File) -> Result<Self, Unreadable> {
        let size = file.metadata()?.len();
        let footer_at = size.checked_sub(FOOTER as u64).ok_or(Unreadable::Torn)?;
        let mut footer = [0; FOOTER];
        file.read_exact_at(&mut footer, footer_at)?;
        let (meta_length, length, meta_sum, body_sum) = parse(&footer).ok_or(Unreadable::Torn)?;
        let meta_at =
            footer_at.checked_sub(meta_length).filter(|at| *at == length).ok_or(Unreadable::Torn)?;
        // At most META_MAX, so it fits.
        let mut encoded = vec![0; meta_length as usize];
        file.read_exact_at(&mut encoded, meta_at)?;
        let meta = Meta::decode(&encoded).filter(|_| sum(&encoded) == meta_sum).ok_or(Unreadable::Torn)?;
        Ok(Self { file, meta, length, body_sum })
    }

    /// Reads the whole body and compares its checksum.
    pub(crate) fn is_whole(&self) -> io::Result<bool> {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; CHECKED_AT_ONCE];
        let mut at = 0;
        while at < self.length {
            let wanted = (self.length - at).min(CHECKED_AT_ONCE as u64) as usize;
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            self.file.read_exact_at(part, at)?;
            hasher.update(part);
            at += wanted as u64;
        }
        Ok(hasher.finalize() == self.body_sum)
    }

    /// The checksum of the body, to write another tail with.
    pub(crate) fn body_sum(&self) -> u32 {
        self.body_sum
    }
}

/// Lengths of meta and body, and their checksums.
fn parse(footer: &[u8; FOOTER]) -> Option<(u64, u64, u32, u32)> {
    let (meta_length, rest) = footer.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (meta_sum, rest) = rest.split_first_chunk::<4>()?;
    let (body_sum, rest) = rest.split_first_chunk::<4>()?;
    if rest.get(4..)? != MAGIC {
        return None;
    }
    let meta_length = u64::from(u32::from_le_bytes(*meta_length));
    let sums = (u32::from_le_bytes(*meta_sum), u32::from_le_bytes(*body_sum));
    (meta_length <= META_MAX).then_some((meta_length, u64::from_le_bytes(*length), sums.0, sums.1))
}

fn sum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Notes that a file was used, so that it is known after a restart. Failing costs nothing but that.
pub(crate) fn touch(file: &File, now: SystemTime) {
    drop(file.set_modified(now));
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::tests::response;

    fn written(body: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        let file = File::create(&path).unwrap();
        file.write_all_at(body, 0).unwrap();
        write_tail(&file, &response("a", "/"), body.len() as u64, sum(body)).unwrap();
        (folder, path)
    }

    #[test]
    fn every_torn_form_is_known() {
        let (_folder, path) = written(b"the body of it");
        let good = fs::read(&path).unwrap();
        let opened = Opened::open(&path).unwrap();
        assert!(opened.is_whole().unwrap());
        assert_eq!((opened.length, opened.meta.key.as_str()), (14, "https://a/"));
        for end in 0..good.len() {
            fs::write(&path, &good[..end]).unwrap();
            assert!(Opened::open(&path).is_err(), "cut at {end}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            let passes = Opened::open(&path).is_ok_and(|opened| opened.is_whole().unwrap_or(false));
            let is_padding = at >= good.len() - 12 && at < good.len() - 8;
            assert_eq!(passes, is_padding, "another bit at {at}");
        }
    }

    #[test]
    fn a_tail_is_replaced_by_a_shorter_or_longer_one() {
        let (_folder, path) = written(b"body");
        for target in ["/a/much/longer/path/than/before", "/s"] {
            let opened = Opened::open(&path).unwrap();
            write_tail(&opened.file, &response("a", target), opened.length, opened.body_sum()).unwrap();
            let again = Opened::open(&path).unwrap();
            assert_eq!(again.meta.place.target, target);
            assert!(again.is_whole().unwrap());
        }
    }
}
