//! The limit on what a QUIC server sends to an address that has not proven itself: three times the bytes that came from it
//! (RFC 9000, section 8.1).
//!
//! The QUIC library counts too, but it sends a whole datagram as soon as one byte of the budget is left, so its probes
//! exceed the limit. This socket keeps the account below the library: a datagram that exceeds the budget is dropped, as
//! the network might have done, and the library repeats it when the peer has sent more.
//!
//! Packets with a long header, which belong to handshakes, open the accounts. A peer that uses a connection id of ours
//! has received it at its address, which validates the address for that connection. Packets with a short header do not say
//! whose they are: they count for an address until it has validated some connection, or has gone on after an answer.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller};
use uuid::Uuid;

use crate::limits::{
    AMPLIFICATION_MAX, UNVALIDATED_ADDRESSES_MAX, UNVALIDATED_CONNECTIONS_MAX, UNVALIDATED_PERIOD,
};

/// Length of our connection ids in bytes. RFC 9000, section 8.1 asks for 64 bits of entropy.
const ID_LENGTH: usize = 8;

/// Generates connection ids of 64 random bits, which nobody can guess who has not received them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        // Bytes 6 and 8 of a UUID hold its version and variant.
        let [a, b, c, d, e, f, _, _, _, g, h, ..] = Uuid::new_v4().into_bytes();
        ConnectionId::new(&[a, b, c, d, e, f, g, h])
    }

    fn cid_len(&self) -> usize {
        ID_LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// A socket that holds the limit.
pub(crate) struct LimitedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    ledger: Mutex<Ledger>,
    start: Instant,
    /// When a packet of a handshake was heard last, in milliseconds since `start`: without any, nobody needs an account.
    heard: AtomicU64,
}

