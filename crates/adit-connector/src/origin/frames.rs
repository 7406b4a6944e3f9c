//! HTTP/2 frames of an origin without the empty ones. An empty DATA frame that ends nothing means nothing, but the library
//! closes the connection at the hundredth, and origins that are made with hyper send one for each empty piece of a body.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf, ReadHalf, WriteHalf, join, split};
use tokio_util::io::poll_read_buf;

/// Bytes of a frame's head (RFC 9113, section 4.1).
const HEAD: usize = 9;
/// Type of a DATA frame.
const DATA: u8 = 0;
/// Flag of the last frame.
const END_STREAM: u8 = 1;
/// Room for one read.
const READ: usize = 16 * 1024;

/// A connection whose empty DATA frames are left out as it is read.
pub(super) fn without_empty<S: AsyncRead + AsyncWrite>(
    stream: S,
) -> Join<WithoutEmpty<ReadHalf<S>>, WriteHalf<S>> {
    let (read, write) = split(stream);
    join(WithoutEmpty::new(read), write)
}

/// The frames that are read, without the empty ones.
pub(super) struct WithoutEmpty<S> {
    stream: S,
    buffer: BytesMut,
    /// Bytes of the present frame that are still to be passed on.
    left: usize,
}

impl<S> WithoutEmpty<S> {
    fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new(), left: 0 }
    }

    /// Skips empty frames, and finds the length of the next one. Whether there is one.
    fn next_frame(&mut self) -> bool {
        while let Some([high, middle, low, kind, flags, ..]) = self.buffer.get(..HEAD) {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if length > 0 || *kind != DATA || flags & END_STREAM != 0 {
                self.left = HEAD + length;
                return true;
            }
            self.buffer.advance(HEAD);
        }
        false
    }

    fn pass_on(&mut self, out: &mut ReadBuf<'_>) {
        let part = self.left.min(self.buffer.len()).min(out.remaining());
        out.put_slice(&self.buffer.split_to(part));
        self.left -= part;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WithoutEmpty<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        loop {
            while out.remaining() > 0 && !this.buffer.is_empty() && (this.left > 0 || this.next_frame()) {
                this.pass_on(out);
            }
            if out.filled().len() > before || out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            this.buffer.reserve(READ);
            if ready!(poll_read_buf(Pin::new(&mut this.stream), cx, &mut this.buffer))? == 0 {
                // Half a head at the end: the library says what is wrong with it.
                this.left = this.buffer.len();
                this.pass_on(out);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio_test::io::Builder;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[tokio::test]
    async fn only_empty_data_that_ends_nothing_is_left_out() {
        let empty = frame(DATA, 0, b"");
        let kept = [
            frame(4, 0, b""),
            frame(DATA, 0, b"some bytes"),
            frame(DATA, END_STREAM, b""),
            frame(6, 0, b"pingping"),
        ];
        let mut sent = Vec::new();
        for frame in &kept {
            sent.extend([empty.clone(), frame.clone(), empty.clone()].concat());
        }
        for size in 1..30 {
            let mut reads = Builder::new();
            for part in sent.chunks(size) {
                reads.read(part);
            }
            let mut heard = Vec::new();
            WithoutEmpty::new(reads.build()).read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, kept.concat(), "in reads of {size}");
        }
    }

    /// Bytes that are no frames are the library's business: they pass, but for what looks like an empty frame.
    #[tokio::test]
    async fn any_bytes_get_through_or_are_left_out() {
        let mut state = 1_u32;
        for length in 0..400 {
            let mut bytes = vec![0; length];
            for byte in &mut bytes {
                state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                // Mostly zeros: short lengths, DATA, no flags.
                *byte = if state >> 30 == 0 { (state >> 16) as u8 } else { 0 };
            }
            let mut heard = Vec::new();
            WithoutEmpty::new(&bytes[..]).read_to_end(&mut heard).await.unwrap();
            assert!(
                heard.len() <= length && (length - heard.len()) % HEAD == 0,
                "{length} to {}",
                heard.len()
            );
        }
    }
}
