//! A site's own release pipeline purges what is kept of it: a call to the site's name, signed with the secret of the tunnel that
//! serves it. It reaches what is kept of that tunnel, and nothing else.
//!
//! `POST /.well-known/adit/purge` with `Adit-Signature: t=UNIX,v1=HEX`, where HEX is HMAC-SHA-256 of `UNIX.HOST.BODY`.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use adit_cache::Purge;
use aws_lc_rs::hmac;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use http_body_util::{BodyExt as _, Limited};

use crate::Edge;
use crate::body::RequestBody;
use crate::limit::Admitted;
use crate::rescue::Problem;

/// Where it is called.
pub const PATH: &str = "/.well-known/adit/purge";
/// The field of the signature.
pub const SIGNATURE: &str = "adit-signature";
/// Clocks may differ by so much; an older call cannot be repeated.
const SKEW: Duration = Duration::from_secs(300);
/// Bytes of the URL, name or tag of a call: many calls are remembered, and no URL that is asked for is longer.
const TEXT_MAX: usize = 8 * 1024;
/// Bytes of a call.
const BODY_MAX: usize = 64 * 1024;

/// The value of the signature field for a call.
#[must_use]
pub fn sign(secret: &[u8], unix: u64, host: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &message(unix, host, body));
    let mut value = format!("t={unix},v1=");
    for byte in tag.as_ref() {
        // Writing to a text cannot fail.
        write!(value, "{byte:02x}").unwrap_or_default();
    }
    value
}

fn message(unix: u64, host: &str, body: &[u8]) -> Vec<u8> {
    [unix.to_string().as_bytes(), b".", host.as_bytes(), b".", body].concat()
}

/// Whether a request is such a call, and there is something to purge.
pub(crate) fn is_call(edge: &Edge, head: &Parts) -> bool {
    edge.cache.is_some() && head.method == Method::POST && head.uri.path() == PATH
}

/// Answers a call.
///
/// # Errors
/// [`Problem::NotSigned`] for a wrong signature, [`Problem::TooLarge`] and [`Problem::BadRequest`] for what is no call,
/// [`Problem::NotRemembered`] when the disk does not take it.
pub(crate) async fn answer(
    admitted: &Admitted,
    head: &Parts,
    body: RequestBody,
) -> Result<Response<Bytes>, Problem> {
    let body = Limited::new(body, BODY_MAX).collect().await.map_err(|_| Problem::TooLarge)?.to_bytes();
    let now = SystemTime::now();
    let tunnel = admitted.view().snapshot.tunnel(admitted.route().tunnel).ok_or(Problem::NotSigned)?;
    let unix = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let signed = signature(&head.headers).is_some_and(|(at, tag)| {
        let message = message(at, admitted.host().as_str(), &body);
        let made =
            |secret: &[u8]| hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), &message, &tag).is_ok();
        unix.abs_diff(at) <= SKEW.as_secs() && tunnel.secret.any(unix, made)
    });
    if !signed {
        return Err(Problem::NotSigned);
    }
    let purge: Purge = serde_json::from_slice(&body).map_err(|_| Problem::BadRequest)?;
    if purge.what.text().len() > TEXT_MAX {
        return Err(Problem::BadRequest);
    }
    let purge = Purge { tunnel: Some(tunnel.id.to_string()), ..purge };
    let store = admitted.request().edge().cache.as_ref().ok_or(Problem::NotRemembered)?;
    store.purge(purge.clone(), now).map_err(|error| {
        tracing::error!(%error, "a purge cannot be remembered");
        Problem::NotRemembered
    })?;
    tracing::info!(tunnel = tunnel.name, ?purge, "purged by its own site");
    let mut response = Response::new(Bytes::from_static(b"{\"purged\":true}\n"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Time and tag of the signature field.
fn signature(headers: &HeaderMap) -> Option<(u64, Vec<u8>)> {
    let text = headers.get(SIGNATURE)?.to_str().ok()?;
    let mut pairs = text.split(',').filter_map(|pair| pair.trim().split_once('='));
    let mut value = |wanted: &str| pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let (at, tag) = (value("t")?.parse().ok()?, value("v1")?);
    let digits = tag.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    Some((at, digits.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_read_as_it_is_written() {
        let value = sign(b"secret", 17, "a.example", b"{}");
        let headers =
            [(http::HeaderName::from_static(SIGNATURE), value.parse().unwrap())].into_iter().collect();
        let (at, tag) = signature(&headers).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        assert_eq!(at, 17);
        assert!(hmac::verify(&key, &message(17, "a.example", b"{}"), &tag).is_ok());
        assert!(hmac::verify(&key, &message(17, "b.example", b"{}"), &tag).is_err());
        for nonsense in ["", "t=1", "v1=00", "t=x,v1=00", "t=1,v1=0", "t=1,v1=zz"] {
            let headers =
                [(http::HeaderName::from_static(SIGNATURE), nonsense.parse().unwrap())].into_iter().collect();
            assert!(signature(&headers).is_none(), "{nonsense}");
        }
    }
}
