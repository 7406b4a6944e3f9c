//! `adit connect health`, `adit tunnel ready`: asks the running connector on this machine whether it is connected. For
//! container health checks: the image needs no shell and no curl.

use std::net::{SocketAddr, ToSocketAddrs as _};

use super::METRICS_PORTS;
use crate::failure::Failure;
use crate::local;

/// The connector's own words when it is ready.
///
/// # Errors
/// When it does not run here, or is not connected.
pub fn health(metrics: Option<&str>) -> Result<String, Failure> {
    let addresses = addresses(metrics)?;
    let answer = addresses.iter().find_map(|address| local::ask(*address, "/ready"));
    let answer = answer.map(|(status, body)| (status, String::from_utf8_lossy(&body).trim().to_owned()));
    match answer {
        Some((200, body)) => Ok(body + "\n"),
        Some((_, body)) => Err(Failure::broke(format!("not connected: {body}"))),
        None => Err(Failure::broke(NOBODY)),
    }
}

/// Said when no connector is found.
pub(super) const NOBODY: &str = "no connector answers on this machine; name its --metrics address";

/// Where a connector on this machine may answer.
pub(super) fn addresses(metrics: Option<&str>) -> Result<Vec<SocketAddr>, Failure> {
    Ok(match metrics {
        Some(address) => address
            .to_socket_addrs()
            .map_err(|error| Failure::input(format!("--metrics {address}: {error}")))?
            .collect(),
        None => METRICS_PORTS.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect(),
    })
}
