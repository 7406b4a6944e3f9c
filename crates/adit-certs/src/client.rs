//! HTTPS towards authorities and other services of the operator: bounded in time and in bytes, because they may be broken too.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use adit_http::trust::TrustPool;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::builderstates::{WantsProtocols1, WantsSchemes};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use tokio::time::timeout;

use crate::order::OrderError;

/// Time for one request.
const TIME: Duration = Duration::from_secs(30);
/// Bytes of an authority's answer. A chain of certificates has 6 KB.
const ANSWER_MAX: usize = 256 * 1024;
/// Bytes of another service's answer: a list of a hundred thousand addresses.
const LONG_ANSWER_MAX: usize = 64 * 1024 * 1024;

/// A client that trusts the system's roots, or those of a file.
pub struct Https(Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl std::fmt::Debug for Https {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Https").finish_non_exhaustive()
    }
}

impl Https {
    /// One that refuses to speak without TLS.
    pub(crate) fn new(ca: Option<&Path>) -> Result<Self, OrderError> {
        Self::build(ca, |builder| builder.https_only())
    }

    /// One that speaks HTTP too, for services on the same machine.
    ///
    /// # Errors
    /// When the roots cannot be read.
    pub fn or_http(ca: Option<&Path>) -> Result<Self, String> {
        Self::build(ca, |builder| builder.https_or_http()).map_err(|error| error.to_string())
    }

    /// Sends a request; the answer is its status and its body.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<(StatusCode, Bytes), String> {
        let answer = self.0.request(request.map(BodyWrapper::from));
        let whole = async {
            let (head, body) = answer.await.map_err(|error| causes(&error))?.into_parts();
            let body =
                Limited::new(body, LONG_ANSWER_MAX).collect().await.map_err(|error| error.to_string())?;
            Ok((head.status, body.to_bytes()))
        };
        timeout(TIME, whole).await.unwrap_or_else(|_| Err("no answer in 30 s".to_owned()))
    }

    fn build(
        ca: Option<&Path>,
        schemes: impl FnOnce(HttpsConnectorBuilder<WantsSchemes>) -> HttpsConnectorBuilder<WantsProtocols1>,
    ) -> Result<Self, OrderError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| OrderError::Local(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(trusted(ca)?.server_verifier(provider))
            .with_no_client_auth();
        let builder = HttpsConnectorBuilder::new().with_tls_config(config);
        let connector = schemes(builder).enable_http1().enable_http2().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }
}

fn trusted(ca: Option<&Path>) -> Result<TrustPool, OrderError> {
    let Some(path) = ca else { return Ok(TrustPool::system()) };
    let mut pool = TrustPool::default();
    pool.add_file(path).map_err(OrderError::Local)?;
    Ok(pool)
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let answer = self.0.request(request);
        Box::pin(async move {
            let whole = async {
                let (head, body) = answer.await.map_err(other)?.into_parts();
                let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(Error::Other)?;
                Ok(BytesResponse::from(http::Response::from_parts(head, Full::new(body.to_bytes()))))
            };
            timeout(TIME, whole).await.unwrap_or(Err(Error::Str("no answer in 30 s")))
        })
    }
}

fn other(error: hyper_util::client::legacy::Error) -> Error {
    Error::Other(causes(&error).into())
}

/// The cause is the part that helps.
fn causes(error: &hyper_util::client::legacy::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
