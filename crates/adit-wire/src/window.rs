//! Window updates: our extension that bounds what a stalled stream may hold, where cloudflared's protocol has one fixed
//! window for every stream of a connection.
//!
//! Updates travel on a stream of their own, one for each connection, in both directions. Each is a record of 16 bytes: the
//! transport's id of a stream and the number of payload bytes that may have been sent on it in all, both big-endian.

/// Bytes of one update.
pub const UPDATE_LEN: usize = 16;

/// One update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// The stream, by the id that the transport gives it.
    pub stream: u64,
    /// Payload bytes that the peer may have sent on it since its start. A smaller number than before means nothing.
    pub limit: u64,
}

impl Update {
    /// Returns the bytes of the update.
    #[must_use]
    pub fn encode(self) -> [u8; UPDATE_LEN] {
        (u128::from(self.stream) << 64 | u128::from(self.limit)).to_be_bytes()
    }

    /// Reads an update. Every record is a valid one; what it refers to is checked where streams are known.
    #[must_use]
    pub fn decode(record: [u8; UPDATE_LEN]) -> Self {
        let bits = u128::from_be_bytes(record);
        // The upper and the lower half of 128 bits: the casts cut off what is meant to be cut off.
        Self { stream: (bits >> 64) as u64, limit: bits as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_survives_the_wire() {
        for (stream, limit) in [(0, 0), (4, 65_536), (u64::MAX, 1), (1, u64::MAX)] {
            let update = Update { stream, limit };
            assert_eq!(Update::decode(update.encode()), update);
        }
        let bytes = Update { stream: 4, limit: 0x1_0000 }.encode();
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
