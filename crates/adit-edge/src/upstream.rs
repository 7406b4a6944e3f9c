//! Sends to a connection of the right tunnel, and to another one when that is safe. HTTP requests, passthrough streams and
//! ports all find their connection here.
//!
//! A request goes to a second connection only while nothing was sent to the visitor, its body was not touched, and
//! either the first connection never sent it or the method may be repeated (RFC 9110, section 9.2.2).

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use adit_policy::limits::{RETRIES_MAX, WAIT_FOR_CONNECTION};
use adit_policy::route::Route;
use adit_tunnel::SendError;
use adit_tunnel::edge::ResponseBody;
use http::{Method, Response};
use tokio::time::timeout;
use uuid::Uuid;

use crate::act::Onward;
use crate::context::RequestContext;
use crate::forward::Outbound;
use crate::registry::{Session, Speaker, View};
use crate::rescue::Problem;

/// Where a request or a stream is sent: the connections of one route.
pub(crate) struct Destination<'a> {
    /// What the request sees of the world.
    pub(crate) view: &'a View,
    /// The route in that view.
    pub(crate) route: &'a Route,
    /// Whose rules have judged it.
    pub(crate) speaker: Option<&'a Speaker>,
    /// Finds the route in a newer view, while no connection is there, and whose rules judge the request in the same way.
    pub(crate) find: &'a dyn Fn(&View) -> Option<Rerouted>,
    /// Whether only a connection that carries UDP will do.
    pub(crate) udp: bool,
}

/// A route with the speaker whose rules judge what goes there.
pub(crate) type Rerouted = (Arc<Route>, Option<Arc<Speaker>>);

/// Why no connection took a request or a stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreached<E: std::error::Error> {
    /// No connection of the tunnel is there.
    #[error("no connection of the tunnel is there")]
    NoConnection,
    /// A connection was asked, and this came of it.
    #[error(transparent)]
    Failed(E),
}

/// An attempt on one connection that came to nothing.
pub(crate) struct Failed<E> {
    /// What happened.
    pub(crate) error: E,
    /// Whether another connection may be asked.
    pub(crate) may_repeat: bool,
}

/// Sends a request and returns the answer's head with its body to come. `asked` is told each connection that was tried.
///
/// # Errors
/// [`Problem`] when no connection is there, or none answered.
pub(crate) async fn send(
    onward: &Onward,
    outbound: &mut Outbound,
    asked: impl FnMut(&Arc<Session>),
) -> Result<Response<ResponseBody>, Problem> {
    let uploaded = outbound.uploaded.clone();
    let settings = onward.settings();
    let answer = within(settings.timeouts.answer, &uploaded, send_once(onward, outbound, asked)).await;
    let is_too_large = settings.body_limit.is_some_and(|most| uploaded.get() > most);
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
    onward: &Onward,
    outbound: &mut Outbound,
    mut asked: impl FnMut(&Arc<Session>),
) -> Result<Response<ResponseBody>, Problem> {
    let find = |view: &View| onward.reroute(view);
    let (view, route, speaker) = (onward.view(), onward.route(), onward.speaker());
    let to = Destination { view, route, speaker, find: &find, udp: false };
    let Outbound { head, body, .. } = outbound;
    let had_body = body.is_some();
    let answer = attempt(onward.request(), &to, async |session| {
        asked(session);
        session.connection.send(head.as_request(), body).await.map_err(|error| {
            let untouched = !had_body || body.is_some();
            Failed { may_repeat: untouched && may_repeat(&error, &head.method), error }
        })
    });
    answer.await.map_err(Problem::from)
}

fn may_repeat(error: &SendError, method: &Method) -> bool {
    error.never_sent() || (error.is_connection_loss() && method.is_idempotent())
}

/// Tries connections, the best one first, until one takes what `send` sends or it may not be repeated.
///
/// # Errors
/// [`Unreached`] when no connection is there, or with what the last one said.
pub(crate) async fn attempt<T, E: std::error::Error>(
    request: &RequestContext,
    to: &Destination<'_>,
    mut send: impl AsyncFnMut(&Arc<Session>) -> Result<T, Failed<E>>,
) -> Result<T, Unreached<E>> {
    let mut tried: Vec<Uuid> = Vec::new();
    loop {
        let session = connection(request, to, &tried).await.ok_or(Unreached::NoConnection)?;
        let Failed { error, may_repeat } = match send(&session).await {
            Ok(taken) => return Ok(taken),
            Err(failed) => failed,
        };
        if !may_repeat || tried.len() >= RETRIES_MAX {
            return Err(Unreached::Failed(error));
        }
        tracing::debug!(connection = %session.id, %error, "trying another connection");
        request.edge().metrics.retries.inc();
        tried.push(session.id);
    }
}

/// The best connection; waits a moment for one that is about to come back.
async fn connection(request: &RequestContext, to: &Destination<'_>, tried: &[Uuid]) -> Option<Arc<Session>> {
    if let Some(session) = to.view.pick(to.route, to.speaker, request, to.udp, tried) {
        return Some(session);
    }
    let waiting = async {
        let registry = &request.edge().registry;
        let mut changes = registry.watch();
        loop {
            let view = registry.view();
            let found = (to.find)(&view)
                .and_then(|(route, speaker)| view.pick(&route, speaker.as_deref(), request, to.udp, tried));
            if let Some(session) = found {
                return session;
            }
            drop(view);
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    timeout(WAIT_FOR_CONNECTION, waiting).await.ok()
}
