//! A request's head from its fields (RFC 9114, section 4). What could be read in two ways is malformed.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};

use crate::qpack::{self, Field};

/// What an extended CONNECT wants to speak (RFC 9220); an extension of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol(Bytes);

impl Protocol {
    /// Whether it is a WebSocket.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        &self.0[..] == b"websocket"
    }
}

/// Why a head makes no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed request: {0}")]
pub struct HeadError(&'static str);

impl HeadError {
    pub(crate) const TWO_LENGTHS: Self = Self("two different lengths");
}

/// A Content-Length: digits alone.
pub(crate) fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    let digits =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or(HeadError("bad Content-Length"))
}

#[derive(Default)]
struct Pseudo {
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    protocol: Option<Bytes>,
}

impl Pseudo {
    fn set(&mut self, field: &Field) -> Result<(), HeadError> {
        let slot = match &field.name[..] {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            _ => return Err(HeadError("an unknown pseudo-header field")),
        };
        match slot.replace(field.value.clone()) {
            None => Ok(()),
            Some(_) => Err(HeadError("a pseudo-header field twice")),
        }
    }
}

/// Makes a request of the fields.
///
/// # Errors
/// [`HeadError`] for a malformed one (section 4.1.2).
pub fn request(fields: &[Field]) -> Result<Request<()>, HeadError> {
    let regular = fields.iter().take_while(|field| field.name.starts_with(b":")).count();
    let (pseudo_fields, fields) = fields.split_at(regular);
    let mut pseudo = Pseudo::default();
    pseudo_fields.iter().try_for_each(|field| pseudo.set(field))?;
    let headers = headers(fields)?;
    let method = pseudo.method.as_deref().ok_or(HeadError("no :method"))?;
    let method = Method::from_bytes(method).map_err(|_| HeadError("bad :method"))?;
    let protocol = pseudo.protocol.take().map(Protocol);
    if protocol.is_some() && method != Method::CONNECT {
        return Err(HeadError(":protocol without CONNECT"));
    }
    let uri = if method == Method::CONNECT && protocol.is_none() {
        connect_target(pseudo)?
    } else {
        target(pseudo, &headers, &method)?
    };
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_3;
    *request.headers_mut() = headers;
    if let Some(protocol) = protocol {
        request.extensions_mut().insert(protocol);
    }
    Ok(request)
}

/// A plain CONNECT has an authority and nothing else (section 4.4).
fn connect_target(pseudo: Pseudo) -> Result<Uri, HeadError> {
    if pseudo.scheme.is_some() || pseudo.path.is_some() {
        return Err(HeadError("CONNECT with a path"));
    }
    let authority = authority(pseudo.authority.ok_or(HeadError("CONNECT without an authority"))?)?;
    Uri::builder().authority(authority).build().map_err(|_| HeadError("bad :authority"))
}

fn target(pseudo: Pseudo, headers: &HeaderMap, method: &Method) -> Result<Uri, HeadError> {
    let scheme = match pseudo.scheme.as_deref().ok_or(HeadError("no :scheme"))? {
        b"https" => Scheme::HTTPS,
        b"http" => Scheme::HTTP,
        _ => return Err(HeadError("bad :scheme")),
    };
    let path = pseudo.path.ok_or(HeadError("no :path"))?;
    let asterisk = method == Method::OPTIONS && &path[..] == b"*";
    if !path.starts_with(b"/") && !asterisk {
        return Err(HeadError("bad :path"));
    }
    if path.contains(&b'#') {
        return Err(HeadError("a fragment in :path"));
    }
    let path = PathAndQuery::from_maybe_shared(path).map_err(|_| HeadError("bad :path"))?;
    let host = headers.get(header::HOST);
    let named = match (pseudo.authority, host) {
        (Some(named), Some(host)) if !named.eq_ignore_ascii_case(host.as_bytes()) => {
            return Err(HeadError(":authority and Host differ"));
        }
        (Some(named), _) => named,
        (None, Some(host)) => Bytes::copy_from_slice(host.as_bytes()),
        (None, None) => return Err(HeadError("no :authority")),
    };
    let uri = Uri::builder().scheme(scheme).authority(authority(named)?).path_and_query(path);
    uri.build().map_err(|_| HeadError("bad target"))
}

fn authority(bytes: Bytes) -> Result<Authority, HeadError> {
    if bytes.is_empty() || bytes.contains(&b'@') {
        return Err(HeadError("bad :authority"));
    }
    Authority::from_maybe_shared(bytes).map_err(|_| HeadError("bad :authority"))
}

