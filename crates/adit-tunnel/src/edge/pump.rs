//! Carries a visitor's body to the connector, with back-pressure.
//!
//! A body that breaks off resets the stream: the origin never takes a part for the whole.

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;

use super::Connection;
use super::stalled::unless_cut;
use crate::framing::{BodyWriter, fields_of};
use crate::limits::{DISCARD_MAX, DISCARD_TIME};
use crate::{SendError, StreamError};

/// Runs until the body is sent. A peer that stops reading ends it early and well: it answers without the rest.
///
/// # Errors
/// [`SendError::Upload`] when the visitor's side broke, [`SendError::Stalled`] when the upload was cut because `connection`,
/// which has only the transport's windows, has too many that are stalled. The stream is reset then.
pub(super) async fn pump<B>(
    mut body: B,
    mut sink: BodyWriter,
    connection: Option<Connection>,
) -> Result<(), SendError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let stalled = connection.as_ref().map(Connection::stalled);
    while let Some(frame) = body.frame().await {
        // Dropping the sink resets the stream.
        let frame = frame.map_err(|_| SendError::Upload)?;
        let Ok(forwarded) = unless_cut(stalled, forward(&mut sink, frame)).await else {
            return Err(SendError::Stalled);
        };
        if forwarded.is_err() {
            discard(&mut body).await;
            return Ok(());
        }
    }
    // A peer that is gone needs no end.
    drop(sink.finish().await);
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

async fn forward(sink: &mut BodyWriter, frame: Frame<Bytes>) -> Result<(), StreamError> {
    match frame.into_data() {
        Ok(data) if data.is_empty() => Ok(()),
        Ok(data) => sink.data(data).await,
        Err(frame) => match frame.into_trailers() {
            Ok(trailers) => sink.trailers(&fields_of(&trailers)).await,
            Err(_) => Ok(()),
        },
    }
}
