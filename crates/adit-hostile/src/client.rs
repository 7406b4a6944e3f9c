//! Clients that send what they are told, byte by byte and frame by frame.

mod http1;
mod http2;
mod http3;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use adit_testkit::{Edge, Visitor, visitor3::Visitor3};

use crate::case::{Protocol, Sent};

/// How long a client of a hostile case waits for more before it gives up: mostly, there is nothing to wait for.
pub(crate) const HOSTILE: Duration = Duration::from_millis(800);
/// How long everybody else waits.
pub(crate) const LEGAL: Duration = Duration::from_secs(10);

/// What a client got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    /// `None`: there was no answer.
    pub(crate) status: Option<u16>,
    pub(crate) body: Vec<u8>,
    /// How it ended.
    pub(crate) ended: String,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => {
                let body = self.body.get(..self.body.len().min(200)).unwrap_or_default();
                write!(f, "{status} `{}`", body.escape_ascii())
            }
            None => write!(f, "no answer ({})", self.ended),
        }
    }
}

/// A client of each protocol at one address.
#[derive(Debug)]
pub(crate) struct Clients {
    /// The address that they connect from.
    pub(crate) address: IpAddr,
    plain: Visitor,
    tls: Visitor,
    http2: Visitor,
    http3: Visitor3,
}

impl Clients {
    /// Clients that trust the edge and connect from an address of loopback.
    pub(crate) fn of(edge: &Edge, address: IpAddr) -> Self {
        let tls = edge.visitor().from_address(address);
        Self {
            address,
            plain: Visitor::plain(edge.http).from_address(address),
            http2: tls.clone().http2(),
            tls,
            http3: edge.visitor3_from(address),
        }
    }

    /// Sends a request on a connection of its own, opened for `name`.
    pub(crate) async fn send(
        &self,
        protocol: Protocol,
        name: &str,
        sent: &Sent,
        patience: Duration,
    ) -> Reply {
        let sending = async {
            match (sent, protocol) {
                (Sent::Bytes(bytes, after), Protocol::Plain) => {
                    http1::plain(&self.plain, bytes, *after, patience).await
                }
                (Sent::Bytes(bytes, after), _) => http1::tls(&self.tls, name, bytes, *after, patience).await,
                (Sent::Steps(steps), Protocol::Http3) => {
                    http3::send(&self.http3, name, steps, patience).await
                }
                (Sent::Steps(steps), _) => http2::send(&self.http2, name, steps, patience).await,
            }
        };
        sending.await.unwrap_or_else(|error| Reply { ended: error.to_string(), ..Reply::default() })
    }
}
