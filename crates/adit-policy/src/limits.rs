//! Every cap and time-out of the data path, with its unit and its reason.

use std::time::Duration;

/// Bytes of a request head or a response head. nginx and Apache stop at 8 to 32 KiB; cookies and tokens pass that.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Header fields of one message. Browsers send about 20, proxies add 10; the same cap as Apache and Caddy's library.
pub const HEADERS_MAX: usize = 100;

/// Time for a visitor to finish a request head, counted from the end of the request before: slow heads are the cheapest
/// attack on a server, and idle connections the second cheapest.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for a visitor to finish a TLS handshake.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds in `Retry-After` when no connection of the tunnel is live. A connector is back within that time.
pub const RETRY_AFTER_SECONDS: u64 = 5;

/// Live connections of one tunnel at one edge: 16 replicas of four connections.
pub const CONNECTIONS_PER_TUNNEL_MAX: usize = 64;

/// Bytes of a host name in text form (RFC 1035, without the trailing dot).
pub const HOSTNAME_BYTES_MAX: usize = 253;

/// Bytes of one label of a host name (RFC 1035).
pub const LABEL_BYTES_MAX: usize = 63;

/// Bytes of a compiled path expression. Above that, one rule could eat the memory of the connector.
pub const PATH_REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Readings of one path that rules are compared with. A path of a few characters that steer has two to eight; whoever writes one
/// with more is refused where rules look at paths.
pub const PATH_READINGS_MAX: usize = 64;

/// Bytes of all readings of one path together: a long path that can be read in many ways is refused before it costs more than
/// a TLS handshake.
pub const PATH_READINGS_BYTES_MAX: usize = 64 * 1024;

/// Path expressions that one connector may bring to the edge: each is compiled there, and costs up to a mebibyte.
pub const PATH_EXPRESSIONS_MAX: usize = 500;

/// Visitors that are banned at a time. Each costs about 200 bytes.
pub const BANS_MAX: usize = 65_536;

/// Networks that are banned by hand: each is compared on every request. Deny lists hold any number.
pub const BAN_NETWORKS_MAX: usize = 1_000;

/// Visitors whose answers are counted before a ban. Each costs about 64 bytes.
pub const STRIKES_MAX: usize = 65_536;

/// Visitors whose requests are counted by all rate limits together. Each costs at most 40 bytes.
pub const LIMIT_KEYS_MAX: usize = 262_144;

/// Fetches of the cache at the same time: they outlive their visitors, and each may hold a quarter of a mebibyte. Beyond that,
/// requests go by themselves, and end with their visitors.
pub const FETCHES_MAX: usize = 512;

/// Fetches of the cache that one tunnel may always have, also when others have taken [`FETCHES_MAX`].
pub const FETCHES_OF_TUNNEL: usize = 8;

/// Names that one connector may claim. A larger claim is cut, so that a connector cannot grow the table of the edge.
pub const CLAIMED_HOSTS_MAX: usize = 10_000;

/// Names that one tunnel keeps as their owner, those included that it does not claim now: as many as one connector may claim.
pub const OWNED_NAMES_MAX: usize = CLAIMED_HOSTS_MAX;

/// Bytes of the shortest tunnel secret that is accepted. Below that, it can be guessed.
pub const SECRET_BYTES_MIN: usize = 16;

/// Bytes of a request's header list on HTTP/2.
pub const H2_HEADER_LIST_MAX: u32 = 64 * 1024;

/// Streams that a visitor may have open on one HTTP/2 connection (nginx: 128, Envoy: 100).
pub const H2_STREAMS_MAX: u32 = 128;

/// Bytes in flight on one visitor stream, upload direction.
pub const H2_STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes in flight on one visitor connection, upload direction.
pub const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes that HTTP/2 buffers per visitor stream for sending.
pub const H2_SEND_BUFFER: usize = 256 * 1024;

/// A visitor's HTTP/2 connection is probed after this much silence.
pub const H2_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// And ended when the probe stays without answer for this long.
pub const H2_KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Visitor connections that one worker holds. Each costs 10 to 40 KiB.
pub const CONNECTIONS_PER_WORKER_MAX: usize = 16_384;

/// Connections of one connector process (cloudflared has four).
pub const CONNECTIONS_PER_CONNECTOR_MAX: usize = 16;

/// How often a request is sent to another connection after the first one was lost.
pub const RETRIES_MAX: usize = 2;

/// How long a request waits for a connection of a known host that has none: a connector that restarts is back by then,
/// and a visitor of a house that is away gets its page within the second.
pub const WAIT_FOR_CONNECTION: Duration = Duration::from_millis(700);

/// Time that a stopping edge gives running requests.
pub const EDGE_GRACE: Duration = Duration::from_secs(30);

/// Visitors of one UDP port at the same time. Each has a session at the connector; addresses can be forged. With their
/// queues full they hold 20 MiB.
pub const UDP_VISITORS_MAX: usize = 2_048;

/// Packets of one visitor that wait while his session is opened, or while the tunnel is busy.
pub const UDP_VISITOR_QUEUE: usize = 8;

/// Bytes of one read of an HTTP/3 body.
pub const H3_READ: usize = 64 * 1024;

/// Requests that a visitor may have open on one HTTP/3 connection once he has made use of half of those that he begins with
/// (RFC 9114, section 6.1 asks for 100).
pub const H3_STREAMS_MAX: u32 = 128;

