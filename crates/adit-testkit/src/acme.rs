//! A certificate authority that has what Debian's pebble has not: profiles and renewal windows (RFC 9773). It believes
//! everybody, signs what it is asked to, and can be told to be broken.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::pki::Authority;

/// The authority, on a thread of its own. It ends with the test's process.
#[derive(Debug)]
pub struct Acme {
    /// Its directory.
    pub directory: String,
    /// What its own HTTPS is checked with.
    pub authority: Authority,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    issuer: CertifiedIssuer<'static, KeyPair>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The orders that were made, as they were asked for.
    orders: Vec<Value>,
    chain: String,
    /// A window that is open already, so that a new certificate is wanted at once.
    renew_now: bool,
    /// Every request is refused with this type of problem.
    broken: Option<&'static str>,
}

impl Acme {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start() -> Self {
        let authority = Authority::new();
        let pair = authority.server(&["localhost"]);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let shared = Arc::new(Shared { address, issuer, state: Mutex::default() });
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let chain = vec![CertificateDer::from_pem_file(&pair.certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let serving = shared.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let run = async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(shared.clone(), request));
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        };
        std::thread::spawn(move || runtime.block_on(run));
        Self { directory: format!("https://localhost:{}/directory", address.port()), authority, shared }
    }

    /// The orders that were made, as they were asked for.
    #[must_use]
    pub fn orders(&self) -> Vec<Value> {
        self.shared.state().orders.clone()
    }

    /// Opens the window for renewal of what it has given.
    pub fn wants_renewal(&self) {
        self.shared.state().renew_now = true;
    }

    /// Refuses every request from now on with a type of problem, such as `rateLimited`.
    pub fn refuses_with(&self, problem: &'static str) {
        self.shared.state().broken = Some(problem);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    fn order(&self, status: &str, identifiers: &Value, replaces: &Value) -> Value {
        let mut order = json!({
            "status": status, "identifiers": identifiers, "authorizations": [self.url("/authorization")],
            "finalize": self.url("/finalize"), "certificate": self.url("/certificate"),
        });
        if !replaces.is_null() {
            order["replaces"] = replaces.clone();
        }
        order
    }

    fn sign(&self, request: &str) -> String {
        let der = CertificateSigningRequestDer::from(URL_SAFE_NO_PAD.decode(request).unwrap());
        let mut request = CertificateSigningRequestParams::from_der(&der).unwrap();
        request.params.use_authority_key_identifier_extension = true;
        request.signed_by(&self.issuer).unwrap().pem() + &self.issuer.pem()
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    // Whether the signature is good is not this authority's concern.
    let signed: Value = serde_json::from_slice(&body).unwrap_or_default();
    let payload =
        signed["payload"].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).unwrap_or_default();
    let payload: Value = serde_json::from_slice(&payload).unwrap_or_default();
    if let Some(problem) = shared.state().broken {
        let problem = json!({ "type": format!("urn:ietf:params:acme:error:{problem}"), "detail": "not now", "status": 429 });
        return Ok(with_nonce(
            Response::builder().status(StatusCode::TOO_MANY_REQUESTS),
            problem.to_string(),
        ));
    }
    Ok(reply(&shared, &path, &payload))
}

fn reply(shared: &Shared, path: &str, payload: &Value) -> Response<Full<Bytes>> {
    let mut state = shared.state();
    let last = state.orders.last().cloned().unwrap_or_default();
    let order = |status| shared.order(status, &last["identifiers"], &last["replaces"]).to_string();
    let ok = Response::builder;
    match path {
        "/directory" => with_nonce(ok(), json!({
            "newNonce": shared.url("/nonce"), "newAccount": shared.url("/account"), "newOrder": shared.url("/order"),
            "revokeCert": shared.url("/revoke"), "keyChange": shared.url("/key"), "renewalInfo": shared.url("/renewal"),
            "meta": { "profiles": { "classic": "90 days", "shortlived": "6 days" } },
        }).to_string()),
        "/account" => with_nonce(
            ok().status(StatusCode::CREATED).header("location", shared.url("/account/1")),
            json!({ "status": "valid" }).to_string(),
        ),
        "/order" => {
            state.orders.push(payload.clone());
            state.renew_now = false;
            let order = shared.order("ready", &payload["identifiers"], &payload["replaces"]);
            with_nonce(ok().status(StatusCode::CREATED).header("location", shared.url("/order/1")), order.to_string())
        }
        "/order/1" => with_nonce(ok(), order(if state.chain.is_empty() { "ready" } else { "valid" })),
        "/authorization" => {
            let identifier = &last["identifiers"][0];
            with_nonce(ok(), json!({ "status": "valid", "identifier": identifier, "challenges": [] }).to_string())
        }
        "/finalize" => {
            state.chain = shared.sign(payload["csr"].as_str().unwrap_or_default());
            with_nonce(ok(), order("valid"))
        }
        "/certificate" => with_nonce(ok(), std::mem::take(&mut state.chain)),
        path if path.starts_with("/renewal/") => {
            let (start, end) = if state.renew_now { ("2020-01-01", "2020-01-02") } else { ("2090-01-01", "2090-01-02") };
            let window = json!({ "start": format!("{start}T00:00:00Z"), "end": format!("{end}T00:00:00Z") });
            with_nonce(ok().header("retry-after", "60"), json!({ "suggestedWindow": window }).to_string())
        }
        _ => with_nonce(ok(), String::new()),
    }
}

fn with_nonce(builder: http::response::Builder, body: String) -> Response<Full<Bytes>> {
    builder.header("replay-nonce", "bm9uY2U").body(Full::new(Bytes::from(body))).unwrap()
}
