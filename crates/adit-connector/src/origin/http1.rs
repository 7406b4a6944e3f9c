//! HTTP/1.1 to an origin, by hand: the whole exchange runs in the stream's own task, without a channel and without a
//! task for the connection. The common case costs one write and one read.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use adit_http::answer::body::{BodyReader, Piece};
use adit_http::answer::{self, ResponseHead};
use adit_policy::field;
use adit_policy::host::Authority;
use adit_policy::ingress::Service;
use adit_tunnel::StreamError;
use adit_tunnel::connector::{Chunk, ReplyBody, RequestBody, StreamRequest};
use adit_wire::fields::Fields;
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::connect::{Route, connect};
use super::head::{self, BodyHead};
use super::io::Io;
use super::proxy::Forward;
use super::{Origin, OriginError};
use crate::idle::Idle;
use crate::limits::{INTERIM_MAX, LINE_TIME};
use crate::rescue::Problem;
use crate::serve::Answer;

/// Room for an answer's head and a small body.
const SMALL_READ: usize = 4 * 1024;
/// Room for a body that goes on.
const LARGE_READ: usize = 64 * 1024;
/// A body that is there at once travels with the head up to this size.
const INLINE_MAX: usize = 16 * 1024;
/// A body of unknown length for an origin that takes no chunks is held in memory up to this size.
const COLLECTED_MAX: usize = 16 * 1024 * 1024;

/// An open connection to an origin, with its buffers.
pub(crate) struct Connection {
    pub(super) io: Io,
    pub(super) buffer: BytesMut,
    out: BytesMut,
    server_name: Option<String>,
    /// A proxy passes the requests on.
    forward: Option<Forward>,
}

impl Connection {
    pub(super) fn new(route: Route, server_name: Option<String>) -> Self {
        let Route { io, forward } = route;
        Self { io, buffer: BytesMut::new(), out: BytesMut::new(), server_name, forward }
    }

    pub(super) fn serves(&self, server_name: Option<&str>) -> bool {
        self.server_name.as_deref() == server_name
    }

    /// An idle connection says nothing; one that is readable was closed, or is confused.
    pub(super) fn is_alive(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.io).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
    }

    /// Writes a request head, and what of the body is there at once.
    pub(super) async fn send_head(
        &mut self,
        origin: &Origin,
        request: &StreamRequest,
        body: BodyHead,
        upload: &mut Upload<'_>,
    ) -> Result<(), Problem> {
        self.out.clear();
        head::write(&mut self.out, request, &origin.settings, body, self.forward.as_ref())?;
        upload.inline(&mut self.out)?;
        self.io.write_all(&self.out).await.map_err(OriginError::Broken)?;
        Ok(self.io.flush().await.map_err(OriginError::Broken)?)
    }

    /// Reads more into the buffer, while the upload goes on. 0 is the end of the connection.
    pub(super) async fn fill(
        &mut self,
        room: usize,
        upload: &mut Upload<'_>,
        answer: &mut Answer,
    ) -> Result<usize, Problem> {
        self.buffer.reserve(room);
        tokio::select! {
            biased;
            read = poll_fn(|cx| self.poll_fill(upload, cx)) => read,
            () = answer.cancelled() => Err(Problem::Cancelled),
        }
    }

    fn poll_fill(&mut self, upload: &mut Upload<'_>, cx: &mut Context<'_>) -> Poll<Result<usize, Problem>> {
        if let Poll::Ready(Err(broken)) = upload.poll(&mut self.io, cx) {
            return Poll::Ready(Err(broken));
        }
        let read = ready!(tokio_util::io::poll_read_buf(Pin::new(&mut self.io), cx, &mut self.buffer));
        upload.idle.touch();
        Poll::Ready(read.map_err(|error| OriginError::Broken(error).into()))
    }

    /// Reads heads until the final one; interim ones are passed on.
    pub(super) async fn read_head(
        &mut self,
        method: &[u8],
        upload: &mut Upload<'_>,
        answer: &mut Answer,
    ) -> Result<ResponseHead, Problem> {
        let mut trickle = Trickle::default();
        for _ in 0..=INTERIM_MAX {
            let head = loop {
                if let Some(head) = answer::take(&mut self.buffer, method)? {
                    break head;
                }
                let deadline = trickle.deadline(&self.buffer, Instant::now());
                if within(deadline, self.fill(SMALL_READ, upload, answer)).await? == 0 {
                    return Err(OriginError::Closed.into());
                }
            };
            trickle = Trickle::default();
            if head.status >= 200 || head.status == 101 {
                return Ok(head);
            }
            interim(&head, answer).await?;
        }
        Err(OriginError::Interim(INTERIM_MAX).into())
    }
}

