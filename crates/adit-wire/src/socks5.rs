//! SOCKS5 as its server reads it: one greeting, one request (RFC 1928). Without authentication, CONNECT only, as
//! cloudflared's `socks-proxy` service has it (`socks/`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The answer to a greeting that offers to go without authentication.
pub const NO_AUTHENTICATION: [u8; 2] = [VERSION, 0];
/// The answer to a greeting that does not.
pub const NO_ACCEPTABLE_METHOD: [u8; 2] = [VERSION, 0xFF];

const VERSION: u8 = 5;
const CONNECT: u8 = 1;

/// Where a client wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A name to be resolved here, and a port.
    Name(String, u16),
}

/// What a request is answered with (RFC 1928, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum Reply {
    /// The connection stands.
    #[error("succeeded")]
    Succeeded = 0,
    /// The bytes make no sense.
    #[error("not SOCKS5")]
    GeneralFailure = 1,
    /// The rules say no.
    #[error("not allowed by the rule's `ipRules`")]
    NotAllowed = 2,
    /// The name does not resolve, or there is no way.
    #[error("the host cannot be reached")]
    HostUnreachable = 4,
    /// Nobody listens there.
    #[error("connection refused")]
    ConnectionRefused = 5,
    /// Neither BIND nor UDP ASSOCIATE.
    #[error("only CONNECT is supported")]
    CommandNotSupported = 7,
    /// Neither IPv4, IPv6 nor a name.
    #[error("this kind of address is not supported")]
    AddressNotSupported = 8,
}

impl Reply {
    /// The bytes of it. The bound address is not told.
    #[must_use]
    pub fn encode(self) -> [u8; 10] {
        [VERSION, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

/// Reads a greeting: its length, and whether it offers to go without authentication. `None`: more bytes are needed.
///
/// # Errors
/// When it is another protocol.
pub fn greeting(bytes: &[u8]) -> Result<Option<(usize, bool)>, Reply> {
    match bytes {
        [] | [VERSION] => Ok(None),
        [VERSION, count, rest @ ..] => match rest.get(..usize::from(*count)) {
            Some(methods) => Ok(Some((2 + methods.len(), methods.contains(&0)))),
            None => Ok(None),
        },
        _ => Err(Reply::GeneralFailure),
    }
}

/// Reads a request: its length and its target. `None`: more bytes are needed.
///
/// # Errors
/// The reply that it gets.
pub fn request(bytes: &[u8]) -> Result<Option<(usize, Target)>, Reply> {
    if bytes.first().is_some_and(|version| *version != VERSION) {
        return Err(Reply::GeneralFailure);
    }
    let Some((&[_, command, _, kind], rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    if command != CONNECT {
        return Err(Reply::CommandNotSupported);
    }
    let parsed = match kind {
        1 => fixed(rest, |v4: [u8; 4]| IpAddr::V4(Ipv4Addr::from(v4))),
        4 => fixed(rest, |v6: [u8; 16]| IpAddr::V6(Ipv6Addr::from(v6))),
        3 => name(rest)?,
        _ => return Err(Reply::AddressNotSupported),
    };
    Ok(parsed.map(|(length, target)| (4 + length, target)))
}

fn fixed<const N: usize>(bytes: &[u8], address: impl Fn([u8; N]) -> IpAddr) -> Option<(usize, Target)> {
    let (host, rest) = bytes.split_first_chunk::<N>()?;
    let port = port(rest)?;
    Some((N + 2, Target::Address(SocketAddr::new(address(*host), port))))
}

fn name(bytes: &[u8]) -> Result<Option<(usize, Target)>, Reply> {
    let Some((length, rest)) = bytes.split_first() else { return Ok(None) };
    let length = usize::from(*length);
    let (Some(host), Some(port)) = (rest.get(..length), rest.get(length..).and_then(port)) else {
        return Ok(None);
    };
    // Names are ASCII; what is not one cannot be resolved.
    let host = std::str::from_utf8(host).ok().filter(|host| host.bytes().all(|byte| byte.is_ascii_graphic()));
    let host = host.filter(|host| !host.is_empty()).ok_or(Reply::HostUnreachable)?;
    Ok(Some((1 + length + 2, Target::Name(host.to_owned(), port))))
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|port| u16::from_be_bytes(*port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_offers_methods() {
        assert_eq!(greeting(&[5, 1, 0, 9]), Ok(Some((3, true))));
        assert_eq!(greeting(&[5, 2, 1, 2]), Ok(Some((4, false))));
        assert_eq!(greeting(&[5, 3, 0]), Ok(None));
        assert_eq!(greeting(b"GET /"), Err(Reply::GeneralFailure));
    }

    #[test]
    fn requests_are_read_to_the_byte_and_not_before() {
        let v6: Vec<u8> = [&[5, 1, 0, 4][..], &[0; 15], &[1, 0x1F, 0x90]].concat();
        let cases: [(&[u8], Target); 3] = [
            (&[5, 1, 0, 1, 10, 0, 0, 7, 0, 22], Target::Address("10.0.0.7:22".parse().unwrap())),
            (b"\x05\x01\x00\x03\x03nas\x01\xBB", Target::Name("nas".to_owned(), 443)),
            (&v6, Target::Address("[::1]:8080".parse().unwrap())),
        ];
        for (bytes, target) in cases {
            for length in 0..bytes.len() {
                assert_eq!(request(&bytes[..length]), Ok(None), "{length} of {bytes:?}");
            }
            let whole = Ok(Some((bytes.len(), target)));
            assert_eq!(request(bytes), whole);
            assert_eq!(request(&[bytes, b"more"].concat()), whole);
        }
    }

    #[test]
    fn what_is_not_served_gets_its_reply() {
        assert_eq!(request(&[4, 1, 0, 80]), Err(Reply::GeneralFailure));
        assert_eq!(request(&[5, 3, 0, 1]), Err(Reply::CommandNotSupported));
        assert_eq!(request(&[5, 1, 0, 9]), Err(Reply::AddressNotSupported));
        assert_eq!(request(b"\x05\x01\x00\x03\x03a b\x00\x16"), Err(Reply::HostUnreachable));
        assert_eq!(Reply::NotAllowed.encode()[..2], [5, 2]);
    }
}
