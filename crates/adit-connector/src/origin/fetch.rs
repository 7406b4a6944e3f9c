//! Requests of our own: health checks, keys of token issuers, quick tunnels. One connection each, small answers.

use std::time::Duration;

use adit_http::answer;
use adit_http::answer::body::{BodyReader, Piece};
use adit_policy::ingress::{OriginRequest, Service};
use adit_tunnel::connector::StreamRequest;
use adit_wire::connect::StreamKind;
use adit_wire::fields::Fields;
use bytes::{Bytes, BytesMut};
use http::Uri;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::connect::{connect, connect_any, resolve};
use super::head::{self, BodyHead};
use super::http1::server_name;
use super::{Origin, OriginError, http2};
use crate::rescue::chain;

/// Bytes of a body.
const BODY_MAX: usize = 256 * 1024;

/// Time for one request.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer, whole.
struct Fetched {
    status: u16,
    body: Bytes,
}

/// Checks an origin: the status of its answer to GET; 200 when it was only connected to.
///
/// # Errors
/// [`OriginError`] when it cannot be reached, or its answer is malformed.
pub(crate) async fn check(origin: &Origin, path: Option<&str>) -> Result<u16, OriginError> {
    match (path, &origin.service) {
        (Some(path), Service::Http { .. } | Service::Unix { .. }) if origin.settings.http2_origin => {
            http2::check(origin, &request(origin, "GET", path)).await
        }
        (Some(path), Service::Http { .. } | Service::Unix { .. }) => {
            Ok(fetch(origin, "GET", path).await?.status)
        }
        (_, Service::Tcp { host, port: Some(port), .. }) => {
            let addresses = resolve(origin, host, *port).await?;
            connect_any(&origin.settings, &origin.service.to_string(), &addresses).await.map(|_| 200)
        }
        _ => connect(origin, server_name(origin, &request(origin, "GET", "/")).as_deref()).await.map(|_| 200),
    }
}

/// JSON from a URL: status and value.
///
/// # Errors
/// In words, with the URL.
pub(crate) async fn json<T: for<'de> Deserialize<'de>>(
    method: &'static str,
    url: &str,
    settings: &OriginRequest,
) -> Result<(u16, T), String> {
    let wrong = |cause: String| format!("{url}: {cause}");
    let uri: Uri = url.parse().map_err(|_| wrong("not a URL".to_owned()))?;
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
    let service = Service::parse(&format!("{scheme}://{}", authority.map_or("", |host| host.as_str())));
    let service = service.map_err(|error| wrong(error.to_string()))?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let origin = Origin::new(&service, settings);
    let fetched = timeout(PATIENCE, fetch(&origin, method, target)).await;
    let fetched = fetched.map_err(|_| wrong(format!("no answer within {PATIENCE:?}")))?;
    let fetched = fetched.map_err(|error| wrong(chain(&error)))?;
    let value = serde_json::from_slice(&fetched.body)
        .map_err(|error| wrong(format!("the answer ({}) is not as expected: {error}", fetched.status)))?;
    Ok((fetched.status, value))
}

/// A request without a body, on HTTP/1.1.
async fn fetch(origin: &Origin, method: &'static str, target: &str) -> Result<Fetched, OriginError> {
    let request = request(origin, method, target);
    let mut route = connect(origin, server_name(origin, &request).as_deref()).await?;
    let mut buffer = BytesMut::new();
    head::write(&mut buffer, &request, &origin.settings, BodyHead::AsAnnounced, route.forward.as_ref())?;
    route.io.write_all(&buffer).await.map_err(OriginError::Broken)?;
    route.io.flush().await.map_err(OriginError::Broken)?;
    buffer.clear();
    let head = loop {
        match answer::take(&mut buffer, method.as_bytes())? {
            Some(head) if head.status >= 200 => break head,
            Some(_) => {}
            None if more(&mut route.io, &mut buffer).await? == 0 => return Err(OriginError::Closed),
            None => {}
        }
    };
    let mut reader = BodyReader::new(head.framing);
    let mut body = BytesMut::new();
    loop {
        match reader.take(&mut buffer)? {
            Piece::Data(data) if body.len() + data.len() <= BODY_MAX => body.extend_from_slice(&data),
            Piece::Data(_) => return Err(OriginError::Request("the answer is too long")),
            Piece::Trailers(_) => {}
            Piece::End => break,
            Piece::NeedMore => match more(&mut route.io, &mut buffer).await? {
                0 if reader.ends_with_connection() => break,
                0 => return Err(OriginError::Closed),
                _ => {}
            },
        }
    }
    Ok(Fetched { status: head.status, body: body.freeze() })
}

async fn more(io: &mut super::io::Io, buffer: &mut BytesMut) -> Result<usize, OriginError> {
    io.read_buf(buffer).await.map_err(OriginError::Broken)
}

fn request(origin: &Origin, method: &'static str, target: &str) -> StreamRequest {
    let host = match &origin.service {
        Service::Http { authority, .. } => authority.clone(),
        _ => "localhost".to_owned(),
    };
    let agent = concat!("adit/", env!("CARGO_PKG_VERSION"));
    StreamRequest {
        kind: StreamKind::Http,
        method: Bytes::from_static(method.as_bytes()),
        host: host.into(),
        target: Bytes::copy_from_slice(target.as_bytes()),
        fields: Fields::from_texts(&[("User-Agent", agent), ("Accept", "*/*")]),
        has_body: false,
    }
}
