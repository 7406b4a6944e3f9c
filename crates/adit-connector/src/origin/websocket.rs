//! A WebSocket to an origin: the handshake on HTTP/1.1, then bytes both ways, each direction with its own end.

use std::rc::Rc;

use adit_tunnel::connector::{Chunk, ReplyBody, RequestBody, StreamRequest};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};

use super::connect::connect;
use super::head::BodyHead;
use super::http1::{Connection, Upload, carry, server_name};
use super::io::Io;
use super::{Origin, OriginError};
use crate::rescue::Problem;
use crate::serve::Answer;

/// Room for frames of the origin.
const READ: usize = 16 * 1024;

/// Asks for the upgrade; carries the bytes when the origin agrees, and its answer when it does not.
///
/// # Errors
/// [`Problem`]; the head may be out already.
pub(crate) async fn websocket(
    origin: &Rc<Origin>,
    request: &StreamRequest,
    mut body: RequestBody,
    answer: &mut Answer,
) -> Result<(), Problem> {
    let name = server_name(origin, request);
    let io = tokio::select! {
        biased;
        io = connect(origin, name.as_deref()) => io?,
        () = answer.cancelled() => return Err(Problem::Cancelled),
    };
    let mut connection = Connection::new(io, name);
    let mut upload = Upload::none(&mut body);
    connection.send_head(origin, request, BodyHead::Upgrade, &mut upload).await?;
    let head = connection.read_head(&request.method, &mut upload, answer).await?;
    if head.status != 101 {
        carry(&mut connection, &head, &mut upload, answer).await?;
        return Ok(());
    }
    let leftover = connection.buffer.split().freeze();
    let reply = answer.begin(101)?.head(101, &head.fields, leftover, false).await?;
    let (read, write) = split(connection.io);
    let down = carry_down(read, reply);
    let up = carry_up(body, write);
    tokio::try_join!(down, up)?;
    Ok(())
}

async fn carry_down(mut read: ReadHalf<Io>, mut reply: ReplyBody) -> Result<(), Problem> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        let read = tokio::select! {
            biased;
            read = read.read_buf(&mut buffer) => read.map_err(OriginError::Broken)?,
            () = reply.cancelled() => return Err(Problem::Cancelled),
        };
        if read == 0 {
            return Ok(reply.finish().await?);
        }
        reply.data(buffer.split().freeze()).await?;
    }
}

async fn carry_up(mut body: RequestBody, mut write: WriteHalf<Io>) -> Result<(), Problem> {
    while let Some(chunk) = body.next().await {
        let data = match chunk? {
            Chunk::Data(data) => data,
            Chunk::Trailers(_) => Bytes::new(),
        };
        write.write_all(&data).await.map_err(OriginError::Broken)?;
        write.flush().await.map_err(OriginError::Broken)?;
    }
    // An origin that is gone needs no goodbye.
    drop(write.shutdown().await);
    Ok(())
}
