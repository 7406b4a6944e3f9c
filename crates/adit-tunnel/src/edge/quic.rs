//! One request on one bidirectional QUIC stream.

use adit_wire::connect::{ConnectResponse, Entry, StreamKind, decode_response_stream, encode_request};
use adit_wire::features::Extensions;
use adit_wire::names;
use adit_wire::preamble::WINDOWS_PREAMBLE;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, header};
use http_body::Body;
use quinn::{RecvStream, SendStream};
use tokio::io::AsyncReadExt as _;

use super::body::{ResponseBody, Upload};
use super::pump::pump;
use super::{InFlight, InterimSink, RequestHead};
use crate::SendError;
use crate::framing::{BodyWriter, QuicWriter, pairs};
use crate::limits::{HEAD_BYTES_MAX, HEAD_READ, INTERIMS_MAX};
use crate::window::{Outflow, Windows};

/// Sends the head, pumps the body and waits for the head of the answer.
pub(super) async fn send<B>(
    connection: &quinn::Connection,
    head: RequestHead<'_>,
    body: &mut Option<B>,
    guard: InFlight,
) -> Result<Response<ResponseBody>, SendError>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    let (send, mut recv) = open(connection, &guard).await?;
    let mut send = QuicWriter::new(send);
    let framed = is_framed(&head, body.is_some(), guard.extensions());
    let encoded = encode(&head, body.is_some(), framed).freeze();
    send.chunk(encoded).await.map_err(|_| SendError::NotSent)?;
    let (answer, rest, upload) = match body.take() {
        Some(body) => {
            let outflow = Outflow::new(guard.windows(), send.stream());
            let sink = BodyWriter::quic(send, framed, outflow);
            with_body(body, sink, &mut recv, (&guard, head.interim)).await?
        }
        None => {
            let upload = without_body(head.kind, send, &guard);
            let (answer, rest) = read_head(&mut recv, (&guard, head.interim)).await?;
            (answer, rest, upload)
        }
    };
    let framed = answer.framed;
    respond(&head, &answer, move |length| ResponseBody::quic(recv, rest, length, framed, upload, guard))
}

/// Opens the stream of window updates and carries them until it ends.
pub(super) async fn carry_windows(connection: &quinn::Connection, windows: Windows) -> Result<(), SendError> {
    let (mut send, recv) = connection.open_bi().await.map_err(|_| SendError::NotSent)?;
    send.write_all(&WINDOWS_PREAMBLE).await.map_err(|_| SendError::NotSent)?;
    windows.run(recv, send).await;
    Ok(())
}

async fn open(
    connection: &quinn::Connection,
    guard: &InFlight,
) -> Result<(SendStream, RecvStream), SendError> {
    tokio::select! {
        biased;
        opened = connection.open_bi() => opened.map_err(|_| SendError::NotSent),
        // At the peer's stream limit we wait; a dead peer must not make us wait for ever.
        () = guard.suspect() => Err(SendError::NotSent),
    }
}

/// A body of unknown length may end in trailers; framing carries them when both ends can.
fn is_framed(head: &RequestHead<'_>, has_body: bool, extensions: Extensions) -> bool {
    has_body
        && extensions.contains(Extensions::TRAILERS)
        && !head.headers.contains_key(header::CONTENT_LENGTH)
}

fn encode(head: &RequestHead<'_>, has_body: bool, framed: bool) -> BytesMut {
    let chunked = has_body && !head.headers.contains_key(header::CONTENT_LENGTH);
    let mut out = BytesMut::new();
    let method = Entry::Meta(names::META_METHOD, head.method.as_str().as_bytes());
    let host = Entry::Meta(names::META_HOST, head.host.as_bytes());
    // cloudflared reads a body of unknown length only if this says so.
    let coding = chunked.then_some(Entry::Header(b"Transfer-Encoding", b"chunked"));
    let framing = framed.then_some(Entry::Meta(names::META_FRAMING, b"1"));
    let entries = || {
        let fields = pairs(head.headers).map(|(name, value)| Entry::Header(name, value));
        [method, host].into_iter().chain(fields).chain(coding).chain(framing)
    };
    let url = [&b"https://"[..], head.host.as_bytes(), head.target.as_bytes()];
    match head.kind {
        StreamKind::Tcp => encode_request(&mut out, head.kind, &[head.host.as_bytes()], || [].into_iter()),
        StreamKind::Http | StreamKind::WebSocket => encode_request(&mut out, head.kind, &url, entries),
    }
    out
}

