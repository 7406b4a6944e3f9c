//! One record per stream, written when it is dropped: metrics and lines for the debug log.

use std::sync::Arc;
use std::time::Instant;

use adit_tunnel::connector::StreamRequest;
use bytes::Bytes;

use crate::Connector;
use crate::rescue::{Problem, chain};

/// What happened to a stream.
pub(crate) struct Record {
    connector: Arc<Connector>,
    start: Instant,
    method: Bytes,
    host: Bytes,
    target: Bytes,
    rule: Option<usize>,
    status: u16,
}

impl Record {
    pub(crate) fn start(connector: &Arc<Connector>, request: &StreamRequest) -> Self {
        connector.metrics.total_requests.inc();
        connector.metrics.concurrent_requests.inc();
        if tracing::enabled!(tracing::Level::DEBUG) {
            let text = String::from_utf8_lossy;
            let id = request.fields.get("x-request-id").unwrap_or_default();
            tracing::debug!(
                method = %text(&request.method), host = %text(&request.host), path = %text(&request.target),
                kind = ?request.kind, requestId = %text(id), "request"
            );
        }
        Self {
            connector: connector.clone(),
            start: Instant::now(),
            method: request.method.clone(),
            host: request.host.clone(),
            target: request.target.clone(),
            rule: None,
            status: 0,
        }
    }

    pub(crate) fn rule(&mut self, index: usize) {
        self.rule = Some(index);
    }

    pub(crate) fn status(&mut self, status: u16) {
        self.status = status;
    }

    /// The same without the buffer that the request came in.
    pub(crate) fn compact(mut self) -> Self {
        self.host = Bytes::copy_from_slice(&self.host);
        // Only the debug log has a use for these.
        let debug = tracing::enabled!(tracing::Level::DEBUG);
        for text in [&mut self.method, &mut self.target] {
            *text = if debug { Bytes::copy_from_slice(text) } else { Bytes::new() };
        }
        self
    }

    pub(crate) fn failed(&mut self, problem: &Problem) {
        if let Problem::Denied(denied) = problem {
            let host = String::from_utf8_lossy(&self.host);
            tracing::debug!(%host, ingressRule = self.rule, cause = %denied, "refused a request");
        }
        if !problem.is_failure() {
            return;
        }
        self.connector.metrics.origin_error(problem.code());
        let (host, rule, error) = (String::from_utf8_lossy(&self.host), self.rule, problem.code());
        tracing::error!(%host, ingressRule = rule, error, cause = chain(problem), "cannot answer a request");
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.connector.metrics.concurrent_requests.dec();
        self.connector.metrics.response(self.status);
        if tracing::enabled!(tracing::Level::DEBUG) {
            let text = String::from_utf8_lossy;
            tracing::debug!(
                method = %text(&self.method), host = %text(&self.host), path = %text(&self.target),
                ingressRule = self.rule, status = self.status, seconds = self.start.elapsed().as_secs_f64(), "response"
            );
        }
    }
}
