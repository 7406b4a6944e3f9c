//! Bodies: as they come, and as they are read. Readers follow a body that is still coming; what has been written to disk is read
//! from there, so that slow readers hold no memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// Bytes that are read from disk at a time.
const READ: u64 = 64 * 1024;
/// Bytes that wait for the slowest reader of a body that is not kept.
const WINDOW: u64 = 1024 * 1024;
/// Time for the first reader to come.
const FIRST_READER: Duration = Duration::from_secs(10);

/// A body broke off, or can no longer be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body broke off")]
pub struct Broken;

/// Where a stored body is.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Memory(Bytes),
    File(Arc<File>, u64),
    Growing(Arc<Growing>),
}

/// A body that is still coming.
#[derive(Debug, Default)]
pub(crate) struct Growing {
    state: Mutex<State>,
    /// Told when a reader has moved or left.
    moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that are on disk, from the first one on.
    base: u64,
    file: Option<Arc<File>>,
    /// What follows them.
    pieces: VecDeque<Bytes>,
    /// Bytes so far.
    length: u64,
    end: Option<Result<(), Broken>>,
    /// It is not kept: what all readers have is dropped.
    live: bool,
    readers: Vec<Option<u64>>,
    wakers: Vec<Waker>,
}

/// What there is at a place.
enum Piece {
    Bytes(Bytes),
    /// It is on disk, up to here.
    OnDisk(Arc<File>, u64),
    Nothing,
}

impl Growing {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a part in; says how much is in memory now.
    pub(crate) fn push(&self, data: Bytes) -> u64 {
        let mut state = self.lock();
        state.length += data.len() as u64;
        state.pieces.push_back(data);
        let held = state.length - state.base;
        wake(state);
        held
    }

    /// What is in memory, to be written at this place.
    pub(crate) fn pending(&self) -> (u64, Vec<Bytes>) {
        let state = self.lock();
        (state.base, state.pieces.iter().cloned().collect())
    }

    /// So many pieces are on disk by now.
    pub(crate) fn is_written(&self, file: &Arc<File>, count: usize) {
        let mut state = self.lock();
        state.file = Some(file.clone());
        for _ in 0..count {
            if let Some(piece) = state.pieces.pop_front() {
                state.base += piece.len() as u64;
            }
        }
    }

    pub(crate) fn length(&self) -> u64 {
        self.lock().length
    }

    pub(crate) fn end(&self, how: Result<(), Broken>) {
        let mut state = self.lock();
        state.end.get_or_insert(how);
        wake(state);
    }

    /// From now on, it is not kept: it passes.
    pub(crate) fn go_live(&self) {
        self.lock().live = true;
    }

    /// Waits until the slowest reader is near. `false`: there is none any more, or none has come.
    pub(crate) async fn keep_pace(&self) -> bool {
        loop {
            let moved = self.moved.notified();
            let (nobody_yet, enough) = {
                let mut state = self.lock();
                let nobody_yet = state.readers.is_empty();
                if !nobody_yet {
                    state.drop_read();
                }
                if !nobody_yet && state.readers.iter().all(Option::is_none) {
                    return false;
                }
                (nobody_yet, state.length - state.base <= WINDOW)
            };
            if enough {
                return true;
            }
            if timeout(FIRST_READER, moved).await.is_err() && nobody_yet {
                return false;
            }
        }
    }

    fn join(&self, position: u64) -> usize {
        self.moved.notify_one();
        let mut state = self.lock();
        match state.readers.iter().position(Option::is_none) {
            Some(free) => {
                if let Some(slot) = state.readers.get_mut(free) {
                    *slot = Some(position);
                }
                free
            }
            None => {
                state.readers.push(Some(position));
                state.readers.len() - 1
            }
        }
    }

    fn moved(&self, reader: usize, position: Option<u64>) {
        let mut state = self.lock();
        if let Some(slot) = state.readers.get_mut(reader) {
            *slot = position;
        }
        let live = state.live;
        drop(state);
        if live {
            self.moved.notify_one();
        }
    }

