//! Where access records go. A worker appends to its own buffer; one thread writes all of them out.
//!
//! No request wakes anybody. A buffer is bounded: when the disk is slower than the visitors, records are dropped and
//! counted, and requests are not held up.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::record::{AccessRecord, ClockText};

/// Bytes that one worker may have waiting.
const LANE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A buffer that once grew large gives its memory back.
const LANE_BYTES_KEPT: usize = 256 * 1024;
/// How long a record waits at most.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// The destination of access records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    #[default]
    Stdout,
    /// A file, appended to.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// Hands out lanes and writes them. Dropping it writes what is left.
#[derive(Debug)]
pub struct AccessLog {
    lanes: Arc<Mutex<Vec<Arc<Shared>>>>,
    dropped: Arc<AtomicU64>,
    enabled: bool,
    commands: Option<Sender<Command>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Command {
    Reopen,
}

#[derive(Debug, Default)]
struct Shared(Mutex<Vec<u8>>);

/// One worker's end. It belongs to one thread.
#[derive(Debug)]
pub struct Lane {
    shared: Option<Arc<Shared>>,
    dropped: Arc<AtomicU64>,
    clock: RefCell<ClockText>,
}

impl AccessLog {
    /// Opens the destination and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(output: &Output) -> io::Result<Self> {
        let (commands, receiver) = channel();
        let mut log = Self {
            lanes: Arc::default(),
            dropped: Arc::default(),
            enabled: *output != Output::Off,
            commands: Some(commands),
            writer: None,
        };
        if log.enabled {
            let sink = Sink::open(output)?;
            let lanes = log.lanes.clone();
            let dropped = log.dropped.clone();
            let run = move || write_lanes(&lanes, Writer { sink, dropped, failed: false }, &receiver);
            log.writer = Some(std::thread::Builder::new().name("access-log".to_owned()).spawn(run)?);
        }
        Ok(log)
    }

    /// A lane for one worker.
    #[must_use]
    pub fn lane(&self) -> Lane {
        let shared = self.enabled.then(Arc::<Shared>::default);
        if let Some(shared) = &shared {
            self.lanes.lock().unwrap_or_else(PoisonError::into_inner).push(shared.clone());
        }
        Lane { shared, dropped: self.dropped.clone(), clock: RefCell::default() }
    }

    /// Opens the file again, after it was renamed for rotation.
    pub fn reopen(&self) {
        if let Some(commands) = &self.commands {
            // A writer that is gone has nothing to reopen.
            drop(commands.send(Command::Reopen));
        }
    }

    /// Records that were dropped because the destination is too slow, or could not be written at all.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has lost its records already.
            drop(writer.join());
        }
    }
}

impl Lane {
    /// Takes one record.
    pub fn write(&self, record: &AccessRecord) {
        let Some(shared) = &self.shared else { return };
        let mut buffer = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() > LANE_BYTES_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        record.write_json(&mut buffer, &mut self.clock.borrow_mut());
    }
}

#[derive(Debug)]
enum Sink {
    Stdout,
    File(PathBuf, File),
}

impl Sink {
    fn open(output: &Output) -> io::Result<Self> {
        match output {
            Output::File(path) => Ok(Self::File(path.clone(), open_file(path)?)),
            Output::Stdout | Output::Off => Ok(Self::Stdout),
        }
    }

    fn reopen(&mut self) {
        if let Self::File(path, file) = self {
            match open_file(path) {
                Ok(reopened) => *file = reopened,
                Err(error) => tracing::error!(path = %path.display(), %error, "cannot reopen the access log"),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
            Self::File(_, file) => file.write_all(bytes),
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The writing thread's own.
#[derive(Debug)]
struct Writer {
    sink: Sink,
    dropped: Arc<AtomicU64>,
    failed: bool,
}

fn write_lanes(lanes: &Mutex<Vec<Arc<Shared>>>, mut writer: Writer, commands: &Receiver<Command>) {
    let mut spare = Vec::new();
    loop {
        let command = commands.recv_timeout(FLUSH_INTERVAL);
        let lanes: Vec<_> = lanes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for lane in lanes {
            std::mem::swap(&mut spare, &mut lane.0.lock().unwrap_or_else(PoisonError::into_inner));
            writer.write(&spare);
            spare.clear();
            spare.shrink_to(LANE_BYTES_KEPT);
        }
        match command {
            Ok(Command::Reopen) => writer.sink.reopen(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Writer {
    /// Writes records out. The first failure of a row is logged; every record of it counts as dropped.
    fn write(&mut self, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        let written = self.sink.write(records);
        if let Err(error) = &written {
            let lost = records.iter().filter(|byte| **byte == b'\n').count();
            self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
            if !self.failed {
                tracing::error!(%error, "cannot write the access log");
            }
        }
        self.failed = written.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn record(number: u64) -> AccessRecord {
        AccessRecord {
            time: SystemTime::UNIX_EPOCH,
            remote: "192.0.2.1:1".parse().unwrap(),
            client_ip: "192.0.2.1".parse().unwrap(),
            method: http::Method::GET,
            uri: http::Uri::from_static("/"),
            status: 200,
            body_bytes_sent: number,
            request_time: Duration::ZERO,
            upstream_time: None,
            cache_status: None,
            host: bytes::Bytes::new(),
            user_agent: None,
            request_id: 0,
            protocol: http::Version::HTTP_11,
            scheme: "https",
            tunnel: None,
            transport: None,
            request_bytes: 0,
            error: None,
            cause: None,
        }
    }

    #[test]
    fn no_record_is_lost_below_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = Arc::new(AccessLog::open(&Output::File(path.clone())).unwrap());
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let log = log.clone();
                std::thread::spawn(move || {
                    let lane = log.lane();
                    (0..500).for_each(|number| lane.write(&record(number)));
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        drop(log);
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 2_000);
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let log = AccessLog::open(&Output::File(PathBuf::from("/dev/full"))).unwrap();
        let lane = log.lane();
        (0..3).for_each(|number| lane.write(&record(number)));
        let dropped = log.dropped.clone();
        drop(log);
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn above_the_bound_records_are_dropped_and_counted() {
        let shared = Arc::new(Shared(Mutex::new(vec![b'x'; LANE_BYTES_MAX + 1])));
        let dropped = Arc::<AtomicU64>::default();
        let lane = Lane { shared: Some(shared.clone()), dropped: dropped.clone(), clock: RefCell::default() };
        lane.write(&record(1));
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        assert_eq!(shared.0.lock().unwrap().len(), LANE_BYTES_MAX + 1);
    }
}
