//! Every cap and time-out of the tunnel, with its unit and its reason.

use std::time::Duration;

/// A silent peer is given up after this. cloudflared uses 5 s; the clock starts anew with the first probe that gets no
/// answer, so 4 s and [`KEEP_ALIVE`] make 5.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Pause between keep-alive probes: three of them fit into [`IDLE_TIMEOUT`], so one lost packet costs nothing.
pub const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// A connection that was silent for this long, although it was probed, is suspect: new requests avoid it and
/// repeatable ones leave it. Two probes and their answers fit.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(2_200);

/// How often the health of a connection is looked at.
pub const HEALTH_INTERVAL: Duration = Duration::from_millis(400);

/// Time for a peer to finish the TLS handshake on TCP.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time from the end of the handshake to a registration. cloudflared registers at once; its pre-check closes at once.
pub const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection lives after its connector has unregistered and closed the control stream. cloudflared takes a
/// `grace-period` of up to 3 minutes (`connection.MaxGracePeriod`); 10 s more let it close the connection by itself.
pub const DRAIN_MAX: Duration = Duration::from_secs(3 * 60 + 10);

/// Time for one RPC call of the control stream (cloudflared's `rpc-timeout`).
pub const RPC_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that a peer may send on a control stream in all. A registration needs 1 KiB, a configuration of 1 000 rules
/// about 200 KiB; reconfigurations share the stream.
pub const CONTROL_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes that a peer may send on a control stream before it is registered: a registration needs 1 KiB.
pub const UNREGISTERED_BYTES_MAX: u64 = 64 * 1024;

/// Bytes in flight on a connection that is not registered yet, on all of its streams.
pub const UNREGISTERED_WINDOW: u32 = 128 * 1024;

/// Words that one RPC message may have (8 bytes each): 4 MiB holds a configuration of 10 000 rules.
pub const RPC_MESSAGE_WORDS_MAX: usize = 4 * 1024 * 1024 / 8;

/// Times that a UDP session is asked for within [`RPC_TIMEOUT`]: the question is a datagram, and may be lost.
pub const UDP_REGISTER_ATTEMPTS: u32 = 5;

/// Datagrams that wait for one session's reader: 40 KiB, a burst of 10 ms at 32 Mbit/s.
pub const UDP_QUEUE: usize = 32;

/// Streams that a peer may hold open at once on one QUIC connection, to begin with. The state machine reserves memory for
/// each possible stream: 1 024 cost 1 MB, 2^20 cost 85 MB. So the number grows with the streams that are open.
pub const STREAMS_MAX: u32 = 1024;

/// The number grows up to this: as many as there are ports, which is what a machine can have of origin connections.
pub const STREAMS_GROWN_MAX: u32 = 65_536;

/// Streams that the connector accepts at once on one HTTP/2 connection.
pub const H2_STREAMS_MAX: u32 = 65_536;

/// Bytes in flight on one stream, in one direction: 150 Mbit/s at 40 ms.
pub const STREAM_WINDOW: u32 = 768 * 1024;

/// Bytes that the sender of a stream may be ahead of its reader at first, between our own two ends: more than TCP sends
/// before its first acknowledgement, and a thousand readers that stopped hold 32 MiB, or twice that with what the QUIC
/// library adds to packets that it keeps.
pub const WINDOW_FIRST: u64 = 32 * 1024;

/// A reader that takes half of its window in less than this gets a larger one.
pub const WINDOW_FAST: Duration = Duration::from_millis(100);

/// A reader that needs longer than this for half of its window gets a smaller one.
pub const WINDOW_SLOW: Duration = Duration::from_millis(400);

/// Bytes by which all windows of the process may exceed [`WINDOW_FIRST`]: about 10 streams at 150 Mbit/s and 40 ms. Readers that
/// stop hold what they had grown to, and the QUIC library twice that.
pub const WINDOWS_GROWN_MAX: u64 = 8 * 1024 * 1024;

/// How long a reader may take for what it was given, or an upload may wait for its origin, before the stream counts as
/// stalled, on connections that have only the transport's windows.
pub const STALL_TIME: Duration = Duration::from_millis(1_500);

/// How often stalled responses are looked for.
pub const STALL_INTERVAL: Duration = Duration::from_millis(500);

/// A reader that needs longer than this for a piece gets small ones, so that its progress is seen.
pub const SLOW_PIECE_TIME: Duration = Duration::from_millis(400);

/// Bytes of such a piece.
pub const SLOW_PIECE: usize = 4 * 1024;

