//! Datagrams of a QUIC connection: sent at once or not at all, read one by one.

use adit_wire::datagram::{Datagram, PAYLOAD_MAX, Version};
use bytes::Bytes;
use quinn::Connection;
use uuid::Uuid;

use crate::LinkClosed;

/// The datagrams of one connection. Clones share it.
#[derive(Clone, Debug)]
pub struct Datagrams {
    connection: Connection,
    version: Version,
}

impl Datagrams {
    pub(crate) fn new(connection: Connection, version: Version) -> Self {
        Self { connection, version }
    }

    /// Which form they have.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The next one that makes sense.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn next(&self) -> Result<Datagram, LinkClosed> {
        loop {
            match self.version.decode(self.connection.read_datagram().await?) {
                Ok(datagram) => return Ok(datagram),
                Err(error) => tracing::debug!(%error, "datagram dropped"),
            }
        }
    }

    /// Sends bytes of a session. Whether they left: UDP promises nothing, so what is too large for the path is dropped.
    #[must_use]
    pub fn send(&self, id: Uuid, data: &[u8]) -> bool {
        data.len() <= PAYLOAD_MAX && self.send_raw(self.version.payload(id, data))
    }

    /// Sends a datagram that is written already. Whether it left.
    #[must_use]
    pub fn send_raw(&self, datagram: Bytes) -> bool {
        self.connection.send_datagram(datagram).is_ok()
    }
}
