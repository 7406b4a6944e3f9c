//! HTTP/1.1 by hand.

use std::io;
use std::time::Duration;

use adit_testkit::Visitor;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::Reply;
use crate::case::After;
use crate::scene::ARRIVES;

/// Without TLS.
pub(super) async fn plain(
    visitor: &Visitor,
    bytes: &[u8],
    after: After,
    patience: Duration,
) -> io::Result<Reply> {
    let stream = visitor.dial().await?;
    stream.set_nodelay(true)?;
    if after == After::Dies {
        stream.set_zero_linger()?;
    }
    exchange(stream, bytes, after, patience).await
}

/// With TLS.
pub(super) async fn tls(
    visitor: &Visitor,
    name: &str,
    bytes: &[u8],
    after: After,
    patience: Duration,
) -> io::Result<Reply> {
    let stream = visitor.raw(name).await?;
    if after == After::Dies {
        stream.get_ref().0.set_zero_linger()?;
    }
    exchange(stream, bytes, after, patience).await
}

async fn exchange<S>(mut stream: S, bytes: &[u8], after: After, patience: Duration) -> io::Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(bytes).await?;
    stream.flush().await?;
    match after {
        After::Dies => {
            // Whatever was sent has arrived before the connection is reset: on loopback, a reset drops what is unread.
            let mut byte = [0];
            drop(timeout(ARRIVES, stream.read(&mut byte)).await);
            return Ok(Reply { ended: "left".to_owned(), ..Reply::default() });
        }
        // Who refuses early may have closed already.
        After::Closes => drop(stream.shutdown().await),
        After::Waits => {}
    }
    let mut received = Vec::new();
    let ended = loop {
        if let Some(reply) = whole(&received, bytes.starts_with(b"HEAD ")) {
            return Ok(reply);
        }
        match timeout(patience, stream.read_buf(&mut received)).await {
            Ok(Ok(0)) => break "closed".to_owned(),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => break error.to_string(),
            Err(_) => break "silence".to_owned(),
        }
    };
    let status = status(&received).filter(|status| *status >= 200);
    Ok(Reply { status, body: received, ended })
}

fn status(bytes: &[u8]) -> Option<u16> {
    std::str::from_utf8(bytes.get(9..12)?).ok()?.parse().ok()
}

/// The final answer, once it is complete; interim ones before it are passed over.
fn whole(mut bytes: &[u8], to_head: bool) -> Option<Reply> {
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let (head, rest) = bytes.split_at(end);
        let status = status(head)?;
        if (100..200).contains(&status) && status != 101 {
            bytes = rest;
            continue;
        }
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        let length = field("content-length:").and_then(|length| length.parse::<usize>().ok());
        let chunked = field("transfer-encoding:").is_some();
        let body = match length {
            _ if to_head || matches!(status, 101 | 204 | 304) => Vec::new(),
            Some(length) => rest.get(..length)?.to_vec(),
            None if chunked => rest.ends_with(b"0\r\n\r\n").then(|| rest.to_vec())?,
            None => return None,
        };
        return Some(Reply { status: Some(status), body, ended: "answered".to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_to_its_end() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        for end in 0..bytes.len() {
            assert!(whole(&bytes[..end], false).is_none(), "{end}");
        }
        let reply = whole(bytes, false).unwrap();
        assert_eq!((reply.status, &reply.body[..]), (Some(200), &b"ok"[..]));
        assert!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true).is_some());
    }
}
