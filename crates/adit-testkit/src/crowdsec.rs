//! CrowdSec's local API, as far as a bouncer sees it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// A running API. It ends when it is dropped.
#[derive(Debug)]
pub struct Crowdsec {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct State {
    key: String,
    all: Vec<Value>,
    new: Vec<Value>,
    deleted: Vec<Value>,
}

impl Drop for Crowdsec {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Crowdsec {
    /// Starts one that wants this key.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(key: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { key: key.to_owned(), ..State::default() }));
        let shared = state.clone();
        let serving = async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer(&request, &shared);
                    async move { Ok::<_, Infallible>(answer) }
                });
                connections.spawn(async move {
                    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                });
            }
        };
        Self { address, state, task: tokio::spawn(serving).abort_handle() }
    }

    /// Bans an address or a network.
    ///
    /// # Panics
    /// When a request broke it.
    pub fn decide(&self, value: &str, duration: &str) {
        let scope = if value.contains('/') { "Range" } else { "Ip" };
        let decision = json!({ "id": 1, "origin": "cscli", "type": "ban", "scope": scope, "value": value, "duration": duration, "scenario": "test" });
        let mut state = self.state.lock().unwrap();
        state.all.push(decision.clone());
        state.new.push(decision);
    }

    /// Lifts it.
    ///
    /// # Panics
    /// When a request broke it.
    pub fn lift(&self, value: &str) {
        let mut state = self.state.lock().unwrap();
        let (gone, kept) = state.all.drain(..).partition(|decision| decision["value"] == value);
        state.all = kept;
        state.deleted.extend(gone);
    }
}

fn answer(request: &Request<Incoming>, state: &Mutex<State>) -> Response<Full<Bytes>> {
    let mut state = state.lock().unwrap();
    let mut response = Response::new(Full::new(Bytes::new()));
    if request.headers().get("x-api-key").is_none_or(|key| key.as_bytes() != state.key.as_bytes()) {
        *response.status_mut() = StatusCode::FORBIDDEN;
        return response;
    }
    let everything = request.uri().query() == Some("startup=true");
    let (new, deleted) = (std::mem::take(&mut state.new), std::mem::take(&mut state.deleted));
    let stream = match (request.uri().path(), everything) {
        ("/v1/decisions/stream", true) => json!({ "new": state.all, "deleted": null }),
        ("/v1/decisions/stream", false) => json!({ "new": new, "deleted": deleted }),
        _ => {
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
    };
    *response.body_mut() = Full::new(stream.to_string().into());
    response
}
