//! One access record per request, written when it is dropped: after the last byte, or when the visitor left.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use adit_policy::cache::status::Outcome;
use adit_telemetry::metrics::GaugeGuard;
use adit_telemetry::record::{AccessRecord, hex};
use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, header};

use crate::context::RequestContext;
use crate::limit::Ticket;
use crate::registry::Session;
use crate::rescue::Problem;
use crate::worker::Worker;

/// nginx's word for a visitor who left before the answer.
pub(crate) const CLIENT_GONE: u16 = 499;
/// nginx's word for a connection that was closed without an answer.
pub(crate) const CLOSED: u16 = 444;

/// The record of a request that is under way.
pub(crate) struct Record {
    worker: Rc<Worker>,
    start: Instant,
    fields: Box<AccessRecord>,
    /// Bytes of the request's body, counted by whoever reads it.
    uploaded: Rc<Cell<u64>>,
    /// Counts the request as running.
    ticket: Option<Ticket>,
    _in_flight: GaugeGuard,
}

impl Record {
    pub(crate) fn start(request: &RequestContext, remote: SocketAddr, head: &Parts) -> Self {
        let worker = request.worker.clone();
        let host = head.headers.get(header::HOST).map(|host| Bytes::copy_from_slice(host.as_bytes()));
        let authority = || head.uri.authority().map(|host| Bytes::copy_from_slice(host.as_str().as_bytes()));
        let fields = Box::new(AccessRecord {
            time: SystemTime::now(),
            remote,
            client_ip: request.client.ip,
            method: head.method.clone(),
            uri: head.uri.clone(),
            status: CLIENT_GONE,
            body_bytes_sent: 0,
            request_time: std::time::Duration::ZERO,
            upstream_time: None,
            cache_status: None,
            host: host.or_else(authority).unwrap_or_default(),
            user_agent: head.headers.get(header::USER_AGENT).cloned(),
            request_id: request.id,
            protocol: head.version,
            scheme: request.client.scheme,
            tunnel: None,
            transport: None,
            request_bytes: 0,
            error: None,
            cause: None,
        });
        let in_flight = GaugeGuard::new(worker.edge.metrics.in_flight.clone());
        let start = Instant::now();
        Self { worker, start, fields, uploaded: Rc::default(), ticket: None, _in_flight: in_flight }
    }

    pub(crate) fn id(&self) -> [u8; 32] {
        hex(self.fields.request_id)
    }

    /// Where the request's body is counted.
    pub(crate) fn uploaded(&self) -> Rc<Cell<u64>> {
        self.uploaded.clone()
    }

    pub(crate) fn hold(&mut self, ticket: Option<Ticket>) {
        self.ticket = ticket;
    }

    pub(crate) fn asked(&mut self, session: &Session) {
        self.fields.tunnel = Some(session.tunnel_name.clone());
        self.fields.transport = Some(session.connection.protocol().as_str());
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.fields.status = status.as_u16();
        self.fields.upstream_time = Some(self.start.elapsed());
    }

    /// What the cache has done.
    pub(crate) fn cached(&mut self, outcome: Outcome) {
        self.fields.cache_status = Some(outcome.word());
        self.worker.edge.metrics.cached(outcome as usize, outcome.word());
    }

    pub(crate) fn failed(&mut self, problem: &Problem) {
        self.fields.error = Some(problem.code());
        self.fields.cause = Some(problem.to_string());
    }

    pub(crate) fn status(&mut self, status: u16) {
        self.fields.status = status;
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.fields.body_bytes_sent += bytes;
    }

    /// The answer broke off after its head.
    pub(crate) fn broke(&mut self, cause: String) {
        self.fields.error = Some("answer_broken");
        self.fields.cause = Some(cause);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.fields.request_time = self.start.elapsed();
        self.fields.request_bytes = self.uploaded.get();
        let metrics = &self.worker.edge.metrics;
        let status = StatusCode::from_u16(self.fields.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        metrics.request(&self.fields.method, status, self.fields.request_time);
        metrics.response_bytes.inc_by(self.fields.body_bytes_sent);
        metrics.request_bytes.inc_by(self.fields.request_bytes);
        if let Some(error) = self.fields.error {
            metrics.upstream_error(error);
        }
        self.worker.lane.write(&self.fields);
    }
}