/// Finds an origin that never ends what it began to write: a head, a chunk-size line, a trailer section.
#[derive(Debug, Default)]
struct Trickle {
    since: Option<Instant>,
}

impl Trickle {
    /// By when it must be complete; `None` while nothing of it is there.
    fn deadline(&mut self, begun: &[u8], now: Instant) -> Option<Instant> {
        if begun.is_empty() {
            self.since = None;
            return None;
        }
        Some(*self.since.get_or_insert(now) + LINE_TIME)
    }
}

/// Waits for more of what was begun.
async fn within<T>(
    deadline: Option<Instant>,
    more: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    match deadline {
        None => more.await,
        Some(deadline) => {
            let more = timeout_at(deadline, more).await;
            more.unwrap_or_else(|_| Err(OriginError::Trickles(LINE_TIME).into()))
        }
    }
}

async fn interim(head: &ResponseHead, answer: &mut Answer) -> Result<(), Problem> {
    match answer.reply() {
        Some(reply) => Ok(reply.interim(head.status, &head.fields).await?),
        None => Ok(()),
    }
}

/// Asks the origin and carries the answer. A reused connection that turns out to be closed is replaced once.
///
/// # Errors
/// [`Problem`]; the head may be out already.
pub(super) async fn request(
    origin: &Rc<Origin>,
    request: &StreamRequest,
    body: &mut RequestBody,
    answer: &mut Answer,
) -> Result<(), Problem> {
    let name = server_name(origin, request);
    if let Some(connection) = origin.reuse(name.as_deref()) {
        match exchange(origin, connection, request, body, answer).await {
            Err(Problem::Origin(OriginError::Closed | OriginError::Broken(_)))
                if answer.reply().is_some() && may_repeat(request) => {}
            done => return done,
        }
    }
    let route = tokio::select! {
        biased;
        route = connect(origin, name.as_deref()) => route?,
        () = answer.cancelled() => return Err(Problem::Cancelled),
    };
    exchange(origin, Connection::new(route, name), request, body, answer).await
}

