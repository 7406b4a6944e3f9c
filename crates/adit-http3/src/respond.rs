//! The answer to a request, written as it comes. One that breaks off is reset, so that it never looks complete.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body::{Body, Frame};

use crate::code::Code;
use crate::frame::{self, DATA, HEADERS};
use crate::head;

/// The sending half of a request stream.
#[derive(Debug)]
pub struct Responder {
    send: quinn::SendStream,
    finished: bool,
}

/// Why an answer did not get through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError<E> {
    /// The visitor does not want it, or is gone.
    #[error("the visitor is gone: {0}")]
    Gone(#[from] quinn::WriteError),
    /// The body broke off.
    #[error("the answer broke off")]
    Body(E),
}

impl Responder {
    pub(crate) fn new(send: quinn::SendStream) -> Self {
        Self { send, finished: false }
    }

    /// Resolves once the visitor does not want the answer any more, is gone, or has all of it.
    pub fn gone(&self) -> impl Future<Output = ()> + use<> {
        let stopped = self.send.stopped();
        async move {
            // Which of them it was is clear from what was sent.
            drop(stopped.await);
        }
    }

    /// Sends the answer.
    ///
    /// # Errors
    /// [`SendError`]; the stream is reset then.
    pub async fn send<B>(mut self, response: Response<B>) -> Result<(), SendError<B::Error>>
    where
        B: Body<Data = Bytes>,
    {
        let (parts, body) = response.into_parts();
        let mut section = BytesMut::with_capacity(256);
        head::encode_response(parts.status, &parts.headers, &mut section);
        let mut pending = framed(HEADERS, section.freeze()).to_vec();
        let mut body = pin!(body);
        let mut gone = pin!(self.gone());
        while !body.is_end_stream() {
            // The head waits for a first piece of the body, if there is one at once: one packet for both.
            let next = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx));
            let frame = tokio::select! {
                biased;
                frame = next => frame,
                () = std::future::ready(()), if !pending.is_empty() => {
                    self.send.write_all_chunks(&mut pending).await?;
                    pending.clear();
                    continue;
                }
                () = &mut gone => return Err(SendError::Gone(quinn::WriteError::ClosedStream)),
            };
            match frame {
                None => break,
                Some(Err(error)) => return Err(SendError::Body(error)),
                Some(Ok(frame)) => pending.extend(encode(frame)),
            }
            self.send.write_all_chunks(&mut pending).await?;
            pending.clear();
        }
        self.send.write_all_chunks(&mut pending).await?;
        self.finished = true;
        // Fails for a stream that the visitor has stopped; then nobody waits for the end.
        drop(self.send.finish());
        Ok(())
    }

    /// Sends the head of an interim response (RFC 9114, section 4.1). If the future is dropped, the stream must be reset.
    ///
    /// # Errors
    /// When the visitor does not want it, or is gone.
    pub async fn interim(
        &mut self,
        status: http::StatusCode,
        headers: &HeaderMap,
    ) -> Result<(), quinn::WriteError> {
        let mut section = BytesMut::with_capacity(128);
        head::encode_response(status, headers, &mut section);
        self.send.write_all_chunks(&mut framed(HEADERS, section.freeze())).await
    }

    /// Ends without an answer.
    pub fn reset(mut self, code: Code) {
        drop(self.send.reset(code.value()));
        self.finished = true;
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.finished {
            drop(self.send.reset(Code::INTERNAL_ERROR.value()));
        }
    }
}

fn encode(frame: Frame<Bytes>) -> Vec<Bytes> {
    match frame.into_data() {
        Ok(data) if data.is_empty() => Vec::new(),
        Ok(data) => framed(DATA, data).to_vec(),
        Err(frame) => frame.into_trailers().map(|fields| trailers(&fields)).unwrap_or_default(),
    }
}

fn trailers(fields: &HeaderMap) -> Vec<Bytes> {
    let mut section = BytesMut::new();
    crate::qpack::start(&mut section);
    head::encode_fields(fields, &mut section);
    framed(HEADERS, section.freeze()).to_vec()
}

fn framed(kind: u64, payload: Bytes) -> [Bytes; 2] {
    let mut header = BytesMut::with_capacity(16);
    frame::put_header(kind, payload.len(), &mut header);
    [header.freeze(), payload]
}
