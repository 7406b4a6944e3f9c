//! The end of an HTTP/2 connection whose visitor abuses it: GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, section 7), which the
//! library cannot say by itself.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a frame's header.
const HEADER: usize = 9;

/// GOAWAY on stream 0: the last stream that was taken is not known here, so all may have been; ENHANCE_YOUR_CALM.
const GOAWAY: [u8; HEADER + 8] = [0, 0, 8, 0x7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0xb];

/// Follows frames as they are written, to know where one ends.
#[derive(Debug, Default)]
struct Boundary {
    header: [u8; HEADER],
    have: usize,
    /// Bytes of the present frame that are still to come.
    left: usize,
}

impl Boundary {
    fn follow(&mut self, mut bytes: &[u8]) {
        while let Some(byte) = bytes.first() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            if let Some(slot) = self.header.get_mut(self.have) {
                *slot = *byte;
            }
            self.have += 1;
            bytes = bytes.get(1..).unwrap_or_default();
            if self.have == HEADER {
                let [high, middle, low, ..] = self.header;
                self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.have = 0;
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.have == 0 && self.left == 0
    }
}

/// A connection that can be ended with that word.
#[derive(Debug)]
pub(crate) struct Calming<IO> {
    io: IO,
    boundary: Boundary,
    asked: Rc<Cell<bool>>,
    said: usize,
}

impl<IO> Calming<IO> {
    /// The connection, and the switch that ends it: from then on nothing is read from it, and what is written is lost.
    pub(crate) fn new(io: IO) -> (Self, Rc<Cell<bool>>) {
        let asked = Rc::new(Cell::new(false));
        (Self { io, boundary: Boundary::default(), asked: asked.clone(), said: 0 }, asked)
    }
}

impl<IO: AsyncWrite + Unpin> Calming<IO> {
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = GOAWAY.get(self.said..).filter(|rest| !rest.is_empty()) {
            self.said += ready!(Pin::new(&mut self.io).poll_write(cx, rest))?.max(1);
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Calming<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.asked.get() {
            // What is left unread when a socket is closed makes the peer lose our last word.
            let mut space = [0; 4096];
            let mut unheard = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut unheard))?;
            if unheard.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Calming<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.asked.get() && self.boundary.is_between_frames() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.boundary.follow(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.asked.get() && self.boundary.is_between_frames() {
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, parts))?;
        let mut left = written;
        for part in parts {
            let taken = left.min(part.len());
            self.boundary.follow(part.get(..taken).unwrap_or_default());
            left -= taken;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.asked.get() && self.boundary.is_between_frames() {
            return self.poll_goodbye(cx);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn frame(length: usize) -> Vec<u8> {
        let mut frame = vec![0, (length >> 8) as u8, length as u8, 0, 0, 0, 0, 0, 1];
        frame.extend(std::iter::repeat_n(7, length));
        frame
    }

    #[test]
    fn the_end_of_a_frame_is_found_however_it_is_cut() {
        let frames = [frame(5), frame(0), frame(300)].concat();
        for cut in 1..40 {
            let mut boundary = Boundary::default();
            for part in frames.chunks(cut) {
                boundary.follow(part);
            }
            assert!(boundary.is_between_frames(), "cut at {cut}");
            boundary.follow(&frames[..10]);
            assert!(!boundary.is_between_frames());
        }
    }

    #[tokio::test]
    async fn the_last_word_comes_after_a_whole_frame() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (mut stream, asked) = Calming::new(near);
        let whole = frame(20);
        stream.write_all(&whole[..12]).await.unwrap();
        asked.set(true);
        stream.flush().await.unwrap();
        stream.write_all(&whole[12..]).await.unwrap();
        stream.write_all(&frame(3)).await.unwrap();
        stream.flush().await.unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, [&whole[..], &GOAWAY].concat());
    }
}
