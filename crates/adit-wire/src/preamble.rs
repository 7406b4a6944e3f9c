//! The first bytes of a QUIC stream: what the stream is for (cloudflared: `tunnelrpc/quic/protocol.go`).

/// Signature of a data stream.
const DATA_SIGNATURE: [u8; 6] = [0x0A, 0x36, 0xCD, 0x12, 0xA1, 0x3E];

/// Signature of an RPC stream; no version follows.
pub const RPC_PREAMBLE: [u8; 6] = [0x52, 0xBB, 0x82, 0x5C, 0xDB, 0x65];

/// A data stream's signature with the version `01`.
pub const DATA_PREAMBLE: [u8; 8] = [0x0A, 0x36, 0xCD, 0x12, 0xA1, 0x3E, b'0', b'1'];

/// Signature of the stream of window updates. Ours; only opened to a connector that announces `adit_windows`.
pub const WINDOWS_PREAMBLE: [u8; 6] = [0xAD, 0x17, b'w', b'i', b'n', b'd'];

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preamble {
    /// A request and its bytes. The version is read and ignored, as cloudflared does.
    Data {
        /// Two ASCII digits.
        version: [u8; 2],
    },
    /// Calls between edge and connector.
    Rpc,
    /// Window updates, see [`crate::window`].
    Windows,
}

/// The outcome of reading a preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The preamble, and how many bytes it took.
    Complete(Preamble, usize),
    /// More bytes are needed.
    Incomplete,
}

/// The stream starts with neither signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown stream signature")]
pub struct UnknownSignature;

/// Reads the preamble at the start of a stream.
///
/// # Errors
/// [`UnknownSignature`] as soon as the bytes can no longer become one.
pub fn parse(bytes: &[u8]) -> Result<Parsed, UnknownSignature> {
    match bytes {
        [0x0A, 0x36, 0xCD, 0x12, 0xA1, 0x3E, high, low, ..] => {
            Ok(Parsed::Complete(Preamble::Data { version: [*high, *low] }, DATA_PREAMBLE.len()))
        }
        [0x52, 0xBB, 0x82, 0x5C, 0xDB, 0x65, ..] => Ok(Parsed::Complete(Preamble::Rpc, RPC_PREAMBLE.len())),
        _ if bytes.starts_with(&WINDOWS_PREAMBLE) => {
            Ok(Parsed::Complete(Preamble::Windows, WINDOWS_PREAMBLE.len()))
        }
        _ if could_become(bytes) => Ok(Parsed::Incomplete),
        _ => Err(UnknownSignature),
    }
}

fn could_become(bytes: &[u8]) -> bool {
    let start = bytes.get(..DATA_SIGNATURE.len()).unwrap_or(bytes);
    [DATA_SIGNATURE, RPC_PREAMBLE, WINDOWS_PREAMBLE].iter().any(|known| known.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preambles_are_told_apart_byte_by_byte() {
        let data = Parsed::Complete(Preamble::Data { version: *b"01" }, 8);
        assert_eq!(parse(&DATA_PREAMBLE), Ok(data));
        assert_eq!(parse(&RPC_PREAMBLE), Ok(Parsed::Complete(Preamble::Rpc, 6)));
        for cut in 0..DATA_PREAMBLE.len() {
            assert_eq!(parse(&DATA_PREAMBLE[..cut]), Ok(Parsed::Incomplete), "{cut}");
        }
        assert_eq!(parse(&WINDOWS_PREAMBLE), Ok(Parsed::Complete(Preamble::Windows, 6)));
        for cut in 0..RPC_PREAMBLE.len() {
            assert_eq!(parse(&RPC_PREAMBLE[..cut]), Ok(Parsed::Incomplete), "{cut}");
            assert_eq!(parse(&WINDOWS_PREAMBLE[..cut]), Ok(Parsed::Incomplete), "{cut}");
        }
        assert_eq!(parse(b"GET / HTTP/1.1"), Err(UnknownSignature));
        assert_eq!(parse(&[0x0A, 0x37]), Err(UnknownSignature));
    }
}