    /// What is there, or a promise to wake.
    fn at(&self, position: u64, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        let mut state = self.lock();
        if position < state.base {
            let file = state.file.clone().ok_or(Broken);
            return Poll::Ready(file.map(|file| Piece::OnDisk(file, state.base)));
        }
        if position < state.length {
            return Poll::Ready(Ok(state.piece(position).map_or(Piece::Nothing, Piece::Bytes)));
        }
        match state.end {
            Some(Ok(())) => Poll::Ready(Ok(Piece::Nothing)),
            Some(Err(broken)) => Poll::Ready(Err(broken)),
            None => {
                if !state.wakers.iter().any(|known| known.will_wake(cx.waker())) {
                    state.wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl State {
    fn piece(&self, position: u64) -> Option<Bytes> {
        let mut start = self.base;
        for piece in &self.pieces {
            let end = start + piece.len() as u64;
            if position < end {
                return Some(piece.slice((position - start) as usize..));
            }
            start = end;
        }
        None
    }

    fn drop_read(&mut self) {
        let slowest = self.readers.iter().flatten().min().copied().unwrap_or(self.length);
        while let Some(first) = self.pieces.front() {
            let end = self.base + first.len() as u64;
            if end > slowest {
                return;
            }
            self.base = end;
            self.pieces.pop_front();
        }
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let wakers = std::mem::take(&mut state.wakers);
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

/// Reads a body, or a part of it.
#[derive(Debug)]
pub struct Reader {
    body: Body,
    position: u64,
    /// One after the last byte; `None` for all that comes.
    end: Option<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// Its place among the readers of a body that is still coming.
    place: Option<usize>,
}

impl Reader {
    pub(crate) fn new(body: Body, first: u64, end: Option<u64>) -> Self {
        let (end, place) = match &body {
            Body::Memory(bytes) => (Some(end.unwrap_or(bytes.len() as u64).min(bytes.len() as u64)), None),
            Body::File(_, length) => (Some(end.unwrap_or(*length).min(*length)), None),
            Body::Growing(growing) => (end, Some(growing.join(first))),
        };
        Self { body, position: first, end, reading: None, place }
    }

    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// [`Broken`] when the body broke off.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            return Poll::Ready(Some(read.map_err(|_| Broken).and_then(|read| self.take(read))));
        }
        if self.end.is_some_and(|end| self.position >= end) {
            return Poll::Ready(None);
        }
        match &self.body {
            Body::Memory(bytes) => {
                let end = self.end.unwrap_or_default() as usize;
                let part = bytes.slice(self.position as usize..end);
                Poll::Ready(Some(self.take(Ok(part))))
            }
            Body::File(file, length) => {
                let (file, until) = (file.clone(), *length);
                self.poll_file(&file, until, cx)
            }
            Body::Growing(growing) => match ready!(growing.at(self.position, cx)) {
                Ok(Piece::Bytes(bytes)) => Poll::Ready(Some(self.take(Ok(bytes)))),
                Ok(Piece::OnDisk(file, until)) => self.poll_file(&file, until, cx),
                // Somebody counted on more.
                Ok(Piece::Nothing) if self.end.is_some() => Poll::Ready(Some(Err(Broken))),
                Ok(Piece::Nothing) => Poll::Ready(None),
                Err(broken) => Poll::Ready(Some(Err(broken))),
            },
        }
    }

    /// What is in the page cache is read at once; a thread that may wait reads the rest.
    fn poll_file(
        &mut self,
        file: &Arc<File>,
        until: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        let end = self.end.unwrap_or(until).min(until);
        let (position, wanted) = (self.position, (end - self.position).min(READ) as usize);
        match read_cached(file, position, wanted) {
            Some(read) => Poll::Ready(Some(self.take(read))),
            None => {
                let file = file.clone();
                self.reading = Some(spawn_blocking(move || read_slow(&file, position, wanted)));
                self.poll_next(cx)
            }
        }
    }

    fn take(&mut self, read: io::Result<Bytes>) -> Result<Bytes, Broken> {
        let mut bytes = read.ok().filter(|bytes| !bytes.is_empty()).ok_or(Broken)?;
        if let Some(end) = self.end {
            bytes.truncate((end - self.position) as usize);
        }
        self.position += bytes.len() as u64;
        if let (Body::Growing(growing), Some(place)) = (&self.body, self.place) {
            growing.moved(place, Some(self.position));
        }
        Ok(bytes)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let (Body::Growing(growing), Some(place)) = (&self.body, self.place) {
            growing.moved(place, None);
        }
    }
}

/// `None`: it would have to wait for the disk, or the system cannot tell.
fn read_cached(file: &File, position: u64, wanted: usize) -> Option<io::Result<Bytes>> {
    let mut buffer = vec![0; wanted];
    match preadv2(file, &mut [IoSliceMut::new(&mut buffer)], position, ReadWriteFlags::NOWAIT) {
        Ok(read) => {
            buffer.truncate(read);
            Some(Ok(buffer.into()))
        }
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => None,
        Err(error) => Some(Err(error.into())),
    }
}

fn read_slow(file: &File, position: u64, wanted: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; wanted];
    let read = file.read_at(&mut buffer, position)?;
    buffer.truncate(read);
    Ok(buffer.into())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn whole(mut reader: Reader) -> Result<Vec<u8>, Broken> {
        let mut body = Vec::new();
        while let Some(part) = poll_fn(|cx| reader.poll_next(cx)).await {
            body.extend_from_slice(&part?);
        }
        Ok(body)
    }

    #[tokio::test]
    async fn readers_follow_a_body_in_memory_and_on_disk() {
        let growing = Arc::new(Growing::default());
        let reader = || Reader::new(Body::Growing(growing.clone()), 0, None);
        let (first, second) = (tokio::spawn(whole(reader())), tokio::spawn(whole(reader())));
        growing.push(Bytes::from_static(b"one "));
        tokio::task::yield_now().await;
        let file = Arc::new(tempfile::tempfile().unwrap());
        let (base, pieces) = growing.pending();
        file.write_all_at(&pieces.concat(), base).unwrap();
        growing.is_written(&file, pieces.len());
        growing.push(Bytes::from_static(b"two"));
        let late = tokio::spawn(whole(reader()));
        let part = tokio::spawn(whole(Reader::new(Body::Growing(growing.clone()), 2, Some(6))));
        growing.end(Ok(()));
        for reader in [first, second, late] {
            assert_eq!(reader.await.unwrap().unwrap(), b"one two");
        }
        assert_eq!(part.await.unwrap().unwrap(), b"e tw");
    }

    #[tokio::test]
    async fn what_breaks_off_is_known_to_be_broken() {
        let growing = Arc::new(Growing::default());
        let reader = Reader::new(Body::Growing(growing.clone()), 0, None);
        let beyond = Reader::new(Body::Growing(growing.clone()), 0, Some(10));
        growing.push(Bytes::from_static(b"half"));
        growing.end(Err(Broken));
        assert_eq!(whole(reader).await, Err(Broken));
        assert_eq!(whole(beyond).await, Err(Broken));
    }

    #[tokio::test]
    async fn a_body_that_passes_waits_for_its_slowest_reader() {
        let growing = Arc::new(Growing::default());
        growing.go_live();
        let mut quick = Reader::new(Body::Growing(growing.clone()), 0, None);
        let slow = Reader::new(Body::Growing(growing.clone()), 0, None);
        growing.push(vec![b'x'; WINDOW as usize + 1].into());
        assert_eq!(poll_fn(|cx| quick.poll_next(cx)).await.unwrap().unwrap().len() as u64, WINDOW + 1);
        let waits = timeout(Duration::from_millis(50), growing.keep_pace());
        assert!(waits.await.is_err(), "the slow one has read nothing");
        drop(slow);
        assert!(growing.keep_pace().await);
        assert!(growing.pending().1.is_empty(), "what was read is not held");
        drop(quick);
        assert!(!growing.keep_pace().await, "nobody reads");
    }

    #[tokio::test]
    async fn parts_of_files_and_memory() {
        let file = tempfile::tempfile().unwrap();
        let body: Vec<u8> = (0..200_000_u32).map(|index| index as u8).collect();
        file.write_all_at(&body, 0).unwrap();
        let on_disk = Body::File(Arc::new(file), 200_000);
        let in_memory = Body::Memory(body.clone().into());
        for stored in [on_disk, in_memory] {
            for (first, end) in [(0, None), (5, Some(70_000)), (199_999, Some(300_000))] {
                let expected = &body[first as usize..end.unwrap_or(200_000).min(200_000) as usize];
                assert_eq!(whole(Reader::new(stored.clone(), first, end)).await.unwrap(), expected);
            }
        }
    }
}
