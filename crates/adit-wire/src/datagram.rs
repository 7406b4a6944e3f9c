//! UDP in QUIC datagrams, versions 2 and 3 (cloudflared: `quic/datagramv2.go`, `quic/v3/datagram.go`).
//!
//! Version 2 writes what a datagram is at its end, and opens its sessions by calls. Version 3 writes it at the start,
//! and opens its sessions by datagrams.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use uuid::Uuid;

/// Bytes of one payload (cloudflared's limit).
pub const PAYLOAD_MAX: usize = 1280;

/// Bytes of a session's id.
const ID: usize = 16;

/// Which form datagrams have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// What every connector speaks.
    V2,
    /// What those speak that announce it.
    V3,
}

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// Bytes of a session.
    Payload {
        /// The session.
        id: Uuid,
        /// Its bytes.
        data: Bytes,
    },
    /// Asks for a session (version 3).
    Register {
        /// The session.
        id: Uuid,
        /// Where its bytes go.
        to: SocketAddr,
        /// Silence after which it ends; zero for the connector's own limit.
        idle: Duration,
    },
    /// Answers that (version 3).
    Registered {
        /// The session.
        id: Uuid,
        /// What became of it.
        outcome: Outcome,
    },
    /// IP packets and traces: nothing of ours makes use of them.
    Other,
}

/// What became of a session that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is open.
    Open,
    /// The destination cannot be reached, or is not allowed.
    Unreachable,
    /// There is no socket for it.
    NoSocket,
    /// There are too many.
    TooMany,
    /// Something else, in words.
    Failed(String),
}

/// Bytes that are no datagram of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed datagram: {0}")]
pub struct DatagramError(&'static str);

mod v2 {
    pub(super) const UDP: u8 = 0;
    pub(super) const PACKET: u8 = 1;
    pub(super) const SPANS: u8 = 3;
}

mod v3 {
    pub(super) const REGISTER: u8 = 0;
    pub(super) const PAYLOAD: u8 = 1;
    pub(super) const ICMP: u8 = 2;
    pub(super) const REGISTERED: u8 = 3;
    pub(super) const FLAG_IPV6: u8 = 1;
}

impl Version {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`DatagramError`] for what has no meaning.
    pub fn decode(self, datagram: Bytes) -> Result<Datagram, DatagramError> {
        match self {
            Self::V2 => decode_v2(datagram),
            Self::V3 => decode_v3(datagram),
        }
    }

    /// A datagram with bytes of a session.
    #[must_use]
    pub fn payload(self, id: Uuid, data: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(data.len() + ID + 1);
        match self {
            Self::V2 => {
                out.put_slice(data);
                out.put_slice(id.as_bytes());
                out.put_u8(v2::UDP);
            }
            Self::V3 => {
                out.put_u8(v3::PAYLOAD);
                out.put_slice(id.as_bytes());
                out.put_slice(data);
            }
        }
        out.freeze()
    }
}

/// A datagram that asks for a session (version 3).
#[must_use]
pub fn register(id: Uuid, to: SocketAddr, idle: Duration) -> Bytes {
    let mut out = BytesMut::with_capacity(38);
    out.put_u8(v3::REGISTER);
    out.put_u8(if to.is_ipv6() { v3::FLAG_IPV6 } else { 0 });
    out.put_u16(to.port());
    out.put_u16(u16::try_from(idle.as_secs()).unwrap_or(u16::MAX));
    out.put_slice(id.as_bytes());
    match to.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.freeze()
}

/// A datagram that answers one that asks (version 3).
#[must_use]
pub fn registered(id: Uuid, outcome: &Outcome) -> Bytes {
    let (code, text) = match outcome {
        Outcome::Open => (0, ""),
        Outcome::Unreachable => (1, ""),
        Outcome::NoSocket => (2, ""),
        Outcome::TooMany => (3, ""),
        Outcome::Failed(text) => (0xFF, text.as_str()),
    };
    let text = text.as_bytes();
    let text = text.get(..PAYLOAD_MAX.min(text.len())).unwrap_or_default();
    let mut out = BytesMut::with_capacity(text.len() + ID + 4);
    out.put_u8(v3::REGISTERED);
    out.put_u8(code);
    out.put_slice(id.as_bytes());
    out.put_u16(u16::try_from(text.len()).unwrap_or_default());
    out.put_slice(text);
    out.freeze()
}

fn decode_v2(mut datagram: Bytes) -> Result<Datagram, DatagramError> {
    let (kind, rest) = datagram.split_last().ok_or(DatagramError("nothing is there"))?;
    match *kind {
        v2::UDP => {
            let data = rest.len().checked_sub(ID).ok_or(DatagramError("too short for a session"))?;
            let id = id_at(rest, data)?;
            datagram.truncate(data);
            Ok(Datagram::Payload { id, data: datagram })
        }
        v2::PACKET..=v2::SPANS => Ok(Datagram::Other),
        _ => Err(DatagramError("an unknown kind")),
    }
}