/// Stalled responses of one connection with fixed windows: each may hold [`STREAM_WINDOW`], and half of
/// [`FIXED_CONNECTION_WINDOW`] has to remain for the others.
pub const STALLED_PER_CONNECTION_MAX: usize = 20;

/// Stalled responses of the process on such connections: they hold 30 MiB.
pub const STALLED_MAX: usize = 40;

/// Stalled uploads on one such connection. cloudflared's windows are 6 MiB of 30 on QUIC, and 1 MiB of 1 on HTTP/2, where one
/// alone holds everything.
pub const STALLED_UPLOADS_MAX: usize = 1;

/// Bytes in flight on one connection.
pub const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// The same on QUIC connections that have only the transport's windows: 40 streams that nobody reads.
pub const FIXED_CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;

/// Bytes that we queue for sending on one QUIC connection.
pub const SEND_WINDOW: u64 = 8 * 1024 * 1024;

/// Frame size that we accept on HTTP/2: large frames cost less per byte (1.31 against 1.72 CPU-s/GiB).
pub const H2_FRAME_MAX: u32 = 1024 * 1024;

/// Bytes that HTTP/2 buffers per stream for sending.
pub const H2_SEND_BUFFER: usize = 1024 * 1024;

/// Bytes that HTTP/2 gathers before it writes: one TLS record. Larger writes are not copied.
pub const GATHERED_WRITE_MAX: usize = 16 * 1024;

/// Size of the headers that we accept on HTTP/2; cloudflared announces the same.
pub const H2_HEADERS_MAX: u32 = 1024 * 1024;

/// Streams that were reset and are still remembered. The library's default of 20 closes the whole tunnel when many
/// visitors go away at once, so any visitor could cut it. Reset streams cost about 200 bytes each.
pub const H2_RESET_STREAMS_MAX: usize = 64 * 1024;

/// The first read of a stream: head and a small body fit.
pub const HEAD_READ: usize = 4 * 1024;

/// Reads of a body. 256 KiB was slower, packets of 1.4 KB cost 5 to 14 % more CPU.
pub const BODY_READ: usize = 64 * 1024;

/// Bytes of a head before it is refused.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Bytes of an upload that are read and thrown away after an early answer, as Go's server does.
pub const DISCARD_MAX: usize = 256 * 1024;

/// How long an upload may go on after its answer.
pub const DISCARD_TIME: Duration = Duration::from_secs(5);

/// How long an answered stream may wait for the peer's end of it, so that it need not be told to stop.
pub const FIN_WAIT: Duration = Duration::from_secs(5);

/// A body that is ready at once travels with its head in one write up to this size.
pub const INLINE_BODY_MAX: usize = 16 * 1024;

/// Largest UDP payload that we send before the path was probed: what IPv6 guarantees.
pub const INITIAL_MTU: u16 = 1200;

/// Bytes that a QUIC server sends for each byte from an address that is not validated (RFC 9000, section 8.1).
pub const AMPLIFICATION_MAX: usize = 3;

/// Addresses with handshakes that are remembered in one period: about 3 MiB. Above that, a period ends early.
pub const UNVALIDATED_ADDRESSES_MAX: usize = 16 * 1024;

/// How long at least the account of an address is kept. A handshake has 10 s.
pub const UNVALIDATED_PERIOD: Duration = Duration::from_secs(15);

/// Connections of one address whose validation is remembered. Clients behind one address and port are rare; a forger may
/// pretend to be many.
pub const UNVALIDATED_CONNECTIONS_MAX: usize = 8;

/// A silent visitor's connection is given up after this. Browsers name 30 s themselves.
pub const PUBLIC_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Streams that a visitor may hold open at once, to begin with. Each possible one costs up to 1 KB.
pub const PUBLIC_STREAMS_FIRST: u32 = 32;

/// One-way streams of a visitor: HTTP/3 has three, and the RFC asks for room for unknown ones.
pub const PUBLIC_UNI_STREAMS: u32 = 8;

/// Bytes in flight on one stream of a public port: a tunnel that comes there has it too.
pub const PUBLIC_STREAM_WINDOW: u32 = 1024 * 1024;

/// Bytes in flight on one visitor's connection, so that a stalled origin holds no more of any visitor.
pub const PUBLIC_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes that we queue for one visitor, so that a slow reader holds no more.
pub const PUBLIC_SEND_WINDOW: u64 = 1024 * 1024;

/// Bytes of datagrams that wait to be read; tunnels carry UDP in them.
pub const PUBLIC_DATAGRAM_BUFFER: usize = 256 * 1024;

/// Interim responses to one request that are passed on. Origins send a few; a flood of them would cost the edge more than its
/// sender.
pub const INTERIMS_MAX: usize = 16;