/// No body: the stream ends here, unless it goes on as bytes both ways.
fn without_body(kind: StreamKind, mut send: QuicWriter, guard: &InFlight) -> Upload {
    if kind != StreamKind::Http {
        let outflow = Outflow::new(guard.windows(), send.stream());
        return Upload::Kept(BodyWriter::quic(send, false, outflow));
    }
    send.finish();
    Upload::Done
}

async fn with_body<B>(
    body: B,
    sink: BodyWriter,
    recv: &mut RecvStream,
    waiting: Waiting<'_>,
) -> Result<(ConnectResponse, Bytes, Upload), SendError>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    let mut pump = Box::pin(pump(body, sink, waiting.0.with_fixed_windows()));
    let mut head = std::pin::pin!(read_head(recv, waiting));
    let mut pumping = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut head => {
                let (answer, rest) = answer?;
                let upload = if pumping { Upload::spawn(pump) } else { Upload::Done };
                return Ok((answer, rest, upload));
            }
            sent = &mut pump, if pumping => {
                sent?;
                pumping = false;
            }
        }
    }
}

/// What goes on while a head is waited for: the count of requests, and where interim heads go.
type Waiting<'a> = (&'a InFlight, Option<&'a dyn InterimSink>);

/// Reads until the final head is complete; interim heads are told.
async fn read_head(
    recv: &mut RecvStream,
    (guard, interim): Waiting<'_>,
) -> Result<(ConnectResponse, Bytes), SendError> {
    let mut told = 0;
    let mut buffer = BytesMut::with_capacity(HEAD_READ);
    loop {
        let read = read_some(recv, &mut buffer, guard).await?;
        if read == 0 {
            return Err(SendError::Reset);
        }
        let mut bytes = buffer.freeze();
        while let Some((answer, used)) = decode(&bytes)? {
            let rest = bytes.split_off(used);
            if !is_interim(&answer) {
                return Ok((answer, rest));
            }
            told += 1;
            if let Some(interim) = interim.filter(|_| told <= INTERIMS_MAX) {
                tell(interim, &answer)?;
            }
            bytes = rest;
        }
        buffer = BytesMut::from(bytes);
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(SendError::Malformed("the head is too long".to_owned()));
        }
    }
}

fn decode(bytes: &Bytes) -> Result<Option<(ConnectResponse, usize)>, SendError> {
    decode_response_stream(bytes).map_err(|error| SendError::Malformed(error.to_string()))
}

fn tell(interim: &dyn InterimSink, answer: &ConnectResponse) -> Result<(), SendError> {
    let status = super::body::final_status(StreamKind::Http, answer.status)?;
    interim.interim(status, headers_of(answer)?);
    Ok(())
}

fn headers_of(answer: &ConnectResponse) -> Result<HeaderMap, SendError> {
    let mut headers = HeaderMap::with_capacity(answer.fields.len() + 4);
    for (name, value) in answer.fields.iter_shared() {
        super::body::append(&mut headers, name, value)?;
    }
    Ok(headers)
}

fn is_interim(answer: &ConnectResponse) -> bool {
    answer.status.is_some_and(|status| (100..200).contains(&status) && status != 101)
}

async fn read_some(
    recv: &mut RecvStream,
    buffer: &mut BytesMut,
    guard: &InFlight,
) -> Result<usize, SendError> {
    buffer.reserve(HEAD_READ);
    tokio::select! {
        biased;
        read = recv.read_buf(buffer) => read.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionReset => SendError::Reset,
            _ => SendError::Lost,
        }),
        () = guard.suspect() => Err(SendError::Lost),
    }
}

/// Builds the response; `body` gets the length that the body must have, if it is known.
fn respond(
    head: &RequestHead<'_>,
    answer: &ConnectResponse,
    body: impl FnOnce(Option<u64>) -> ResponseBody,
) -> Result<Response<ResponseBody>, SendError> {
    if let Some(error) = &answer.error {
        return Err(SendError::Origin(String::from_utf8_lossy(error).into_owned()));
    }
    let status = super::body::final_status(head.kind, answer.status)?;
    let headers = headers_of(answer)?;
    let length = super::body::length(head.method, status, &headers)?;
    let mut response = Response::new(body(length));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}
