//! A WebSocket to an origin: the handshake on HTTP/1.1, then bytes both ways, each direction with its own end.

use std::rc::Rc;

use adit_http::relay::read_some;
use adit_tunnel::connector::{Chunk, ReplyBody, RequestBody, StreamRequest};
use bytes::Bytes;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf, split};

use super::connect::connect;
use super::head::BodyHead;
use super::http1::{Connection, Upload, carry, server_name};
use super::io::Io;
use super::{Origin, OriginError};
use crate::idle::Watched;
use crate::rescue::Problem;
use crate::serve::Answer;

/// Asks for the upgrade; carries the bytes when the origin agrees, and its answer when it does not.
///
/// # Errors
/// [`Problem`]; the head may be out already.
pub(crate) async fn websocket(
    origin: &Rc<Origin>,
    request: &StreamRequest,
    body: &mut RequestBody,
    answer: &mut Answer,
) -> Result<(), Problem> {
    let name = server_name(origin, request);
    let route = tokio::select! {
        biased;
        route = connect(origin, name.as_deref()) => route?,
        () = answer.cancelled() => return Err(Problem::Cancelled),
    };
    let mut connection = Connection::new(route, name);
    let mut upload = Upload::none(body, answer.idle.clone());
    connection.send_head(origin, request, BodyHead::Upgrade, &mut upload).await?;
    let head = connection.read_head(&request.method, &mut upload, answer).await?;
    if head.status != 101 {
        carry(&mut connection, &head, &mut upload, answer).await?;
        return Ok(());
    }
    let leftover = connection.buffer.split().freeze();
    let reply = answer.begin(101)?.head(101, &head.fields, leftover, false).await?;
    let (read, write) = split(answer.idle.watch(connection.io));
    let body = body.take();
    answer.go_on_with(async move {
        tokio::try_join!(carry_down(read, reply), carry_up(body, write))?;
        Ok(())
    });
    Ok(())
}

async fn carry_down(mut read: ReadHalf<Watched<Io>>, mut reply: ReplyBody) -> Result<(), Problem> {
    loop {
        let data = tokio::select! {
            biased;
            data = read_some(&mut read) => data.map_err(OriginError::Broken)?,
            () = reply.cancelled() => return Err(Problem::Cancelled),
        };
        if data.is_empty() {
            return Ok(reply.finish().await?);
        }
        reply.data(data).await?;
    }
}

async fn carry_up(mut body: RequestBody, mut write: WriteHalf<Watched<Io>>) -> Result<(), Problem> {
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
