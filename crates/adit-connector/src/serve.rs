//! One stream from head to end. The only file that knows the order of the stages:
//!
//! ingress → access → origin, with rescue and record around the whole.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_policy::field;
use adit_policy::ingress::Service;
use adit_tunnel::connector::{Opening, Reply, RequestBody, Stream, StreamRequest};
use adit_wire::connect::StreamKind;
use adit_wire::fields::Fields;
use adit_wire::names;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::Connector;
use crate::balance::{Asked, Member};
use crate::idle::Idle;
use crate::ingress::{CurrentRules, Found};
use crate::origin::{Origin, OriginError};
use crate::record::Record;
use crate::rescue::{Problem, own_answer, rescue};
use crate::{hello, origin, private};

/// Where streams are served: one worker.
pub(crate) struct Place {
    pub(crate) connector: Arc<Connector>,
    rules: CurrentRules,
}

impl Place {
    pub(crate) fn new(connector: &Arc<Connector>) -> Rc<Self> {
        Rc::new(Self { connector: connector.clone(), rules: CurrentRules::new(connector) })
    }

    /// Serves a stream in a task of its own.
    pub(crate) fn spawn(self: &Rc<Self>, opening: Opening, load: &Load) {
        let (place, running) = (self.clone(), load.begin());
        drop(tokio::task::spawn_local(async move {
            if let Some(rest) = place.serve(opening).await {
                // In a task that is no larger than it: an upgraded stream may idle for days.
                drop(tokio::task::spawn_local(rest.counted(running)));
            }
        }));
    }

    /// Answers a stream. What is left to do for one that was upgraded is handed back.
    async fn serve(&self, opening: Opening) -> Option<Rest> {
        let stream = match opening.read().await {
            Ok(Some(stream)) => stream,
            Ok(None) => return None,
            Err(error) => {
                tracing::debug!(%error, "stream without a head");
                return None;
            }
        };
        let mut record = Record::start(&self.connector, &stream.request);
        let Stream { mut request, body, reply } = stream;
        self.tag(&mut request);
        let mut answer = Answer::new(reply);
        let outcome = self.answer(&mut request, body, &mut answer, &mut record).await;
        record.status(answer.status);
        if let Err(problem) = outcome {
            record.failed(&problem);
            if let Some(reply) = answer.reply.take() {
                record.status(rescue(&problem, reply).await);
            }
        }
        let (upgraded, asked) = (answer.upgraded?, answer.asked);
        Some(Rest { upgraded, record: record.compact(), _asked: asked, _running: None })
    }

    /// Sets the connector's tags, in place of what the edge says under their names.
    fn tag(&self, request: &mut StreamRequest) {
        let tags = &self.connector.tags;
        if !tags.is_empty() {
            let is_tag = |name: &[u8]| tags.iter().any(|(tag, _)| field::is_same(tag.as_bytes(), name));
            let others = request.fields.iter().filter(|(name, _)| !is_tag(name));
            let tags = tags.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            request.fields = Fields::from_pairs(others.chain(tags));
        }
    }

    async fn answer(
        &self,
        request: &mut StreamRequest,
        body: RequestBody,
        answer: &mut Answer,
        record: &mut Record,
    ) -> Result<(), Problem> {
        if request.kind == StreamKind::Tcp {
            let session = TcpSession::begin(&self.connector);
            return private::tcp::connect(&self.connector, request, body, answer, session).await;
        }
        let rules = self.rules.get();
        let found = rules.find(request)?;
        record.rule(found.index);
        if let Some(access) = found.rule.origin.access.as_ref().filter(|access| access.required) {
            answer.reply().into_iter().for_each(Reply::mark_gated);
            self.connector.issuers.check(access, &request.fields).await?;
        }
        answer.idle = Idle::new(found.rule.origin.idle_timeout);
        match &found.rule.service {
            Service::Status(status) => answer.empty(*status).await,
            Service::HelloWorld => hello::answer(request, body, answer).await,
            _ => self.ask(&found, request, body, answer).await,
        }
    }

    /// Asks one origin after the other until one can be connected to.
    async fn ask(
        &self,
        found: &Found<'_>,
        request: &StreamRequest,
        mut body: RequestBody,
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        let visitor = request.fields.get("x-real-ip").unwrap_or_default();
        let mut last = Problem::NoRule;
        for (origin, member) in found.candidates(visitor) {
            answer.asked = member.as_ref().map(Member::begin);
            let idle = answer.idle.clone();
            let asked = tokio::select! {
                biased;
                asked = self.ask_one(&origin, request, &mut body, answer) => asked,
                limit = idle.expired() => Err(OriginError::Silent(limit).into()),
            };
            match asked {
                Err(problem) if problem.is_before_request() && answer.is_open() => last = problem,
                done => return done,
            }
            if let Some(member) = member {
                member.rest();
            }
        }
        Err(last)
    }

