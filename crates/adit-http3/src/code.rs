//! Error codes of RFC 9114, section 8.1, and of RFC 9204, section 6.

use quinn::VarInt;

/// Why a stream or a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u32);

impl Code {
    /// Nothing is wrong.
    pub const NO_ERROR: Self = Self(0x100);
    /// The peer broke the protocol in a way that has no code of its own.
    pub const GENERAL_PROTOCOL_ERROR: Self = Self(0x101);
    /// Something broke at our end.
    pub const INTERNAL_ERROR: Self = Self(0x102);
    /// A stream of a kind that the peer must not open.
    pub const STREAM_CREATION_ERROR: Self = Self(0x103);
    /// A control stream ended.
    pub const CLOSED_CRITICAL_STREAM: Self = Self(0x104);
    /// A frame in a place where it must not be.
    pub const FRAME_UNEXPECTED: Self = Self(0x105);
    /// A frame that is malformed.
    pub const FRAME_ERROR: Self = Self(0x106);
    /// The peer costs too much.
    pub const EXCESSIVE_LOAD: Self = Self(0x107);
    /// An id that is not as it must be.
    pub const ID_ERROR: Self = Self(0x108);
    /// Bad settings.
    pub const SETTINGS_ERROR: Self = Self(0x109);
    /// A control stream that does not begin with settings.
    pub const MISSING_SETTINGS: Self = Self(0x10a);
    /// A request that was not processed at all.
    pub const REQUEST_REJECTED: Self = Self(0x10b);
    /// A request or its answer that nobody wants any more.
    pub const REQUEST_CANCELLED: Self = Self(0x10c);
    /// A request that ended before it was complete.
    pub const REQUEST_INCOMPLETE: Self = Self(0x10d);
    /// A malformed message.
    pub const MESSAGE_ERROR: Self = Self(0x10e);
    /// A field section that cannot be read.
    pub const DECOMPRESSION_FAILED: Self = Self(0x200);
    /// An instruction for a dynamic table, which nobody has allowed.
    pub const ENCODER_STREAM_ERROR: Self = Self(0x201);

    /// The code as QUIC carries it.
    #[must_use]
    pub fn value(self) -> VarInt {
        VarInt::from_u32(self.0)
    }
}
