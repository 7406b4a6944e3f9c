//! Datagrams of a QUIC connection: sent at once or not at all, read one by one.

use adit_wire::datagram::{Datagram, PAYLOAD_MAX, Version};
use bytes::Bytes;
use quinn::Connection;
use uuid::Uuid;

use crate::LinkClosed;
use crate::control::sessions;

/// The datagrams of one connection. Clones share it.
#[derive(Clone, Debug)]
pub struct Datagrams {
    pub(crate) connection: Connection,
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

    /// Tells the other end that a session is over. Version 3 has no word for it: silence is the end there. Run it on the
    /// owning thread.
    pub fn end_session(&self, id: Uuid, why: &'static str) {
        if self.version == Version::V3 {
            return;
        }
        let connection = self.connection.clone();
        drop(tokio::task::spawn_local(async move {
            // Who does not hear it finds out by silence.
            drop(sessions::call_unregister(&connection, id, why).await);
        }));
    }

    /// Sends a datagram that is written already. Whether it left.
    #[must_use]
    pub fn send_raw(&self, datagram: Bytes) -> bool {
        self.connection.send_datagram(datagram).is_ok()
    }
}