/// Bytes that are read and discarded after the last response of a connection, while the visitor is still sending: an
/// upload of a few hundred megabytes, whose client reads the response only afterwards.
pub const LINGER_BYTES_MAX: usize = 512 * 1024 * 1024;

/// How long bytes are discarded after the last response of a connection, as long as some come (nginx:
/// `lingering_time`).
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a connection whose last response is sent stays open without a byte from the visitor: a few round trips and a
/// retransmission. A drain may have to wait for it.
pub const LINGER_IDLE: Duration = Duration::from_secs(2);

/// QUIC handshakes under way before strangers have to prove their address first. A handshake takes 2 ms of a core.
pub const QUIC_HANDSHAKES_BEFORE_RETRY: usize = 200;

/// How often it is looked whether visitors are still there whom nobody reads from. Who is found gone twice is.
pub const GONE_INTERVAL: Duration = Duration::from_secs(2);

/// A visitor's socket is probed after this much silence, so that who vanished without a word is noticed.
pub const VISITOR_KEEPALIVE: Duration = Duration::from_secs(30);

/// Pause between two such probes.
pub const VISITOR_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Probes without an answer until the visitor is given up.
pub const VISITOR_KEEPALIVE_RETRIES: u32 = 3;

/// Bytes of a PROXY header: 52 for two IPv6 addresses, the rest for what proxies add (certificates, connection ids).
pub const PROXY_HEADER_MAX: usize = 4096;

/// Connections of visitors that an edge holds, however many descriptors it has: two workers' worth of
/// [`CONNECTIONS_PER_WORKER_MAX`].
pub const CONNECTIONS_MAX: usize = 32_768;

/// Descriptors that are left to everything but visitors' connections: 64 tunnel connections, files of the cache, logs,
/// local endpoints, and the next accept.
pub const DESCRIPTORS_RESERVED_MIN: usize = 128;

/// Which part of all connections and requests one visitor may have: four hostile addresses fill an edge, one does not.
/// An office or a carrier behind one address has thousands of connections at the usual 65 536 descriptors.
pub const SHARE_OF_ADDRESS: usize = 4;

/// Requests in flight per connection, over all of them. Browsers have 6 to 30 on one HTTP/2 connection while a page loads
/// and none for the rest of the time.
pub const REQUESTS_PER_CONNECTION: usize = 2;

/// How long an HTTP/2 or HTTP/3 connection without requests is kept, whatever PINGs say (nginx: 75 s). HTTP/1.1 has
/// [`HEADER_READ_TIMEOUT`].
pub const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// How long a client may take to hear that its idle connection ends.
pub const IDLE_GOODBYE: Duration = Duration::from_secs(5);

/// The same for a connection that makes room, or was abused.
pub const SHED_GOODBYE: Duration = Duration::from_secs(1);

/// How long the end of an HTTP/3 answer may wait for a visitor who takes none of it. It is at most a mebibyte in all.
pub const H3_TAIL_WINDOW: Duration = Duration::from_secs(30);

/// Connections above the cap that may say whether they are tunnels, on listeners that visitors and tunnels share.
pub const CONNECTIONS_ON_TRIAL: usize = 32;

/// Idle connections that are ended at once when there is no room: looking for them costs a walk over all.
pub const SHED_AT_ONCE: usize = 16;

/// Time over which cancelled requests are counted.
pub const CANCEL_WINDOW: Duration = Duration::from_secs(10);

/// Requests that one connection may cancel within [`CANCEL_WINDOW`] without a look at how many it lets finish: a page of
/// 100 pictures that is left while it loads.
pub const CANCELLED_OF_CONNECTION_MAX: u32 = 100;

/// The same for all connections of one visitor, who may be an office.
pub const CANCELLED_OF_ADDRESS_MAX: u32 = 2_000;

/// How often a stream that moves nothing is forgiven while its connection moves: on a slow line, streams wait for their
/// turn.
pub const FORGIVEN_MAX: u32 = 3;

/// A reader that leaves a piece for longer than this is slow, and gets smaller ones.
pub const SLOW_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a response body that are handed on at once.
pub const PIECE_MAX: usize = 16 * 1024;

/// Bytes of a response body that the HTTP/1 library holds before the client's socket has taken some. The library itself would
/// gather [`HEAD_BYTES_MAX`] and one more piece for every client that does not read.
pub const UNTAKEN_MAX: usize = 32 * 1024;

/// Bytes of TLS records that wait for one client's socket: two of the largest records, which one system call writes. The
/// library's default of 64 KiB is held by every client that does not read.
pub const TLS_UNSENT_MAX: usize = 32 * 1024;

/// Bytes of a piece for a slow reader: at 500 B/s it takes half of the window of `min-rate`.
pub const SLOW_PIECE: usize = 8 * 1024;

/// Bytes of all encoders that compress answers: 85 of gzip, or 16 of brotli, at the same time. Beyond that answers go as they
/// are. A fast reader needs one for some milliseconds, so only stalled readers fill it.
pub const ENCODERS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes that the kernel holds of what a visitor has not been sent. Without it, a stalled reader costs 2.5 MiB of the
/// kernel's memory, and its progress shows in steps of a third of that.
pub const UNSENT_MAX: u32 = 64 * 1024;

/// How long a client that expects 100 (Continue) waits for the origin to say it before its body is read all the same: as long as curl
/// waits by itself, and Go's transport.
pub const CONTINUE_WAIT: Duration = Duration::from_secs(1);
