//! All of it together.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use adit_policy::cache::key;
use bytes::{Bytes, BytesMut};
use crc32fast::Hasher;
use moka::sync::Cache;
use tokio::task::spawn_blocking;

use crate::body::{Body, Broken, Growing, Reader};
use crate::file::{self, Opened, Unreadable};
use crate::index::{self, Index, Number};
use crate::meta::{Kind, Meta};
use crate::purge::{Purge, Purges, Verdict};
use crate::scan;

/// Bodies up to this size are kept in memory; larger ones are read from disk, which is memory as well while they are in use.
const IN_MEMORY_MAX: u64 = 256 * 1024;
/// What a response whose body is on disk weighs in memory: its open file.
const OPEN_FILE_WEIGHT: usize = 32 * 1024;
/// Responses that are removed at once to make room.
const EVICTED_AT_ONCE: usize = 1_000;
/// Folder of what is being written.
const WRITING: &str = "writing";
/// File that names the run of the machine that wrote last.
const BOOT: &str = "boot";
const PURGES: &str = "purges";

/// How much there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes in memory.
    pub memory: u64,
    /// Bytes on disk; zero for none.
    pub disk: u64,
    /// What nobody has used for that long goes.
    pub inactive: Duration,
}

/// A stored response.
#[derive(Debug)]
pub struct Object {
    /// What is known of it.
    pub meta: Meta,
    body: Body,
    body_sum: u32,
    /// The last purge that it was compared with.
    checked: AtomicU64,
    /// A purge has made it stale.
    stale: AtomicBool,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The response.
    pub object: Arc<Object>,
    /// Whether a purge has made it stale.
    pub purged: bool,
}

/// How much is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Responses on disk.
    pub objects: usize,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes in memory.
    pub memory: u64,
}

/// All stored responses.
#[derive(Debug)]
pub struct Store {
    root: Option<PathBuf>,
    room: Room,
    memory: Cache<Number, Arc<Object>>,
    index: Index,
    /// Whether everything on disk is in the index.
    is_complete: AtomicBool,
    /// What was written before is checked before its first use: the machine went down in between.
    is_doubtful: bool,
    started: u32,
    purges: Purges,
    written: AtomicU64,
}

impl Object {
    fn new(meta: Meta, body: Body, body_sum: u32) -> Self {
        let checked = AtomicU64::new(meta.sequence);
        Self { meta, body, body_sum, checked, stale: AtomicBool::new(false) }
    }

    /// Bytes of its body; `None` while it is coming.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match &self.body {
            Body::Memory(bytes) => Some(bytes.len() as u64),
            Body::File(_, length) => Some(*length),
            Body::Growing(_) => None,
        }
    }

    /// Reads its body from `first` to before `end`.
    #[must_use]
    pub fn read(&self, first: u64, end: Option<u64>) -> Reader {
        Reader::new(self.body.clone(), first, end)
    }

    /// The whole body, where it is in memory.
    #[must_use]
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.body {
            Body::Memory(bytes) => Some(bytes),
            Body::File(..) | Body::Growing(_) => None,
        }
    }

    fn weight(&self) -> u32 {
        let body = match &self.body {
            Body::Memory(bytes) => bytes.len(),
            Body::File(..) | Body::Growing(_) => OPEN_FILE_WEIGHT,
        };
        u32::try_from(self.meta.weight() + body).unwrap_or(u32::MAX)
    }
}

impl Store {
    /// Opens a store in a folder. Looking at what is there goes on in the background.
    ///
    /// # Errors
    /// When the folder cannot be had.
    pub fn open(folder: &Path, room: Room) -> io::Result<Arc<Self>> {
        let root = (room.disk > 0).then(|| folder.to_owned());
        let mut is_doubtful = false;
        if let Some(root) = &root {
            fs::create_dir_all(root.join(WRITING))?;
            scan::clear(&root.join(WRITING));
            is_doubtful = note_boot(root);
        }
        let weigher = |_: &Number, object: &Arc<Object>| object.weight();
        let store = Arc::new(Self {
            memory: Cache::builder().max_capacity(room.memory).weigher(weigher).build(),
            index: Index::default(),
            is_complete: AtomicBool::new(root.is_none()),
            is_doubtful,
            started: scan::seconds(Some(SystemTime::now())),
            purges: Purges::open(root.as_ref().map(|root| root.join(PURGES))),
            written: AtomicU64::new(0),
            root,
            room,
        });
        let scanning = store.clone();
        if let Some(root) = store.root.clone() {
            std::thread::Builder::new().name("cache-scan".to_owned()).spawn(move || {
                scan::scan(&root, &scanning.index);
                scanning.is_complete.store(true, Ordering::Release);
                scanning.make_room();
                tracing::debug!(objects = scanning.index.count(), "the cache on disk is known");
            })?;
        }
        Ok(store)
    }

