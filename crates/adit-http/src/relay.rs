//! Bytes from one stream to another without a buffer of their own: ten thousand idle connections cost no buffers, because
//! all of a thread's reads share one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::ready;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, split};

/// Bytes of one read.
const READ: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// The next bytes; none at the end. What waits holds no memory.
///
/// # Errors
/// The stream's.
pub async fn read_some(read: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut room = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *read).poll_read(cx, &mut room))?;
            Ok(Bytes::copy_from_slice(room.filled())).into()
        })
    })
    .await
}

/// Copies until the end, each piece at once; how many bytes there were.
///
/// # Errors
/// Either stream's.
pub async fn copy(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
) -> io::Result<u64> {
    let mut copied = 0;
    loop {
        let data = read_some(read).await?;
        if data.is_empty() {
            return Ok(copied);
        }
        write.write_all(&data).await?;
        write.flush().await?;
        copied += data.len() as u64;
    }
}

/// Copies both ways until both have ended, each end passed on; the bytes from near to far, and from far to near.
///
/// # Errors
/// Either stream's.
pub async fn both(
    near: impl AsyncRead + AsyncWrite + Unpin,
    far: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<(u64, u64)> {
    let (mut near_read, mut near_write) = split(near);
    let (mut far_read, mut far_write) = split(far);
    let up = async {
        let copied = copy(&mut near_read, &mut far_write).await?;
        far_write.shutdown().await.map(|()| copied)
    };
    let down = async {
        let copied = copy(&mut far_read, &mut near_write).await?;
        near_write.shutdown().await.map(|()| copied)
    };
    tokio::try_join!(up, down)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn each_end_is_passed_on() {
        let ((mut visitor, near), (mut origin, far)) = (duplex(100), duplex(100));
        let relaying = tokio::spawn(async move { both(near, far).await.unwrap() });
        let asked: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let asking = async {
            visitor.write_all(&asked).await.unwrap();
            visitor.shutdown().await.unwrap();
            let mut heard = Vec::new();
            visitor.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let answering = async {
            let mut heard = Vec::new();
            origin.read_to_end(&mut heard).await.unwrap();
            origin.write_all(b"all of it").await.unwrap();
            origin.shutdown().await.unwrap();
            heard
        };
        let (answer, heard) = tokio::join!(asking, answering);
        assert!(heard == asked && answer == b"all of it");
        assert_eq!(relaying.await.unwrap(), (200_000, 9));
    }
}
