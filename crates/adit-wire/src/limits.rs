//! Every cap on outside bytes, with its unit and its reason. Sizes are checked before content is understood.

/// Bytes of one ConnectRequest or ConnectResponse. The largest head that common servers take is 64 KiB; Cap'n Proto
/// and long values may double it.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Segments of one message. Ours have one, cloudflared's have one; more than a few is an attack.
pub const SEGMENTS_MAX: usize = 16;

/// Metadata entries of one message: twice the header fields that a server takes.
pub const ENTRIES_MAX: usize = 1024;

/// Bytes of all texts that a message may point at. Pointers may overlap, so the sum is bounded, not only the message.
pub const TEXT_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// Bytes of the packed response headers (base64) on HTTP/2.
pub const PACKED_BYTES_MAX: usize = 512 * 1024;

/// Bytes of one data frame of a framed body. Ours have at most 64 KiB; the length is checked, not allocated.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a trailer section.
pub const TRAILER_BYTES_MAX: usize = 64 * 1024;

/// Fields of a trailer section.
pub const TRAILERS_MAX: usize = 256;

/// Bytes of a credentials file or a token.
pub const CREDENTIALS_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a tunnel secret. cloudflared makes 32.
pub const SECRET_BYTES_MAX: usize = 1024;

/// Bytes of a configuration: 10 000 rules of 200 bytes.
pub const CONFIGURATION_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Ingress rules of a configuration.
pub const INGRESS_RULES_MAX: usize = 10_000;

/// Features that a connector may announce. cloudflared announces seven.
pub const FEATURES_MAX: usize = 64;

/// Bytes of any other text in a registration.
pub const LABEL_BYTES_MAX: usize = 1024;