/// The fields of a head, or of trailers.
///
/// # Errors
/// [`HeadError`] for names in upper case, fields of a connection, and what is no field at all.
pub fn headers(fields: &[Field]) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    let mut cookies: Vec<&Bytes> = Vec::new();
    for field in fields {
        // Refuses upper case, pseudo-headers out of place, and everything that is no token.
        let name = HeaderName::from_lowercase(&field.name).map_err(|_| HeadError("bad field name"))?;
        if is_of_connection(&name, &field.value) {
            return Err(HeadError("a field of a connection"));
        }
        if name == header::COOKIE {
            cookies.push(&field.value);
            continue;
        }
        let value = HeaderValue::from_maybe_shared(field.value.clone());
        let value = value.map_err(|_| HeadError("bad field value"))?;
        if name == header::HOST && headers.contains_key(&name) {
            return Err(HeadError("Host twice"));
        }
        headers.append(name, value);
    }
    if !cookies.is_empty() {
        headers.insert(header::COOKIE, cookie(&cookies)?);
    }
    Ok(headers)
}

/// Cookies may come apart; origins want one field (section 4.2.1).
fn cookie(crumbs: &[&Bytes]) -> Result<HeaderValue, HeadError> {
    let mut whole = BytesMut::new();
    for (index, crumb) in crumbs.iter().enumerate() {
        if index > 0 {
            whole.put_slice(b"; ");
        }
        whole.put_slice(crumb);
    }
    HeaderValue::from_maybe_shared(whole.freeze()).map_err(|_| HeadError("bad field value"))
}

/// Fields that HTTP/3 has no use for (section 4.2).
fn is_of_connection(name: &HeaderName, value: &[u8]) -> bool {
    match name.as_str() {
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => true,
        "te" => !value.eq_ignore_ascii_case(b"trailers"),
        _ => false,
    }
}

/// Encodes the head of an answer.
pub(crate) fn encode_response(status: http::StatusCode, headers: &HeaderMap, out: &mut BytesMut) {
    qpack::start(out);
    qpack::put(":status", status.as_str().as_bytes(), out);
    encode_fields(headers, out);
}

/// Encodes fields after a beginning.
pub(crate) fn encode_fields(headers: &HeaderMap, out: &mut BytesMut) {
    for (name, value) in headers {
        if !is_of_connection(name, value.as_bytes()) {
            qpack::put(name.as_str(), value.as_bytes(), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Vec<Field> {
        let field = |(name, value): &(&str, &str)| Field {
            name: Bytes::copy_from_slice(name.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
        };
        pairs.iter().map(field).collect()
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/x?y")];

    fn with(more: &[(&str, &str)]) -> Result<Request<()>, HeadError> {
        request(&fields(&[&GET[..], more].concat()))
    }

    #[test]
    fn a_head_is_a_request() {
        let request = with(&[("accept", "*/*"), ("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")]);
        let request = request.unwrap();
        assert_eq!(request.uri(), "https://a.example/x?y");
        assert_eq!(request.headers()["cookie"], "a=1; b=2");
        assert_eq!(request.headers().len(), 3);
        assert!(with(&[("host", "A.example")]).is_ok());
    }

    #[test]
    fn a_websocket_is_an_extended_connect() {
        let mut pairs = GET;
        pairs[0].1 = "CONNECT";
        let request = request(&fields(&[&pairs[..], &[(":protocol", "websocket")]].concat())).unwrap();
        assert!(request.extensions().get::<Protocol>().unwrap().is_websocket());
    }

    #[test]
    fn ambiguous_heads_are_malformed() {
        for more in [
            &[(":path", "/z")][..],
            &[(":status", "200")],
            &[("accept", "a"), (":method", "GET")],
            &[("host", "b.example")],
            &[("host", "a.example"), ("host", "a.example")],
            &[("Accept", "a")],
            &[("connection", "close")],
            &[("transfer-encoding", "chunked")],
            &[("upgrade", "websocket")],
            &[("te", "gzip")],
            &[("a b", "c")],
            &[("a", "b\r\nc: d")],
            &[("a", "b\0")],
            &[(":protocol", "websocket")],
        ] {
            assert!(with(more).is_err(), "{more:?}");
        }
        for (index, value) in
            [(0, "G T"), (1, "ftp"), (2, "u@a.example"), (2, ""), (3, "x"), (3, ""), (3, "/a#b"), (3, "*")]
        {
            let mut pairs = GET;
            pairs[index].1 = value;
            assert!(request(&fields(&pairs)).is_err(), "{pairs:?}");
        }
        for missing in 0..4 {
            let mut pairs = GET.to_vec();
            pairs.remove(missing);
            assert!(request(&fields(&pairs)).is_err(), "{pairs:?}");
        }
    }
}