/// Nothing of the body is gone, and the method may be repeated (RFC 9110, section 9.2.2).
fn may_repeat(request: &StreamRequest) -> bool {
    let idempotent: [&[u8]; 6] = [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"];
    !request.has_body && idempotent.contains(&&request.method[..])
}

/// The name that the origin's certificate must have; `None` without TLS.
pub(super) fn server_name(origin: &Origin, request: &StreamRequest) -> Option<String> {
    if !origin.is_tls() {
        return None;
    }
    let visitor = || {
        let authority = Authority::parse(&request.host).ok();
        authority.map(|authority| authority.host().to_owned()).unwrap_or_default()
    };
    if origin.settings.match_sni_to_host {
        return Some(visitor());
    }
    origin.settings.origin_server_name.clone().or_else(|| match &origin.service {
        Service::Http { host, .. } => Some(host.clone()),
        _ => Some(visitor()),
    })
}

async fn exchange(
    origin: &Rc<Origin>,
    mut connection: Connection,
    request: &StreamRequest,
    body: &mut RequestBody,
    answer: &mut Answer,
) -> Result<(), Problem> {
    let mut upload = Upload::new(request, body, answer.idle.clone());
    let framing = match upload.chunked {
        true if origin.settings.disable_chunked_encoding => BodyHead::Collected(upload.collect().await?),
        true => BodyHead::Chunked,
        false => BodyHead::AsAnnounced,
    };
    connection.send_head(origin, request, framing, &mut upload).await?;
    let head = connection.read_head(&request.method, &mut upload, answer).await?;
    if head.status == 101 {
        return Err(OriginError::Upgraded.into());
    }
    let complete = carry(&mut connection, &head, &mut upload, answer).await?;
    if complete && head.keep_alive && upload.is_done() && connection.buffer.is_empty() {
        origin.keep(connection);
    }
    Ok(())
}

/// Sends the answer's head and body to the edge. Whether the connection is at a clean end.
pub(super) async fn carry(
    connection: &mut Connection,
    head: &ResponseHead,
    upload: &mut Upload<'_>,
    answer: &mut Answer,
) -> Result<bool, Problem> {
    let mut reader = BodyReader::new(head.framing);
    let first = first_piece(&mut reader, &mut connection.buffer)?;
    let reply = answer.begin(head.status)?;
    let mut body = reply.head(head.status, &head.fields, first.data, first.is_all).await?;
    if first.is_all {
        return Ok(true);
    }
    if let Some(trailers) = first.trailers {
        body.trailers(&trailers).await?;
        return Ok(true);
    }
    let mut trickle = Trickle::default();
    loop {
        match reader.take(&mut connection.buffer) {
            Ok(Piece::Data(data)) => {
                trickle = Trickle::default();
                send(connection, upload, &mut body, data).await?;
            }
            Ok(Piece::Trailers(fields)) => {
                body.trailers(&fields).await?;
                return Ok(true);
            }
            Ok(Piece::End) => {
                body.finish().await?;
                return Ok(true);
            }
            Ok(Piece::NeedMore) => match more(connection, &reader, upload, &mut body, &mut trickle).await {
                Ok(0) if reader.ends_with_connection() => {
                    body.finish().await?;
                    return Ok(false);
                }
                Ok(0) => return Err(broken(body, OriginError::Closed.into())),
                Ok(_) => {}
                Err(problem) => return Err(broken(body, problem)),
            },
            Err(error) => return Err(broken(body, error.into())),
        }
    }
}

/// What came with the head.
#[derive(Default)]
struct First {
    data: Bytes,
    /// Trailers of an empty body.
    trailers: Option<Fields>,
    is_all: bool,
}

fn first_piece(reader: &mut BodyReader, buffer: &mut BytesMut) -> Result<First, Problem> {
    Ok(match reader.take(buffer)? {
        Piece::Data(data) => First { data, is_all: reader.expects() == Some(0), ..First::default() },
        Piece::End => First { is_all: true, ..First::default() },
        Piece::NeedMore => First::default(),
        Piece::Trailers(fields) => First { trailers: Some(fields), ..First::default() },
    })
}

/// The edge must not take a part for the whole.
fn broken(body: ReplyBody, problem: Problem) -> Problem {
    body.abort();
    problem
}

/// Sends to the edge while the upload goes on: a visitor may read nothing before his upload is through.
async fn send(
    connection: &mut Connection,
    upload: &mut Upload<'_>,
    body: &mut ReplyBody,
    data: Bytes,
) -> Result<(), Problem> {
    let mut sending = std::pin::pin!(body.data(data));
    poll_fn(|cx| {
        if let Poll::Ready(Err(broken)) = upload.poll(&mut connection.io, cx) {
            return Poll::Ready(Err(broken));
        }
        sending.as_mut().poll(cx).map_err(Problem::from)
    })
    .await
}

async fn more(
    connection: &mut Connection,
    reader: &BodyReader,
    upload: &mut Upload<'_>,
    body: &mut ReplyBody,
    trickle: &mut Trickle,
) -> Result<usize, Problem> {
    // What is left in the buffer is the beginning of a line.
    let deadline = trickle.deadline(&connection.buffer, Instant::now());
    let room = reader.expects().map_or(LARGE_READ, |left| left.clamp(1, LARGE_READ as u64) as usize);
    connection.buffer.reserve(room);
    let more = async {
        tokio::select! {
            biased;
            read = poll_fn(|cx| connection.poll_fill(upload, cx)) => read,
            () = body.cancelled() => Err(Problem::Cancelled),
        }
    };
    within(deadline, more).await
}

/// The request's body on its way to the origin.
pub(super) struct Upload<'b> {
    body: &'b mut RequestBody,
    chunked: bool,
    pending: Bytes,
    state: State,
    idle: Idle,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// All is read; the rest of it is being written.
    Ending,
    Done,
    /// The origin takes no more. Its answer may still come.
    Refused,
}

impl<'b> Upload<'b> {
    pub(super) fn new(request: &StreamRequest, body: &'b mut RequestBody, idle: Idle) -> Self {
        let chunked = request.has_body && request.fields.get("content-length").is_none();
        let state = if request.has_body { State::Running } else { State::Done };
        Self { body, chunked, pending: Bytes::new(), state, idle }
    }

