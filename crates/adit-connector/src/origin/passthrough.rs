//! TLS that the edge does not end: the origin ends it, or this connector with a certificate of its own. Either way the edge
//! carries bytes that it cannot read.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use adit_http::proxy_protocol;
use adit_http::relay::both;
use adit_policy::ingress::{Service, TlsEnd};
use adit_tunnel::connector::{RequestBody, StreamRequest};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::connect::{connect_any, resolve};
use super::tcp::{Visitor, accept, carry, visitor_of};
use super::{Origin, OriginError, connect};
use crate::given::{ALPN_PROOF, Given};
use crate::idle::Idle;
use crate::rescue::Problem;
use crate::serve::{Answer, TcpSession};

/// The certificate that this connector ends TLS with, as it was when its file was last changed.
#[derive(Default)]
pub(super) struct OwnCertificate(Option<(SystemTime, Arc<ServerConfig>)>);

/// Whether a service of this kind can be given TLS.
pub(crate) fn takes(service: &Service) -> bool {
    matches!(service, Service::Http { .. } | Service::Unix { .. })
}

/// Opens the service and carries bytes until both sides have ended.
///
/// # Errors
/// [`Problem`]; the head may be out already.
pub(crate) async fn passthrough(
    origin: &Rc<Origin>,
    given: Option<&Given>,
    request: &StreamRequest,
    body: &mut RequestBody,
    answer: &mut Answer,
    session: TcpSession,
) -> Result<(), Problem> {
    match (ended_with(origin, given)?, &origin.service) {
        (Some(config), _) => {
            let visitor = accept(request, body, answer).await?;
            answer.go_on_with(end_tls(origin.clone(), config, visitor, answer.idle.clone(), session));
        }
        (None, Service::Http { tls: true, host, port, .. }) => {
            let addresses = resolve(origin, host, *port).await?;
            let stream = connect_any(&origin.settings, &origin.service.to_string(), &addresses).await?;
            let stream = announced(origin, request, stream).await?;
            let visitor: Visitor = accept(request, body, answer).await?;
            answer.go_on_with(carry(answer.idle.watch(stream), visitor, session));
        }
        _ => return Err(OriginError::NoCertificate(origin.service.to_string()).into()),
    }
    Ok(())
}

/// Ends TLS, and carries what is in it. Whoever only asks for a proof has seen it then, whether the origin is there or not.
async fn end_tls(
    origin: Rc<Origin>,
    config: Arc<ServerConfig>,
    visitor: Visitor,
    idle: Idle,
    _session: TcpSession,
) -> Result<(), Problem> {
    let handshake = timeout(origin.settings.tls_timeout, TlsAcceptor::from(config).accept(visitor)).await;
    // A visitor who does not like the certificate is no failure of ours.
    let Ok(Ok(visitor)) = handshake else { return Err(Problem::Cancelled) };
    if visitor.get_ref().1.alpn_protocol() == Some(ALPN_PROOF) {
        return Ok(());
    }
    let route = connect::connect(&origin, None).await?;
    both(idle.watch(route.io), visitor).await.map(drop).map_err(Problem::of_relay)
}

/// What TLS is ended with here, if it is.
fn ended_with(origin: &Origin, given: Option<&Given>) -> Result<Option<Arc<ServerConfig>>, OriginError> {
    match &origin.settings.tls_end {
        None => Ok(None),
        Some(TlsEnd::Acme) => Ok(given.map(Given::config)),
        Some(TlsEnd::Files { certificate, key }) => own_certificate(origin, certificate, key).map(Some),
    }
}

/// Tells the origin whose connection it is, if it wants to know.
async fn announced(
    origin: &Origin,
    request: &StreamRequest,
    mut stream: TcpStream,
) -> Result<TcpStream, OriginError> {
    let service = stream.peer_addr().map_err(OriginError::Broken)?;
    let header = proxy_protocol::header(origin.settings.proxy_protocol, visitor_of(request), service);
    stream.write_all(&header).await.map_err(OriginError::Broken)?;
    Ok(stream)
}

/// The rule's certificate, read anew when its file has changed. A bad file keeps the last good one.
fn own_certificate(
    origin: &Origin,
    certificate: &Path,
    key: &Path,
) -> Result<Arc<ServerConfig>, OriginError> {
    let changed = std::fs::metadata(certificate).and_then(|metadata| metadata.modified());
    let mut own = origin.certificate.borrow_mut();
    if let (Some((read, config)), Ok(changed)) = (&own.0, &changed)
        && read == changed
    {
        return Ok(config.clone());
    }
    match load(certificate, key) {
        Ok(config) => {
            let config = Arc::new(config);
            own.0 = changed.ok().map(|changed| (changed, config.clone()));
            Ok(config)
        }
        Err(error) => match &own.0 {
            Some((_, last)) => {
                tracing::error!(error, "certificate not reloaded; the last good one stays in force");
                Ok(last.clone())
            }
            None => Err(OriginError::Certificate(error)),
        },
    }
}

fn load(certificate: &Path, key: &Path) -> Result<ServerConfig, String> {
    let bad = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate).map_err(|error| bad(certificate, &error))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|error| bad(certificate, &error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|_| bad(key, &"no private key in it"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| bad(certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| bad(certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
