//! An origin that writes down every byte that it gets, connection by connection, and answers with what it understood.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::read::{self, Message, Progress};

/// How long a request that was cut off may stay open before that counts as a fault.
const CLOSES_WITHIN: Duration = Duration::from_secs(3);

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its end has not come yet.
    Open,
    /// It arrived whole.
    Whole,
    /// Its connection ended before it did.
    Broken,
    /// A careful reader refuses it, for this reason.
    Malformed(&'static str),
}

/// A request, or what was to be one.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The number of its connection.
    pub(crate) connection: usize,
    pub(crate) message: Message,
    /// As it came.
    pub(crate) raw: Vec<u8>,
    pub(crate) state: State,
}

/// Everything that came, in the order in which it began.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Mutex<Vec<Entry>>,
    changed: Notify,
}

impl Log {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Those from a position on, once none of them is open, or after a while.
    pub(crate) async fn settled(&self, from: usize) -> Vec<Entry> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                let entries: Vec<Entry> = self.lock().get(from..).unwrap_or_default().to_vec();
                if entries.iter().all(|entry| entry.state != State::Open) {
                    return entries;
                }
                changed.await;
            }
        };
        let settled = tokio::time::timeout(CLOSES_WITHIN, waiting).await;
        settled.unwrap_or_else(|_| self.lock().get(from..).unwrap_or_default().to_vec())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry, or replaces the one at `place`; returns where it stands.
    fn put(&self, place: Option<usize>, entry: Entry) -> usize {
        let mut entries = self.lock();
        let place = place.unwrap_or(entries.len());
        if place < entries.len() {
            entries[place] = entry;
        } else {
            entries.push(entry);
        }
        drop(entries);
        self.changed.notify_waiters();
        place
    }
}

/// A running origin; it ends with the runtime.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<Log>,
}

impl Origin {
    /// Starts one.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let log = Arc::new(Log::default());
        let entries = log.clone();
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                number += 1;
                tokio::spawn(Connection::new(stream, number, entries.clone()).serve());
            }
        });
        Ok(Self { address, log })
    }
}

struct Connection {
    stream: TcpStream,
    number: usize,
    log: Arc<Log>,
    buffer: Vec<u8>,
    /// Where the request stands whose end has not come.
    place: Option<usize>,
    /// Whether its client was told to go on.
    continued: bool,
}

impl Connection {
    fn new(stream: TcpStream, number: usize, log: Arc<Log>) -> Self {
        Self { stream, number, log, buffer: Vec::new(), place: None, continued: false }
    }

    async fn serve(mut self) {
        loop {
            match read::message(&self.buffer) {
                Err(why) => {
                    self.note(Message::default(), State::Malformed(why));
                    // Whoever sends such bytes may have left already.
                    drop(
                        self.stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await,
                    );
                    return;
                }
                Ok(Progress::Whole(message, used)) => {
                    if self.answer(message, used).await.is_err() {
                        return;
                    }
                }
                Ok(progress) => {
                    if self.more(progress).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    async fn answer(&mut self, message: Message, used: usize) -> std::io::Result<()> {
        let rest = self.buffer.split_off(used);
        let answer = answer(&message, &self.buffer);
        self.note(message, State::Whole);
        (self.buffer, self.place, self.continued) = (rest, None, false);
        self.stream.write_all(&answer).await
    }

    /// Reads on; `None` at the end of the connection.
    async fn more(&mut self, progress: Progress) -> Option<()> {
        let mut message = Message::default();
        if let Progress::Head(head) = progress {
            message = head;
            let expects = message.values("expect");
            let waits = expects.iter().any(|value| value.eq_ignore_ascii_case(b"100-continue"));
            if waits && !self.continued {
                self.continued = true;
                self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
            }
        }
        if !self.buffer.is_empty() {
            self.note(message.clone(), State::Open);
        }
        if let Ok(1..) = self.stream.read_buf(&mut self.buffer).await {
            return Some(());
        }
        if !self.buffer.is_empty() {
            self.note(message, State::Broken);
        }
        None
    }

    fn note(&mut self, message: Message, state: State) {
        let entry = Entry { connection: self.number, message, raw: self.buffer.clone(), state };
        self.place = Some(self.log.put(self.place, entry));
    }
}

/// The answer is the request. Names that begin with `keys` allow it to be kept.
fn answer(message: &Message, raw: &[u8]) -> Vec<u8> {
    let host = message.values("host").first().copied().unwrap_or_default();
    let kept = if host.starts_with(b"keys") { "Cache-Control: max-age=60\r\n" } else { "" };
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{kept}Content-Length: {}\r\n\r\n", raw.len());
    let body = if message.method == b"HEAD" { &[][..] } else { raw };
    [head.as_bytes(), body].concat()
}