    /// What is stored under a key.
    pub async fn find(self: &Arc<Self>, key: &str, now: SystemTime) -> Option<Found> {
        let number = number(key);
        if let Some(object) = self.memory.get(&number) {
            self.index.find(number, scan::seconds(Some(now)));
            return self.judged(number, object, key);
        }
        let on_disk = self.index.find(number, scan::seconds(Some(now)));
        if !on_disk && self.is_complete.load(Ordering::Acquire) {
            return None;
        }
        let store = self.clone();
        let object = spawn_blocking(move || store.load(number, now)).await.ok().flatten()?;
        self.memory.insert(number, object.clone());
        self.judged(number, object, key)
    }

    /// The number may be another key's, and a purge may have been about it.
    fn judged(self: &Arc<Self>, number: Number, object: Arc<Object>, key: &str) -> Option<Found> {
        if object.meta.key != key {
            return None;
        }
        let (last, checked) = (self.purges.last(), object.checked.load(Ordering::Relaxed));
        if checked < last {
            match self.purges.verdict(&object.meta, checked) {
                Verdict::Gone => {
                    self.remove_number(number);
                    return None;
                }
                Verdict::Stale => object.stale.store(true, Ordering::Relaxed),
                Verdict::Counts => {}
            }
            object.checked.store(last, Ordering::Relaxed);
        }
        let purged = object.stale.load(Ordering::Relaxed);
        Some(Found { object, purged })
    }

    fn load(&self, number: Number, now: SystemTime) -> Option<Arc<Object>> {
        let path = self.path(number)?;
        let opened = match Opened::open(&path) {
            Ok(opened) => opened,
            Err(error) => {
                self.cannot_read(number, &path, &error);
                return None;
            }
        };
        let written = scan::seconds(opened.file.metadata().and_then(|metadata| metadata.modified()).ok());
        let is_old = self.is_doubtful && written < self.started;
        if is_old && !opened.is_whole().unwrap_or(false) {
            self.cannot_read(number, &path, &Unreadable::Torn);
            return None;
        }
        // While what is there is still being looked at, the index hears of it here.
        self.index.insert(number, opened.length, scan::seconds(Some(now)));
        file::touch(&opened.file, now);
        Some(Arc::new(object_of(opened)))
    }

    fn cannot_read(&self, number: Number, path: &Path, error: &Unreadable) {
        self.index.remove(number);
        match error {
            Unreadable::Absent => {}
            Unreadable::Torn => {
                tracing::warn!(path = %path.display(), "a stored response is torn; it is removed");
                file::remove(path);
            }
            Unreadable::Io(error) => {
                tracing::warn!(path = %path.display(), %error, "a stored response cannot be read");
            }
        }
    }

    /// Begins to store a response. `asked` is the purge that was the last one when it was asked for.
    #[must_use]
    pub fn fill(self: &Arc<Self>, meta: Meta) -> Fill {
        Fill {
            store: self.clone(),
            number: number(&meta.key),
            meta,
            growing: Arc::default(),
            spill: None,
            hasher: Hasher::new(),
            is_live: false,
            is_done: false,
        }
    }