    /// No body, whatever the request says: the stream is used otherwise.
    pub(super) fn none(body: &'b mut RequestBody, idle: Idle) -> Self {
        Self { body, chunked: false, pending: Bytes::new(), state: State::Done, idle }
    }

    fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads all of the body, for origins that must know its length; the length. Trailers have no place then.
    async fn collect(&mut self) -> Result<usize, Problem> {
        self.chunked = false;
        let mut whole = BytesMut::new();
        while self.state == State::Running {
            poll_fn(|cx| self.poll_next(cx)).await?;
            if whole.len() + self.pending.len() > COLLECTED_MAX {
                return Err(OriginError::TooLong(COLLECTED_MAX).into());
            }
            whole.put_slice(&std::mem::take(&mut self.pending));
        }
        self.pending = whole.freeze();
        Ok(self.pending.len())
    }

    /// Appends to the head what is there at once and small.
    fn inline(&mut self, out: &mut BytesMut) -> Result<(), Problem> {
        let mut cx = Context::from_waker(Waker::noop());
        let empty = self.pending.is_empty() && self.state == State::Running;
        if empty && self.poll_next(&mut cx)?.is_pending() {
            return Ok(());
        }
        if self.pending.len() <= INLINE_MAX {
            out.put_slice(&std::mem::take(&mut self.pending));
        }
        Ok(())
    }

    /// Reads and writes until the body is through. `Ready(Ok)` once it is.
    fn poll(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<Result<(), Problem>> {
        loop {
            if matches!(self.state, State::Done | State::Refused) {
                return Poll::Ready(Ok(()));
            }
            while !self.pending.is_empty() {
                let written = ready!(Pin::new(&mut *io).poll_write(cx, &self.pending));
                self.idle.touch();
                match written {
                    Ok(written) => drop(self.pending.split_to(written)),
                    Err(_) => {
                        self.state = State::Refused;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            if self.state == State::Ending {
                if ready!(Pin::new(&mut *io).poll_flush(cx)).is_ok() {
                    self.state = State::Done;
                } else {
                    self.state = State::Refused;
                }
                continue;
            }
            ready!(self.poll_next(cx))?;
        }
    }

    /// Reads the next piece into `pending`, in the form in which it is written.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.pending = match ready!(self.body.poll_next(cx)).transpose()? {
            Some(Chunk::Data(data)) if self.chunked => chunk_of(&data),
            Some(Chunk::Data(data)) => data,
            Some(Chunk::Trailers(fields)) if self.chunked => {
                self.state = State::Ending;
                last_chunk(&fields)
            }
            Some(Chunk::Trailers(_)) => Bytes::new(),
            None => {
                self.state = State::Ending;
                if self.chunked { Bytes::from_static(b"0\r\n\r\n") } else { Bytes::new() }
            }
        };
        Poll::Ready(Ok(()))
    }
}

fn chunk_of(data: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 20);
    out.put_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.put_slice(data);
    out.put_slice(b"\r\n");
    out.freeze()
}

/// The end of a chunked body. What only a head may say is left out, whatever the edge let pass.
fn last_chunk(fields: &Fields) -> Bytes {
    let mut out = BytesMut::from(&b"0\r\n"[..]);
    for (name, value) in fields.iter() {
        if field::is_head_only(name) || !head::is_token(name) || !head::is_value(value) {
            continue;
        }
        out.put_slice(name);
        out.put_slice(b": ");
        out.put_slice(value);
        out.put_slice(b"\r\n");
    }
    out.put_slice(b"\r\n");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_must_end_and_what_was_not_may_wait() {
        let start = Instant::now();
        let mut trickle = Trickle::default();
        let later = |seconds| start + std::time::Duration::from_secs(seconds);
        assert_eq!(trickle.deadline(b"", later(500)), None, "nothing has come yet");
        assert_eq!(trickle.deadline(b"H", later(600)), Some(later(600) + LINE_TIME));
        assert_eq!(trickle.deadline(b"HT", later(609)), Some(later(600) + LINE_TIME), "a byte wins no time");
        assert_eq!(trickle.deadline(b"", later(610)), None, "it was complete");
        assert_eq!(trickle.deadline(b"1", later(700)), Some(later(700) + LINE_TIME));
    }
}
