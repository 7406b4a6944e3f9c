//! `adit connect health`, `adit tunnel ready`: asks the running connector on this machine whether it is connected. For
//! container health checks: the image needs no shell and no curl.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::METRICS_PORTS;
use crate::failure::Failure;

/// Patience with the local endpoint.
const TIMEOUT: Duration = Duration::from_secs(3);
/// An answer has some hundred bytes.
const ANSWER_MAX: u64 = 64 * 1024;

/// The connector's own words when it is ready.
///
/// # Errors
/// When it does not run here, or is not connected.
pub fn health(metrics: Option<&str>) -> Result<String, Failure> {
    let addresses = match metrics {
        Some(address) => address
            .to_socket_addrs()
            .map_err(|error| Failure::input(format!("--metrics {address}: {error}")))?
            .collect(),
        None => METRICS_PORTS.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect::<Vec<_>>(),
    };
    let answer = addresses.iter().find_map(|address| ask(*address));
    match answer {
        Some((200, body)) => Ok(body + "\n"),
        Some((_, body)) => Err(Failure::broke(format!("not connected: {body}"))),
        None => Err(Failure::broke("no connector answers on this machine; name its --metrics address")),
    }
}

/// Status and body of `/ready`; `None` when nobody answers.
fn ask(address: SocketAddr) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.write_all(b"GET /ready HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.trim().to_owned()))
}