    /// The number of the last purge, for [`Meta::sequence`].
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.purges.last()
    }

    /// Stores that responses under a key vary.
    pub async fn vary(self: &Arc<Self>, meta: Meta) {
        debug_assert!(matches!(meta.kind, Kind::Varies(_)));
        let fill = self.fill(meta);
        drop(fill.finish().await);
    }

    /// Puts other words about the same body in place: it was confirmed.
    pub async fn confirm(self: &Arc<Self>, object: &Arc<Object>, meta: Meta) -> Arc<Object> {
        let number = number(&meta.key);
        let fresh = Arc::new(Object::new(meta, object.body.clone(), object.body_sum));
        self.memory.insert(number, fresh.clone());
        if let (Some(path), Some(length)) = (self.path(number), fresh.length()) {
            let (object, body_sum) = (fresh.clone(), fresh.body_sum);
            let written = spawn_blocking(move || {
                let opened = Opened::open(&path).ok()?;
                // Somebody else may have stored another body by now.
                let same = opened.length == length && opened.body_sum() == body_sum;
                same.then(|| file::write_tail(&opened.file, &object.meta, length, body_sum))
            });
            if let Ok(Some(Err(error))) = written.await {
                tracing::warn!(%error, "a stored response cannot be brought up to date");
            }
        }
        fresh
    }

    /// Removes what is stored under a key.
    pub fn remove(self: &Arc<Self>, key: &str) {
        self.remove_number(number(key));
    }

    fn remove_number(self: &Arc<Self>, number: Number) {
        self.memory.invalidate(&number);
        if let Some(path) = self.path(number).filter(|_| self.index.remove(number)) {
            drop(spawn_blocking(move || file::remove(&path)));
        }
    }

    /// Purges.
    ///
    /// # Errors
    /// When it cannot be remembered; it counts for nothing then.
    pub fn purge(self: &Arc<Self>, purge: Purge, now: SystemTime) -> io::Result<()> {
        let is_everything = matches!(&purge, Purge { what: crate::What::All, soft: false, tunnel: None });
        // Twice the time that something unused is kept for: what a purge is about is gone by then.
        let forget_before =
            now.checked_sub(self.room.inactive.saturating_mul(2)).unwrap_or(SystemTime::UNIX_EPOCH);
        self.purges.add(purge, now, forget_before)?;
        if is_everything {
            self.memory.invalidate_all();
            let store = self.clone();
            drop(spawn_blocking(move || store.unlink(&store.index.numbers())));
        }
        Ok(())
    }

    /// Whether the same purge is remembered.
    #[must_use]
    pub fn has_purged(&self, purge: &Purge) -> bool {
        self.purges.contains(purge)
    }

    /// Removes what nobody uses, and what is too much. For every minute or so; it waits for the disk.
    pub fn sweep(&self, now: SystemTime) {
        let limit = now.checked_sub(self.room.inactive).unwrap_or(SystemTime::UNIX_EPOCH);
        let gone = self.index.unused_since(scan::seconds(Some(limit)));
        for number in &gone {
            self.memory.invalidate(number);
        }
        self.unlink(&gone);
        self.make_room();
        self.memory.run_pending_tasks();
    }

    fn unlink(&self, numbers: &[Number]) {
        for number in numbers {
            self.index.remove(*number);
            self.path(*number).iter().for_each(|path| file::remove(path));
        }
    }

    fn make_room(&self) {
        loop {
            let gone = self.index.evict(self.room.disk, EVICTED_AT_ONCE);
            if gone.is_empty() {
                return;
            }
            for number in &gone {
                self.memory.invalidate(number);
            }
            self.unlink(&gone);
        }
    }

    /// How much is stored.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { objects: self.index.count(), bytes: self.index.bytes(), memory: self.memory.weighted_size() }
    }

    fn path(&self, number: Number) -> Option<PathBuf> {
        let (folder, name) = scan::name(number);
        Some(self.root.as_ref()?.join(folder).join(name))
    }

    fn new_path(&self) -> Option<PathBuf> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        Some(self.root.as_ref()?.join(WRITING).join(number.to_string()))
    }

    /// Gives a file that is written its name.
    fn install(&self, number: Number, from: &Path, size: u64) -> io::Result<()> {
        let path = self.path(number).ok_or(io::ErrorKind::Unsupported)?;
        if let Err(error) = fs::rename(from, &path) {
            let folder = path.parent().filter(|_| error.kind() == io::ErrorKind::NotFound).ok_or(error)?;
            fs::create_dir_all(folder)?;
            fs::rename(from, &path)?;
        }
        self.index.insert(number, size, scan::seconds(Some(SystemTime::now())));
        self.make_room();
        Ok(())
    }
}

fn object_of(opened: Opened) -> Object {
    let (length, body_sum) = (opened.length, opened.body_sum());
    let small = (length <= IN_MEMORY_MAX).then(|| {
        // At most IN_MEMORY_MAX, so it fits.
        let mut body = vec![0; length as usize];
        opened.file.read_exact_at(&mut body, 0).ok().map(|()| Body::Memory(body.into()))
    });
    let body = small.flatten().unwrap_or_else(|| Body::File(Arc::new(opened.file), length));
    Object::new(opened.meta, body, body_sum)
}

/// A response that is being stored. Dropped before its end, it is as if it had never been, and its readers know.
#[derive(Debug)]
pub struct Fill {
    store: Arc<Store>,
    number: Number,
    meta: Meta,
    growing: Arc<Growing>,
    spill: Option<Spill>,
    hasher: Hasher,
    is_live: bool,
    is_done: bool,
}

/// Its file.
#[derive(Debug)]
struct Spill {
    path: PathBuf,
    file: Arc<File>,
}

impl Fill {
    /// What it is, for those who read it while it comes.
    #[must_use]
    pub fn object(&self) -> Arc<Object> {
        Arc::new(Object::new(self.meta.clone(), Body::Growing(self.growing.clone()), 0))
    }

