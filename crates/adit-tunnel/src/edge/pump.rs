//! Carries a visitor's body to the connector, with back-pressure.
//!
//! A body that breaks off resets the stream: the origin never takes a part for the whole.

use adit_wire::frame;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;

use crate::framing::{H2Writer, QuicWriter};
use crate::limits::{DISCARD_MAX, DISCARD_TIME};
use crate::{SendError, StreamError};

/// Where a request body goes.
#[derive(Debug)]
pub(super) enum UploadSink {
    /// Raw bytes on QUIC, or framed ones when both ends can carry trailers.
    Quic { send: QuicWriter, framed: bool },
    /// DATA and HEADERS frames.
    H2(H2Writer),
}

impl UploadSink {
    async fn data(&mut self, data: Bytes) -> Result<(), StreamError> {
        match self {
            Self::Quic { send, framed } => write_quic(send, *framed, data).await,
            Self::H2(send) => send.data(data).await,
        }
    }

    async fn trailers(&mut self, trailers: http::HeaderMap) -> Result<(), StreamError> {
        match self {
            Self::Quic { send, framed: true } => {
                let mut out = BytesMut::new();
                frame::encode_trailers(&mut out, pairs(&trailers));
                send.write(&out).await
            }
            // Nothing can carry them: cloudflared's QUIC has no trailers.
            Self::Quic { .. } => Ok(()),
            Self::H2(send) => send.trailers(trailers),
        }
    }

    /// Ends the body; `ended` says that trailers did it already. A peer that is gone needs no end.
    async fn finish(&mut self, ended: bool) {
        match self {
            Self::Quic { send, framed } => {
                let mut out = BytesMut::new();
                if *framed && !ended {
                    frame::encode_trailers(&mut out, std::iter::empty());
                }
                if send.write(&out).await.is_ok() {
                    send.finish();
                }
            }
            Self::H2(send) => send.finish(),
        }
    }
}

/// Pairs of a header map, as the wire wants them.
pub(super) fn pairs(map: &http::HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

async fn write_quic(send: &mut QuicWriter, framed: bool, data: Bytes) -> Result<(), StreamError> {
    if framed {
        let header = frame::encode_data_header(data.len());
        send.write(&header).await?;
    }
    send.chunk(data).await
}

/// Runs until the body is sent. A peer that stops reading ends it early and well: it answers without the rest.
///
/// # Errors
/// [`SendError::Upload`] when the visitor's side broke; the stream is reset then.
pub(super) async fn pump<B>(mut body: B, mut sink: UploadSink) -> Result<(), SendError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut ended = false;
    while let Some(frame) = body.frame().await {
        // Dropping the sink resets the stream.
        let frame = frame.map_err(|_| SendError::Upload)?;
        ended = frame.is_trailers();
        if forward(&mut sink, frame).await.is_err() {
            discard(&mut body).await;
            return Ok(());
        }
    }
    sink.finish(ended).await;
    Ok(())
}

/// Reads on for a moment: a visitor who still writes would not hear the answer, and lose his connection. Go's server reads
/// as much.
async fn discard(body: &mut (impl Body<Data = Bytes> + Unpin)) {
    let reading = async {
        let mut left = DISCARD_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else { return };
            left = rest;
        }
    };
    // Who sends more, or slowly, loses the connection.
    drop(tokio::time::timeout(DISCARD_TIME, reading).await);
}

async fn forward(sink: &mut UploadSink, frame: Frame<Bytes>) -> Result<(), StreamError> {
    match frame.into_data() {
        Ok(data) if data.is_empty() => Ok(()),
        Ok(data) => sink.data(data).await,
        Err(frame) => match frame.into_trailers() {
            Ok(trailers) => sink.trailers(trailers).await,
            Err(_) => Ok(()),
        },
    }
}
