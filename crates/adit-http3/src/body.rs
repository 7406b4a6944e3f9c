//! The body of a request, as a stream of frames.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::Limits;
use crate::code::Code;
use crate::frame::Piece;
use crate::head;
use crate::qpack::{self, DecodeError};
use crate::reader::{ReadFailed, Reader};

/// A request's body. Dropping it early tells the visitor that no more is wanted.
pub struct RecvBody {
    reader: Reader,
    limits: Limits,
    /// Bytes still to come, where the head says so.
    left: Option<u64>,
    /// Trailers that were read; the stream has not ended yet.
    trailers: Option<HeaderMap>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    End,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BodyError(#[from] Broken);

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Read(#[from] ReadFailed),
    #[error("the body is not as long as its Content-Length")]
    Length,
    #[error("malformed trailers")]
    Trailers,
}

impl std::fmt::Debug for RecvBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecvBody").field("left", &self.left).finish_non_exhaustive()
    }
}

impl RecvBody {
    /// `ended` for a stream that has ended with its head.
    pub(crate) fn new(reader: Reader, limits: Limits, length: Option<u64>, ended: bool) -> Self {
        let state = if ended && length.unwrap_or_default() == 0 { State::End } else { State::Data };
        Self { reader, limits, left: length, trailers: None, state }
    }

    fn data(&mut self, data: Bytes) -> Result<Frame<Bytes>, Broken> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(data.len() as u64).ok_or(Broken::Length)?;
        }
        Ok(Frame::data(data))
    }

    fn trailers(&self, section: Bytes) -> Result<HeaderMap, Broken> {
        let fields = qpack::decode(section, self.limits.head_bytes, self.limits.fields);
        let fields = fields.map_err(|error| match error {
            DecodeError::Malformed => Broken::Read(self.reader.close(Code::DECOMPRESSION_FAILED)),
            DecodeError::TooLarge => Broken::Trailers,
        })?;
        head::headers(&fields).map_err(|_| Broken::Trailers)
    }

    /// The message is whole where its stream ends (RFC 9114, section 4.1), so trailers are told then and not before.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Broken>> {
        loop {
            return Poll::Ready(match ready!(self.reader.poll_piece(cx))? {
                Some(Piece::Data(data)) => {
                    let data = self.reader.gather(data);
                    self.data(data).map(Some)
                }
                Some(Piece::Headers(section)) => {
                    self.trailers = Some(self.trailers(section)?);
                    continue;
                }
                Some(Piece::NeedMore) => return Poll::Pending,
                None if self.left.is_some_and(|left| left > 0) => Err(Broken::Length),
                None => Ok(self.trailers.take().map(Frame::trailers)),
            });
        }
    }
}

impl Body for RecvBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.state == State::End {
            return Poll::Ready(None);
        }
        let polled = ready!(self.poll(cx));
        if !matches!(polled, Ok(Some(_))) {
            self.state = State::End;
        }
        if polled.is_err() {
            self.reader.stop(Code::MESSAGE_ERROR);
        }
        Poll::Ready(polled.map_err(BodyError).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::End
    }

    fn size_hint(&self) -> SizeHint {
        match (self.state, self.left) {
            (State::End, _) => SizeHint::with_exact(0),
            (State::Data, Some(left)) => SizeHint::with_exact(left),
            (State::Data, None) => SizeHint::default(),
        }
    }
}