    /// Bytes so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.growing.length()
    }

    /// Takes a part in. Waits for the disk, or for readers if it is not kept. `false`: nobody wants it any more.
    pub async fn write(&mut self, data: Bytes) -> bool {
        if data.is_empty() {
            return true;
        }
        if self.is_live {
            self.growing.push(data);
            return self.growing.keep_pace().await;
        }
        self.hasher.update(&data);
        if self.growing.push(data) > IN_MEMORY_MAX
            && let Err(error) = self.spill().await
        {
            if self.store.root.is_some() {
                tracing::warn!(%error, "the cache cannot be written; the answer passes");
            }
            self.pass();
        }
        true
    }

    /// From now on it passes, and is not kept.
    pub fn pass(&mut self) {
        self.is_live = true;
        self.growing.go_live();
    }

    /// Whether it is kept, as far as is known.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.is_live
    }

    async fn spill(&mut self) -> io::Result<()> {
        let spill = match &self.spill {
            Some(spill) => spill.file.clone(),
            None => {
                let path = self.store.new_path().ok_or(io::ErrorKind::Unsupported)?;
                let creating = path.clone();
                let file =
                    blocking(move || File::options().read(true).write(true).create_new(true).open(&creating))
                        .await?;
                let file = Arc::new(file);
                self.spill = Some(Spill { path, file: file.clone() });
                file
            }
        };
        let (at, pieces) = self.growing.pending();
        let (count, file) = (pieces.len(), spill.clone());
        blocking(move || write_pieces(&file, &pieces, at)).await?;
        self.growing.is_written(&spill, count);
        Ok(())
    }

    /// The end has come. The answer is what was stored; `None` if it is not kept.
    pub async fn finish(mut self) -> Option<Arc<Object>> {
        let stored = match (self.is_live, &self.spill) {
            (true, _) => None,
            (false, None) => Some(self.finish_small().await),
            (false, Some(_)) => self.finish_large().await,
        };
        self.is_done = true;
        if let Some(object) = &stored {
            self.store.memory.insert(self.number, object.clone());
        }
        self.growing.end(Ok(()));
        stored
    }

    /// It is used from memory at once; the disk has it a little later.
    async fn finish_small(&mut self) -> Arc<Object> {
        let (_, pieces) = self.growing.pending();
        let body = match pieces.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            several => {
                let mut whole = BytesMut::with_capacity(several.iter().map(Bytes::len).sum());
                several.iter().for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        };
        let body_sum = self.hasher.clone().finalize();
        let object = Arc::new(Object::new(self.meta.clone(), Body::Memory(body.clone()), body_sum));
        self.store.memory.insert(self.number, object.clone());
        self.growing.end(Ok(()));
        if let Some(path) = self.store.new_path() {
            let (store, number, kept) = (self.store.clone(), self.number, object.clone());
            let written = blocking(move || {
                let file = File::options().write(true).create_new(true).open(&path)?;
                file.write_all_at(&body, 0)?;
                let size = file::write_tail(&file, &kept.meta, body.len() as u64, body_sum)?;
                store.install(number, &path, size)
            });
            if let Err(error) = written.await {
                tracing::warn!(%error, "a response cannot be stored on disk");
            }
        }
        object
    }

    async fn finish_large(&mut self) -> Option<Arc<Object>> {
        let written = self.finish_file().await;
        match written {
            Ok(object) => Some(object),
            Err(error) => {
                tracing::warn!(%error, "a response cannot be stored on disk");
                None
            }
        }
    }

    async fn finish_file(&mut self) -> io::Result<Arc<Object>> {
        self.spill().await?;
        let Some(Spill { path, file }) = self.spill.take() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (length, body_sum) = (self.growing.length(), self.hasher.clone().finalize());
        let (store, number, meta, writing) =
            (self.store.clone(), self.number, self.meta.clone(), file.clone());
        blocking(move || {
            let size = file::write_tail(&writing, &meta, length, body_sum)?;
            store.install(number, &path, size)
        })
        .await?;
        Ok(Arc::new(Object::new(self.meta.clone(), Body::File(file, length), body_sum)))
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        if !self.is_done {
            self.growing.end(Err(Broken));
        }
        // Readers hold the file open as long as they need it.
        if let Some(spill) = &self.spill {
            file::remove(&spill.path);
        }
    }
}

fn write_pieces(file: &File, pieces: &[Bytes], at: u64) -> io::Result<()> {
    let mut at = at;
    for piece in pieces {
        file.write_all_at(piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
}

/// The number of a key. What stands before the first space of it is its owner.
fn number(key: &str) -> Number {
    let owner = key.split_once(' ').map_or("", |(owner, _)| owner);
    let number = key::number(key);
    // Two halves of one number; of the owner's, any part will do.
    index::owned([(number >> 64) as u64, number as u64], key::number(owner) as u64)
}

/// Notes which run of the machine this is. Whether the last one ended in between, so that what it wrote may be torn: the
/// death of a process tears nothing that was written.
fn note_boot(root: &Path) -> bool {
    let now = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let path = root.join(BOOT);
    let before = fs::read(&path).unwrap_or_default();
    if now != before
        && let Err(error) = fs::write(&path, &now)
    {
        tracing::warn!(%error, "cannot note the run of the machine");
    }
    now.is_empty() || (now != before && !before.is_empty())
}

#[cfg(test)]
mod tests;
