//! One visitor's connection: settings out, requests in, and the goodbye.

use std::task::Poll;

use bytes::BytesMut;
use http::{Request, header};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use crate::Limits;
use crate::body::RecvBody;
use crate::code::Code;
use crate::control::{self, CONTROL};
use crate::frame::{self, GOAWAY, Piece, SETTINGS};
use crate::head::{self, HeadError};
use crate::qpack::{self, DecodeError};
use crate::reader::{ReadFailed, Reader};
use crate::respond::Responder;
use crate::varint;

/// Settings of ours (RFC 9114, section 7.2.4.1; RFC 9220).
const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
/// Time for our control stream to be taken. A visitor who allows none speaks no HTTP/3.
const CONTROL_TIME: std::time::Duration = std::time::Duration::from_secs(10);

/// A connection that speaks HTTP/3. Run it on a thread's own task set: its helpers do not leave the thread.
#[derive(Debug)]
pub struct Connection {
    quic: quinn::Connection,
    limits: Limits,
    control: quinn::SendStream,
    watch: AbortHandle,
    /// The first request id that was not taken.
    next: u64,
    leaving: bool,
}

/// The connection is over before it began.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// It was lost.
    #[error(transparent)]
    Lost(#[from] quinn::ConnectionError),
    /// Our settings could not be written.
    #[error(transparent)]
    Write(#[from] quinn::WriteError),
    /// The visitor does not take our control stream.
    #[error("the visitor takes no control stream")]
    NoControl,
}

/// A request stream whose head is still to be read.
#[derive(Debug)]
pub struct Incoming {
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    connection: quinn::Connection,
    limits: Limits,
}

/// Why a stream made no request. The stream is reset, or the connection closed, already.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The head did not come in time.
    #[error("no head in time")]
    TimedOut,
    /// The stream broke or ended before the head.
    #[error("no head came: {0}")]
    NoHead(String),
    /// The head is too large.
    #[error("the head is too large")]
    TooLarge,
    /// The head is malformed.
    #[error(transparent)]
    Malformed(#[from] HeadError),
}

impl Connection {
    /// Begins to speak HTTP/3.
    ///
    /// # Errors
    /// [`ConnectionError`] when the visitor is gone, or does not play along.
    pub async fn start(quic: quinn::Connection, limits: Limits) -> Result<Self, ConnectionError> {
        let watch = spawn_local(control::watch(quic.clone())).abort_handle();
        let opened = timeout(CONTROL_TIME, quic.open_uni()).await;
        let mut control = opened.map_err(|_| ConnectionError::NoControl)??;
        control.write_all(&settings(limits.head_bytes)).await?;
        Ok(Self { quic, limits, control, watch, next: 0, leaving: false })
    }

    /// The next request stream; `None` when the connection is over.
    pub async fn accept(&mut self) -> Option<Incoming> {
        loop {
            let (send, recv) = self.quic.accept_bi().await.ok()?;
            let incoming = Incoming { send, recv, connection: self.quic.clone(), limits: self.limits };
            if self.leaving {
                incoming.reject();
                continue;
            }
            self.next = u64::from(quinn::VarInt::from(incoming.send.id())) + 4;
            return Some(incoming);
        }
    }

    /// Says that no more requests are taken (section 5.2). Those that come later are rejected by [`Connection::accept`].
    pub async fn say_goodbye(&mut self) {
        self.leaving = true;
        let (mut payload, mut frame) = (BytesMut::new(), BytesMut::new());
        varint::encode(self.next, &mut payload);
        frame::put_header(GOAWAY, payload.len(), &mut frame);
        frame.extend_from_slice(&payload);
        // A visitor who does not hear it is gone.
        drop(self.control.write_all(&frame).await);
    }

    /// Ends the connection.
    pub fn close(&self) {
        self.quic.close(Code::NO_ERROR.value(), b"");
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.watch.abort();
        self.close();
    }
}

impl Incoming {
    /// Reads the head.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request(self) -> Result<(Request<RecvBody>, Responder), RequestError> {
        let Self { send, recv, connection, limits } = self;
        let mut reader = Reader::new(recv, connection, limits.head_bytes, limits.read);
        let responder = Responder::new(send);
        let head = match timeout(limits.head_time, head(&mut reader, limits)).await {
            Ok(Ok(head)) => head,
            Ok(Err(error)) => {
                reader.stop(Code::MESSAGE_ERROR);
                responder.reset(reset_code(&error));
                return Err(error);
            }
            Err(_) => {
                reader.stop(Code::REQUEST_CANCELLED);
                responder.reset(Code::REQUEST_CANCELLED);
                return Err(RequestError::TimedOut);
            }
        };
        let length = match length(&head) {
            Ok(length) => length,
            Err(error) => {
                reader.stop(Code::MESSAGE_ERROR);
                responder.reset(Code::MESSAGE_ERROR);
                return Err(error.into());
            }
        };
        let ended = std::future::poll_fn(|cx| Poll::Ready(reader.poll_ended(cx))).await;
        Ok((head.map(|()| RecvBody::new(reader, limits, length, ended)), responder))
    }

    fn reject(mut self) {
        // The stream may be gone already.
        drop(self.recv.stop(Code::REQUEST_REJECTED.value()));
        drop(self.send.reset(Code::REQUEST_REJECTED.value()));
    }
}

fn reset_code(error: &RequestError) -> Code {
    match error {
        RequestError::TooLarge => Code::EXCESSIVE_LOAD,
        RequestError::NoHead(_) => Code::REQUEST_INCOMPLETE,
        RequestError::TimedOut => Code::REQUEST_CANCELLED,
        RequestError::Malformed(_) => Code::MESSAGE_ERROR,
    }
}

async fn head(reader: &mut Reader, limits: Limits) -> Result<Request<()>, RequestError> {
    let section = match reader.piece().await {
        Ok(Some(Piece::Headers(section))) => section,
        Ok(_) => return Err(RequestError::NoHead("the stream ended".to_owned())),
        Err(error) => return Err(RequestError::NoHead(error.to_string())),
    };
    let fields = qpack::decode(section, limits.head_bytes, limits.fields).map_err(|error| match error {
        DecodeError::TooLarge => RequestError::TooLarge,
        DecodeError::Malformed => {
            let closed: ReadFailed = reader.close(Code::DECOMPRESSION_FAILED);
            RequestError::NoHead(closed.to_string())
        }
    })?;
    Ok(head::request(&fields)?)
}

/// The length that the head names (RFC 9110, section 8.6). Repetitions must say the same.
fn length(request: &Request<()>) -> Result<Option<u64>, HeadError> {
    let mut known = None;
    for value in request.headers().get_all(header::CONTENT_LENGTH) {
        let length = head::content_length(value.as_bytes())?;
        if known.is_some_and(|known| known != length) {
            return Err(HeadError::TWO_LENGTHS);
        }
        known = Some(length);
    }
    Ok(known)
}

/// The beginning of our control stream.
fn settings(head_bytes: usize) -> BytesMut {
    let (mut payload, mut out) = (BytesMut::new(), BytesMut::new());
    for (id, value) in [(MAX_FIELD_SECTION_SIZE, head_bytes as u64), (ENABLE_CONNECT_PROTOCOL, 1)] {
        varint::encode(id, &mut payload);
        varint::encode(value, &mut payload);
    }
    varint::encode(CONTROL, &mut out);
    frame::put_header(SETTINGS, payload.len(), &mut out);
    out.extend_from_slice(&payload);
    out
}