fn decode_v3(datagram: Bytes) -> Result<Datagram, DatagramError> {
    let (kind, rest) = datagram.split_first().ok_or(DatagramError("nothing is there"))?;
    match *kind {
        v3::REGISTER => decode_register(rest),
        v3::PAYLOAD => Ok(Datagram::Payload { id: id_at(rest, 0)?, data: datagram.slice(1 + ID..) }),
        v3::ICMP => Ok(Datagram::Other),
        v3::REGISTERED => {
            let code = *rest.first().ok_or(DatagramError("too short for an answer"))?;
            let id = id_at(rest, 1)?;
            Ok(Datagram::Registered { id, outcome: outcome(code, rest.get(1 + ID..).unwrap_or_default()) })
        }
        _ => Err(DatagramError("an unknown kind")),
    }
}

fn decode_register(rest: &[u8]) -> Result<Datagram, DatagramError> {
    let short = || DatagramError("too short for a session");
    let [flags, port_high, port_low, idle_high, idle_low, ..] = rest else { return Err(short()) };
    let id = id_at(rest, 5)?;
    let address = rest.get(5 + ID..).unwrap_or_default();
    let ip: IpAddr = if flags & v3::FLAG_IPV6 == 0 {
        Ipv4Addr::from(*address.first_chunk::<4>().ok_or_else(short)?).into()
    } else {
        Ipv6Addr::from(*address.first_chunk::<16>().ok_or_else(short)?).into()
    };
    let to = SocketAddr::new(ip, u16::from_be_bytes([*port_high, *port_low]));
    let idle = Duration::from_secs(u16::from_be_bytes([*idle_high, *idle_low]).into());
    Ok(Datagram::Register { id, to, idle })
}

fn outcome(code: u8, rest: &[u8]) -> Outcome {
    match code {
        0 => Outcome::Open,
        1 => Outcome::Unreachable,
        2 => Outcome::NoSocket,
        3 => Outcome::TooMany,
        _ => {
            // The length repeats what the datagram's own length says.
            Outcome::Failed(String::from_utf8_lossy(rest.get(2..).unwrap_or_default()).into_owned())
        }
    }
}

fn id_at(bytes: &[u8], at: usize) -> Result<Uuid, DatagramError> {
    let id = bytes.get(at..).and_then(<[u8]>::first_chunk::<ID>);
    id.map(|id| Uuid::from_bytes(*id)).ok_or(DatagramError("too short for a session"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SESSION: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);

    #[test]
    fn bytes_are_those_of_cloudflared() {
        let v2 = Version::V2.payload(SESSION, b"hi");
        assert_eq!(&v2[..], b"hi\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x00");
        let v3 = Version::V3.payload(SESSION, b"hi");
        assert_eq!(&v3[..], b"\x01\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10hi");
        let asked = register(SESSION, "10.0.0.2:53".parse().unwrap(), Duration::from_secs(258));
        assert_eq!(
            &asked[..],
            b"\x00\x00\x00\x35\x01\x02\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x0a\x00\x00\x02"
        );
        let answer = registered(SESSION, &Outcome::Failed("no".to_owned()));
        assert_eq!(
            &answer[..],
            b"\x03\xff\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x00\x02no"
        );
    }

    #[test]
    fn what_is_written_is_read() {
        for version in [Version::V2, Version::V3] {
            for data in [&b""[..], b"x", &[0; PAYLOAD_MAX]] {
                let read = version.decode(version.payload(SESSION, data)).unwrap();
                assert_eq!(read, Datagram::Payload { id: SESSION, data: Bytes::copy_from_slice(data) });
            }
        }
        for to in ["10.0.0.2:53", "[2001:db8::2]:443"] {
            let (to, idle) = (to.parse().unwrap(), Duration::from_secs(60));
            let read = Version::V3.decode(register(SESSION, to, idle)).unwrap();
            assert_eq!(read, Datagram::Register { id: SESSION, to, idle });
        }
        let failed = Outcome::Failed("why".to_owned());
        for outcome in [Outcome::Open, Outcome::Unreachable, Outcome::NoSocket, Outcome::TooMany, failed] {
            let read = Version::V3.decode(registered(SESSION, &outcome)).unwrap();
            assert_eq!(read, Datagram::Registered { id: SESSION, outcome });
        }
    }

    #[test]
    fn packets_of_other_kinds_are_told_apart() {
        assert_eq!(Version::V2.decode(Bytes::from_static(b"packet\x01")), Ok(Datagram::Other));
        assert_eq!(Version::V3.decode(Bytes::from_static(b"\x02packet")), Ok(Datagram::Other));
        assert!(Version::V2.decode(Bytes::from_static(b"packet\x09")).is_err());
        assert!(Version::V3.decode(Bytes::from_static(b"\x09packet")).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for version in [Version::V2, Version::V3] {
                drop(version.decode(Bytes::from(bytes.clone())));
            }
        }
    }
}