    async fn ask_one(
        &self,
        origin: &Rc<Origin>,
        request: &StreamRequest,
        body: &mut RequestBody,
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        let is_http = matches!(origin.service(), Service::Http { .. } | Service::Unix { .. });
        if request.fields.get(names::PASSTHROUGH).is_some() && origin::takes(origin.service()) {
            let (given, session) = (self.connector.given.as_ref(), TcpSession::begin(&self.connector));
            return origin::passthrough(origin, given, request, body, answer, session).await;
        }
        match request.kind {
            StreamKind::Http if is_http => origin::request(origin, request, body, answer).await,
            StreamKind::WebSocket if is_http => origin::websocket(origin, request, body, answer).await,
            _ => origin::tcp(origin, request, body, answer, TcpSession::begin(&self.connector)).await,
        }
    }
}

/// An upgraded stream until its end, with its record and what counts it. (A future by hand: a compiled one would hold
/// all of it twice.)
struct Rest {
    upgraded: Upgraded,
    record: Record,
    _asked: Option<Asked>,
    _running: Option<Running>,
}

impl Rest {
    fn counted(self, running: Running) -> Self {
        Self { _running: Some(running), ..self }
    }
}

impl Future for Rest {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let ended = ready!(self.upgraded.as_mut().poll(cx));
        if let Err(problem) = ended {
            self.record.failed(&problem);
        }
        Poll::Ready(())
    }
}

/// The answer to be given: the reply until it is used, and the status once it is.
pub(crate) struct Answer {
    reply: Option<Reply>,
    status: u16,
    upgraded: Option<Upgraded>,
    /// Silence that the rule bears.
    pub(crate) idle: Idle,
    /// Counts at the origin that answers, where there are several.
    asked: Option<Asked>,
}

/// The bytes of a stream that was upgraded.
type Upgraded = Pin<Box<dyn Future<Output = Result<(), Problem>>>>;

impl Answer {
    fn new(reply: Reply) -> Self {
        Self { reply: Some(reply), status: 0, upgraded: None, idle: Idle::default(), asked: None }
    }

    /// Whether nothing is answered yet.
    fn is_open(&self) -> bool {
        self.reply.is_some()
    }

    /// Takes the reply for the head that is about to be sent.
    ///
    /// # Errors
    /// When it was sent already, which is a mistake of ours.
    pub(crate) fn begin(&mut self, status: u16) -> Result<Reply, Problem> {
        self.status = status;
        self.reply.take().ok_or(Problem::Malformed("answered twice"))
    }

    /// The reply, to wait for its cancellation or to send interim heads.
    pub(crate) fn reply(&mut self) -> Option<&mut Reply> {
        self.reply.as_mut()
    }

    /// Resolves when the edge no longer wants the answer.
    pub(crate) async fn cancelled(&mut self) {
        match &mut self.reply {
            Some(reply) => reply.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Hands over what carries an upgraded stream. Everything else of the request is let go.
    pub(crate) fn go_on_with(&mut self, upgraded: impl Future<Output = Result<(), Problem>> + 'static) {
        let idle = self.idle.clone();
        self.upgraded = Some(if idle.is_endless() {
            Box::pin(upgraded)
        } else {
            Box::pin(async move {
                tokio::select! {
                    carried = upgraded => carried,
                    limit = idle.expired() => Err(OriginError::Silent(limit).into()),
                }
            })
        });
    }

    /// Answers with a status and nothing else.
    pub(crate) async fn empty(&mut self, status: u16) -> Result<(), Problem> {
        let fields = if status < 400 { Fields::from_texts(&[("Content-Length", "0")]) } else { own_answer() };
        self.begin(status)?.head(status, &fields, Bytes::new(), true).await?;
        Ok(())
    }
}

/// Counts a TCP session for as long as it lives.
pub(crate) struct TcpSession(Arc<Connector>);

impl TcpSession {
    fn begin(connector: &Arc<Connector>) -> Self {
        connector.metrics.tcp_active.inc();
        connector.metrics.tcp_total.inc();
        Self(connector.clone())
    }
}

impl Drop for TcpSession {
    fn drop(&mut self) {
        self.0.metrics.tcp_active.dec();
    }
}

/// How many streams of one link are running.
#[derive(Clone, Default)]
pub(crate) struct Load(Rc<(Cell<usize>, Notify)>);

impl Load {
    fn begin(&self) -> Running {
        self.0.0.set(self.0.0.get() + 1);
        Running(self.clone())
    }

    /// How many are running.
    pub(crate) fn count(&self) -> usize {
        self.0.0.get()
    }

    /// Resolves when none is running.
    pub(crate) async fn idle(&self) {
        while self.0.0.get() > 0 {
            self.0.1.notified().await;
        }
    }
}

/// One running stream.
struct Running(Load);

impl Drop for Running {
    fn drop(&mut self) {
        let left = self.0.0.0.get() - 1;
        self.0.0.0.set(left);
        if left == 0 {
            self.0.0.1.notify_one();
        }
    }
}
