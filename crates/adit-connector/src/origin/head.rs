//! The head of a request on HTTP/1.1, written straight from the wire's fields.

use adit_policy::field;
use adit_policy::ingress::OriginRequest;
use adit_tunnel::connector::StreamRequest;
use bytes::{BufMut as _, BytesMut};

use super::OriginError;
use super::proxy::Forward;

/// What the head says of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyHead {
    /// What the request's own fields say: a length, or no body at all.
    AsAnnounced,
    /// The length is not known.
    Chunked,
    /// The length was not announced, but all of the body is here.
    Collected(usize),
    /// A WebSocket's handshake.
    Upgrade,
}

/// Appends a request head.
///
/// # Errors
/// When a part would break the message: the bytes come from another machine.
pub(super) fn write(
    out: &mut BytesMut,
    request: &StreamRequest,
    settings: &OriginRequest,
    body: BodyHead,
    forward: Option<&Forward>,
) -> Result<(), OriginError> {
    let plain = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(|byte| *byte > b' ' && *byte != 0x7F);
    if !plain(&request.method) || !plain(&request.target) || !plain(&request.host) {
        return Err(OriginError::Request("method, target or host has bytes that none has"));
    }
    out.put_slice(&request.method);
    out.put_u8(b' ');
    if let Some(forward) = forward {
        out.put_slice(forward.prefix.as_bytes());
    }
    out.put_slice(&request.target);
    out.put_slice(b" HTTP/1.1\r\n");
    let host = settings.http_host_header.as_ref().map_or(&request.host[..], |host| host.as_bytes());
    put(out, b"Host", host);
    if let Some(authorization) = forward.and_then(|forward| forward.authorization.as_ref()) {
        put(out, b"Proxy-Authorization", authorization.as_bytes());
    }
    for (name, value) in request.fields.iter() {
        if is_dropped(name, request.has_body) {
            continue;
        }
        if !is_token(name) || !is_value(value) {
            return Err(OriginError::Request("a header field has bytes that none has"));
        }
        put(out, name, value);
    }
    match body {
        BodyHead::Upgrade => upgrade(out, request),
        BodyHead::AsAnnounced
            if matches!(&request.method[..], b"POST" | b"PUT" | b"PATCH") && !request.has_body =>
        {
            out.put_slice(b"Content-Length: 0\r\n");
        }
        BodyHead::AsAnnounced => {}
        BodyHead::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyHead::Collected(length) => put(out, b"Content-Length", length.to_string().as_bytes()),
    }
    out.put_slice(b"\r\n");
    Ok(())
}

fn upgrade(out: &mut BytesMut, request: &StreamRequest) {
    out.put_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    if request.fields.get("sec-websocket-version").is_none() {
        out.put_slice(b"Sec-WebSocket-Version: 13\r\n");
    }
}

fn put(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Fields that are this connection's own, whatever the edge sent. A length without a body would leave the origin
/// waiting; [`write`] says zero where the method wants a word. An edge sends no look-alikes; one that does is not to be believed.
fn is_dropped(name: &[u8], has_body: bool) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    let is_own = match name.len() {
        4 => is("host"),
        // Without a body there is nothing to wait for.
        6 => is("expect") && !has_body,
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        14 => is("http2-settings") || (is("content-length") && !has_body),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        _ => false,
    };
    is_own || field::is_lookalike(name)
}

/// Which bytes a token has (RFC 9110, section 5.6.2).
const TOKEN: [bool; 256] = {
    let mut is_token = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        is_token[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let (others, mut at) = (b"!#$%&'*+-.^_`|~", 0);
    while at < others.len() {
        is_token[others[at] as usize] = true;
        at += 1;
    }
    is_token
};

pub(super) fn is_token(name: &[u8]) -> bool {
    let token = |byte: &u8| TOKEN.get(usize::from(*byte)).copied().unwrap_or_default();
    !name.is_empty() && name.iter().all(token)
}

pub(super) fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| (*byte >= b' ' && *byte != 0x7F) || *byte == b'\t')
}
