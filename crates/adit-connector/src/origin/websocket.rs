//! A WebSocket to an origin: the handshake on HTTP/1.1, then bytes both ways, each direction with its own end.

use std::rc::Rc;

use adit_http::relay::both_unless;
use adit_tunnel::connector::{Duplex, RequestBody, StreamRequest};

use super::Origin;
use super::connect::connect;
use super::head::BodyHead;
use super::http1::{Connection, Upload, carry, server_name};
use super::io::Io;
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
    let (origin, edge) = (answer.idle.watch(connection.io), Duplex::new(body.take(), reply));
    answer.go_on_with(carry_bytes(origin, edge));
    Ok(())
}

async fn carry_bytes(origin: Watched<Io>, edge: Duplex) -> Result<(), Problem> {
    both_unless(origin, edge, Duplex::poll_gone).await.map(drop).map_err(Problem::of_relay)
}
