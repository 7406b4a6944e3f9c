//! The thread of local endpoints: metrics and health never wait for the data path, nor it for them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use adit_http::local::{Answer, Asked, serve};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::failure::Failure;

/// Patience with a local server.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of an answer.
const ANSWER_MAX: u64 = 16 * 1024 * 1024;

/// Asks a local server of a running process: status and body. `None` when nobody answers.
pub(crate) fn ask(address: SocketAddr, path: &str) -> Option<(u16, Vec<u8>)> {
    send(address, "GET", path, "")
}

/// The same with another method and with JSON.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, json: &str) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, ASK_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(ASK_TIMEOUT)).ok()?;
    let length = json.len();
    let body = if json.is_empty() {
        String::new()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {length}\r\n")
    };
    let request = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n{body}\r\n{json}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|at| at == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, answer.split_off(end + 4)))
}

/// A running local server; it ends with this.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

/// Starts a local server on an address.
///
/// # Errors
/// When the address is not to be had.
pub(crate) fn start(
    what: &str,
    address: SocketAddr,
    answer: impl Fn(&Asked) -> Answer + Send + 'static,
) -> Result<Local, Failure> {
    let failed =
        |error: std::io::Error| Failure::input(format!("cannot listen on {address} ({what}): {error}"));
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let run = move || {
        LocalSet::new().block_on(&runtime, async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            tokio::select! {
                () = serve(listener, Rc::new(answer)) => {}
                // Either word means the end.
                _ = stopped => {}
            }
        });
    };
    std::thread::Builder::new().name(what.to_owned()).spawn(run).map_err(failed)?;
    Ok(Local { address, _stop: stop })
}