impl LimitedSocket {
    /// Puts the limit in front of a socket.
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>) -> Self {
        let start = Instant::now();
        Self { inner, ledger: Mutex::new(Ledger::new(start)), start, heard: AtomicU64::new(0) }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether there may be accounts of addresses that have proven nothing.
    fn has_strangers(&self, now: Instant) -> bool {
        let since = self.millis(now).saturating_sub(self.heard.load(Ordering::Relaxed));
        u128::from(since) <= UNVALIDATED_PERIOD.as_millis()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // The accounts are whole between any two statements.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for LimitedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedSocket").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for LimitedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let header = LongHeader::parse(transmit.contents);
        let (now, segment) = (Instant::now(), transmit.segment_size);
        if header.is_none() && !self.has_strangers(now) {
            return self.inner.try_send(transmit);
        }
        let mut ledger = self.ledger();
        let account = match &header {
            Some(_) => ledger.account(transmit.destination, now),
            None => match ledger.stranger(transmit.destination) {
                Some(account) => account,
                None => {
                    drop(ledger);
                    return self.inner.try_send(transmit);
                }
            },
        };
        let contents = account.within_budget(header.as_ref(), transmit.contents, segment);
        if contents.is_empty() {
            return Ok(());
        }
        let segment_size = segment.filter(|segment| *segment < contents.len());
        self.inner.try_send(&Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn,
            contents,
            segment_size,
            src_ip: transmit.src_ip,
        })?;
        account.sent(header.as_ref(), contents.len());
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        for (buffer, meta) in bufs.iter().zip(meta.iter()).take(count) {
            let bytes = buffer.get(..meta.len).unwrap_or_default();
            for datagram in bytes.chunks(meta.stride.max(1)) {
                if let Some(header) = LongHeader::parse(datagram) {
                    let now = Instant::now();
                    self.ledger().account(meta.addr, now).received(&header, datagram.len());
                    self.heard.store(self.millis(now), Ordering::Relaxed);
                }
            }
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// The connection ids of a packet with a long header (RFC 8999, section 5.1).
#[derive(Clone, Copy, Debug)]
struct LongHeader {
    destination: ConnectionId,
    source: ConnectionId,
    /// Version 0 is version negotiation, whose connection ids are the peer's own.
    is_negotiation: bool,
}

impl LongHeader {
    /// `None` for a short header, and for what is not a QUIC packet.
    fn parse(datagram: &[u8]) -> Option<Self> {
        let (first, rest) = datagram.split_first()?;
        if first & 0x80 == 0 {
            return None;
        }
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (destination, rest) = connection_id(rest)?;
        let (source, _) = connection_id(rest)?;
        Some(Self { destination, source, is_negotiation: *version == [0; 4] })
    }
}

/// Reads a connection id behind its length, which is 20 at most (RFC 9000, section 17.2).
fn connection_id(bytes: &[u8]) -> Option<(ConnectionId, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(*length)).filter(|(id, _)| id.len() <= 20)?;
    Some((ConnectionId::new(id), rest))
}

/// The accounts of the addresses that handshakes were heard from, in two generations: what was not used in the last one
/// is forgotten.
struct Ledger {
    current: HashMap<SocketAddr, Account>,
    previous: HashMap<SocketAddr, Account>,
    turned: Instant,
}

impl Ledger {
    /// The account of an address that has an open one and has proven nothing.
    fn stranger(&mut self, address: SocketAddr) -> Option<&mut Account> {
        let (current, previous) = (&mut self.current, &mut self.previous);
        let account = current.get_mut(&address).or_else(|| previous.get_mut(&address))?;
        (!account.is_proven()).then_some(account)
    }

    fn new(now: Instant) -> Self {
        Self { current: HashMap::new(), previous: HashMap::new(), turned: now }
    }

    fn account(&mut self, address: SocketAddr, now: Instant) -> &mut Account {
        let is_over = now.saturating_duration_since(self.turned) > UNVALIDATED_PERIOD;
        if is_over || self.current.len() >= UNVALIDATED_ADDRESSES_MAX {
            self.previous = std::mem::take(&mut self.current);
            self.turned = now;
        }
        let previous = &mut self.previous;
        self.current.entry(address).or_insert_with(|| previous.remove(&address).unwrap_or_default())
    }
}

/// What passed between us and one address, in bytes, apart from validated connections.
#[derive(Debug, Default)]
struct Account {
    received: usize,
    sent: usize,
    /// Something came after something was sent.
    has_gone_on: bool,
    /// The connection ids that we chose for this address, the newest last.
    connections: Vec<KnownConnection>,
}

#[derive(Clone, Copy, Debug)]
struct KnownConnection {
    id: ConnectionId,
    is_validated: bool,
}

impl Account {
    /// Whether packets with a short header may be sent freely. A client that goes on after our answer is no forged address,
    /// or one that gets no more than a few small packets in addition; not every client's packets show which id they use.
    fn is_proven(&self) -> bool {
        self.has_gone_on || self.connections.iter().any(|known| known.is_validated)
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut KnownConnection> {
        self.connections.iter_mut().find(|known| known.id == id)
    }

    /// Counts a datagram that came from the address.
    fn received(&mut self, header: &LongHeader, length: usize) {
        self.has_gone_on |= self.sent > 0;
        let before =
            self.connection(header.destination).map(|known| std::mem::replace(&mut known.is_validated, true));
        // The first packet to an id of ours may answer a Retry: the connection gets another id, and needs a budget.
        if before != Some(true) {
            self.received = self.received.saturating_add(length);
        }
    }

    /// Returns as many of the datagrams in `contents` as may be sent to the address.
    fn within_budget<'a>(
        &mut self,
        header: Option<&LongHeader>,
        contents: &'a [u8],
        segment: Option<usize>,
    ) -> &'a [u8] {
        let is_validated = match header {
            Some(header) => self.connection(header.source).is_some_and(|known| known.is_validated),
            None => self.is_proven(),
        };
        let budget = self.received.saturating_mul(AMPLIFICATION_MAX).saturating_sub(self.sent);
        if is_validated || contents.len() <= budget {
            return contents;
        }
        let whole = segment.map_or(0, |segment| budget - budget % segment.max(1));
        contents.get(..whole).unwrap_or_default()
    }

    /// Counts what was sent to the address.
    fn sent(&mut self, header: Option<&LongHeader>, length: usize) {
        if let Some(header) = header {
            match self.connection(header.source) {
                Some(known) if known.is_validated => return,
                Some(_) => {}
                None if header.is_negotiation || header.source.len() < ID_LENGTH => {}
                None => self.remember(header.source),
            }
        }
        self.sent = self.sent.saturating_add(length);
    }

    fn remember(&mut self, id: ConnectionId) {
        if self.connections.len() >= UNVALIDATED_CONNECTIONS_MAX {
            self.connections.remove(0);
        }
        self.connections.push(KnownConnection { id, is_validated: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with a long header, of version `version` and padded to `length`.
    fn packet(version: u32, destination: &[u8], source: &[u8], length: usize) -> Vec<u8> {
        let mut bytes = vec![0xc0];
        bytes.extend_from_slice(&version.to_be_bytes());
        for id in [destination, source] {
            bytes.push(id.len() as u8);
            bytes.extend_from_slice(id);
        }
        bytes.resize(length, 0);
        bytes
    }

    fn receive(account: &mut Account, datagram: &[u8]) {
        account.received(&LongHeader::parse(datagram).unwrap(), datagram.len());
    }

    /// Sends what may be sent, and says how much that was.
    fn send(account: &mut Account, datagrams: &[u8], segment: Option<usize>) -> usize {
        let header = LongHeader::parse(datagrams).unwrap();
        let sent = account.within_budget(Some(&header), datagrams, segment).len();
        if sent > 0 {
            account.sent(Some(&header), sent);
        }
        sent
    }

    #[test]
    fn short_headers_count_until_the_address_has_proven_itself() {
        let mut account = Account::default();
        receive(&mut account, &packet(1, b"invented", CLIENT, 1200));
        assert_eq!(send(&mut account, &packet(1, CLIENT, OURS, 1200), None), 1200);
        let mut short = |length: usize| {
            let bytes = vec![0x40; length];
            let sent = account.within_budget(None, &bytes, None).len();
            account.sent(None, sent);
            sent
        };
        assert_eq!([short(1200), short(1100), short(101)], [1200, 1100, 0]);
        receive(&mut account, &packet(1, OURS, CLIENT, 50));
        assert_eq!(account.within_budget(None, &[0x40; 9000], None).len(), 9000);
    }

    const CLIENT: &[u8] = b"client__";
    const OURS: &[u8] = b"ours____";

    #[test]
    fn an_address_gets_three_times_what_it_sent_until_it_uses_an_id_of_ours() {
        let mut account = Account::default();
        receive(&mut account, &packet(1, b"invented", CLIENT, 1200));
        let flight = packet(1, CLIENT, OURS, 1200);
        let sent: Vec<usize> = (0..4).map(|_| send(&mut account, &flight, None)).collect();
        assert_eq!(sent, [1200, 1200, 1200, 0]);
        // A second Initial makes room for three more, of any connection.
        receive(&mut account, &packet(1, b"invented", CLIENT, 1200));
        let other = packet(1, CLIENT, b"ours___2", 1200);
        assert_eq!([send(&mut account, &flight, None), send(&mut account, &other, None)], [1200, 1200]);
        receive(&mut account, &packet(1, OURS, CLIENT, 50));
        let sent: Vec<usize> = (0..9).map(|_| send(&mut account, &flight, None)).collect();
        assert_eq!(sent, [1200; 9], "validated");
        let sent: Vec<usize> = (0..3).map(|_| send(&mut account, &other, None)).collect();
        assert_eq!(sent, [1200, 0, 0], "the other connection is not");
    }

    #[test]
    fn a_batch_is_cut_between_its_datagrams() {
        let mut account = Account::default();
        receive(&mut account, &packet(1, b"invented", CLIENT, 1200));
        let batch = packet(1, CLIENT, OURS, 1100 * 5);
        assert_eq!(send(&mut account, &batch, Some(1100)), 3300);
        assert_eq!(send(&mut account, &batch, Some(1100)), 0);
    }

    #[test]
    fn an_id_that_the_peer_chose_validates_nothing() {
        let mut account = Account::default();
        receive(&mut account, &packet(9, b"invented", CLIENT, 1200));
        // Version negotiation mirrors the peer's id as our own.
        assert_eq!(send(&mut account, &packet(0, CLIENT, b"invented", 60), None), 60);
        receive(&mut account, &packet(1, b"invented", CLIENT, 50));
        let sent: usize = (0..9).map(|_| send(&mut account, &packet(1, CLIENT, OURS, 1200), None)).sum();
        assert!(sent + 60 <= 3 * 1250, "{sent}");
    }

    #[test]
    fn an_address_that_sent_nothing_gets_nothing_and_old_ones_are_forgotten() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let flight = packet(1, CLIENT, OURS, 1200);
        assert_eq!(send(ledger.account(address(1), start), &flight, None), 0);
        receive(ledger.account(address(1), start), &packet(1, b"invented", CLIENT, 1200));
        let later = start + UNVALIDATED_PERIOD * 3 / 2;
        assert_eq!(send(ledger.account(address(1), later), &flight, None), 1200, "kept for a period");
        let much_later = later + UNVALIDATED_PERIOD * 3;
        ledger.account(address(2), later + UNVALIDATED_PERIOD * 3 / 2);
        assert_eq!(send(ledger.account(address(1), much_later), &flight, None), 0, "forgotten");
        for port in 0..u16::MAX {
            let _ = ledger.account(address(port), much_later);
        }
        assert!(ledger.current.len() + ledger.previous.len() <= 2 * UNVALIDATED_ADDRESSES_MAX);
    }

    #[test]
    fn other_packets_are_not_looked_at() {
        for bytes in [&b""[..], b"\x40short header", b"\xc0\0\0\0\x01\x15", b"\xc0\0\0\0\x01\xff"] {
            assert!(LongHeader::parse(bytes).is_none(), "{bytes:?}");
        }
        let mut long = vec![0xc0, 0, 0, 0, 1, 21];
        long.resize(100, 0);
        assert!(LongHeader::parse(&long).is_none(), "an id of 21 bytes");
    }
}
