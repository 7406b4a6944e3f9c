//! Asks a connection of the right tunnel; asks another one when that is safe.
//!
//! A request goes to a second connection only while nothing was sent to the visitor, its body was not touched, and
//! either the first connection never sent it or the method may be repeated (RFC 9110, section 9.2.2).

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use adit_policy::host::Hostname;
use adit_policy::limits::{RETRIES_MAX, WAIT_FOR_CONNECTION};
use adit_policy::route::Route;
use adit_tunnel::SendError;
use adit_tunnel::edge::ResponseBody;
use http::{Method, Response};
use tokio::time::timeout;
use uuid::Uuid;

use crate::Edge;
use crate::act::Onward;
use crate::forward::Outbound;
use crate::registry::{Asking, Session, View};
use crate::rescue::Problem;
use crate::route::Routed;
use crate::worker::Worker;

/// Who asks, and who is told which connection was asked.
pub(crate) struct Ask<'a> {
    pub(crate) edge: &'a Edge,
    pub(crate) worker: &'a Worker,
    /// A number for taking turns.
    pub(crate) turn: usize,
    pub(crate) asked: &'a mut dyn FnMut(&Arc<Session>),
}

/// Sends a routed request and returns the answer's head with its body to come.
///
/// # Errors
/// [`Problem`] when no connection is there, or none answered.
pub(crate) async fn send(
    ask: Ask<'_>,
    onward: &Onward,
    outbound: &mut Outbound,
) -> Result<Response<ResponseBody>, Problem> {
    let Onward(routed) = onward;
    let uploaded = outbound.uploaded.clone();
    let answer = within(routed.settings.timeouts.answer, &uploaded, send_once(ask, routed, outbound)).await;
    let is_too_large = routed.settings.body_limit.is_some_and(|most| uploaded.get() > most);
    answer.map_err(|problem| if is_too_large { Problem::TooLarge } else { problem })
}

/// Waits for the answer's head. The time begins anew as long as the request's body flows.
async fn within<T>(
    limit: Option<Duration>,
    uploaded: &Cell<u64>,
    answer: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let Some(limit) = limit else { return answer.await };
    let mut answer = std::pin::pin!(answer);
    loop {
        let before = uploaded.get();
        match timeout(limit, answer.as_mut()).await {
            Ok(answer) => return answer,
            Err(_) if uploaded.get() == before => return Err(Problem::Slow(limit)),
            Err(_) => {}
        }
    }
}

async fn send_once(
    ask: Ask<'_>,
    routed: &Routed,
    outbound: &mut Outbound,
) -> Result<Response<ResponseBody>, Problem> {
    let Ask { edge, worker, turn, asked } = ask;
    let had_body = outbound.body.is_some();
    let mut tried: Vec<Uuid> = Vec::new();
    loop {
        let asking = Asking { worker: worker.index, workers: worker.count, turn, tried: &tried };
        let session = connection(edge, &asking, &routed.view, &routed.route, &routed.host).await?;
        asked(&session);
        let error = match session.connection.send(outbound.head.as_request(), &mut outbound.body).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let untouched = !had_body || outbound.body.is_some();
        if tried.len() >= RETRIES_MAX || !untouched || !may_repeat(&error, &outbound.head.method) {
            return Err(error.into());
        }
        tracing::debug!(connection = %session.id, %error, "trying another connection");
        edge.metrics.retries.inc();
        tried.push(session.id);
    }
}

fn may_repeat(error: &SendError, method: &Method) -> bool {
    error.never_sent() || (error.is_connection_loss() && method.is_idempotent())
}

/// The best connection; waits a moment for one that is about to come back.
///
/// # Errors
/// [`Problem::NoConnection`] when none is.
pub(crate) async fn connection(
    edge: &Edge,
    asking: &Asking<'_>,
    view: &View,
    route: &Route,
    host: &Hostname,
) -> Result<Arc<Session>, Problem> {
    if let Some(session) = view.pick(route, asking) {
        return Ok(session);
    }
    let waiting = async {
        let mut changes = edge.registry.watch();
        loop {
            let view = edge.registry.view();
            let route = view.routes.find(host.as_str());
            if let Some(session) = route.and_then(|route| view.pick(route, asking)) {
                return session;
            }
            drop(view);
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    timeout(WAIT_FOR_CONNECTION, waiting).await.map_err(|_| Problem::NoConnection)
}
