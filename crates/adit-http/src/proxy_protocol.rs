//! The PROXY protocol: whose connection it is, towards a TCP service and from a proxy in front. Versions 1 and 2 of
//! HAProxy's `proxy-protocol.txt`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use adit_policy::ingress::ProxyProtocol;
use adit_policy::limits::PROXY_HEADER_MAX;

const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
const V2_TCP4: u8 = 0x11;
const V2_TCP6: u8 = 0x21;

/// The bytes that go before all others; none when it is off. A visitor whose address is not known is "unknown"; where
/// only the port is not known, it is 0.
#[must_use]
pub fn header(version: ProxyProtocol, visitor: Option<SocketAddr>, service: SocketAddr) -> Vec<u8> {
    let pair = visitor.map(|visitor| same_family(visitor.ip(), service.ip()));
    let ports = [visitor.map_or(0, |visitor| visitor.port()), service.port()];
    match version {
        ProxyProtocol::Off => Vec::new(),
        ProxyProtocol::V1 => v1(pair, ports),
        ProxyProtocol::V2 => v2(pair, ports),
    }
}

/// Both addresses in one family: IPv6, unless both are IPv4.
fn same_family(visitor: IpAddr, service: IpAddr) -> (IpAddr, IpAddr) {
    let (visitor, service) = (visitor.to_canonical(), service.to_canonical());
    if visitor.is_ipv4() == service.is_ipv4() {
        return (visitor, service);
    }
    (wide(visitor).into(), wide(service).into())
}

fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn v1(pair: Option<(IpAddr, IpAddr)>, [from, to]: [u16; 2]) -> Vec<u8> {
    let mut line = String::from("PROXY ");
    let written = match pair {
        None => line.write_str("UNKNOWN"),
        Some((visitor, service)) => {
            let family = if visitor.is_ipv4() { "TCP4" } else { "TCP6" };
            write!(line, "{family} {visitor} {service} {from} {to}")
        }
    };
    // Writing to a string does not fail.
    written.unwrap_or_default();
    (line + "\r\n").into_bytes()
}

fn v2(pair: Option<(IpAddr, IpAddr)>, ports: [u16; 2]) -> Vec<u8> {
    let (command, family, addresses) = match pair {
        None => (V2_LOCAL, 0, Vec::new()),
        Some((IpAddr::V4(visitor), IpAddr::V4(service))) => {
            (V2_PROXY, V2_TCP4, [visitor.octets(), service.octets()].concat())
        }
        Some((visitor, service)) => {
            (V2_PROXY, V2_TCP6, [wide(visitor).octets(), wide(service).octets()].concat())
        }
    };
    let ports = if pair.is_some() { ports.map(u16::to_be_bytes).concat() } else { Vec::new() };
    let length = u16::try_from(addresses.len() + ports.len()).unwrap_or_default();
    [&V2_SIGNATURE[..], &[command, family], &length.to_be_bytes(), &addresses, &ports].concat()
}

const V1_START: &[u8] = b"PROXY ";
/// Bytes of a line of version 1, with its end.
const V1_MAX: usize = 107;
/// Bytes of version 2 before the addresses.
const V2_HEAD: usize = 16;

/// A header that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// Whether bytes begin as a header does.
#[must_use]
pub fn is_header(bytes: &[u8]) -> bool {
    bytes.starts_with(V1_START) || bytes.starts_with(&V2_SIGNATURE)
}

/// Reads a header off the front: the address in it, and how many bytes it takes. No header takes no bytes; one without an
/// address (`UNKNOWN`, `LOCAL`) is the proxy's own. `None` when more bytes are needed.
///
/// # Errors
/// When it is one and makes no sense.
pub fn parse(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, Malformed> {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(a, b)| a == b);
    if bytes.is_empty() {
        return Ok(None);
    }
    if begins(&V2_SIGNATURE) {
        return if bytes.len() < V2_HEAD { Ok(None) } else { parse_v2(bytes) };
    }
    if begins(V1_START) {
        return if bytes.len() < V1_START.len() { Ok(None) } else { parse_v1(bytes) };
    }
    Ok(Some((None, 0)))
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, Malformed> {
    let Some(end) = bytes.iter().take(V1_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() >= V1_MAX { Err(Malformed("the line does not end")) } else { Ok(None) };
    };
    let line = bytes.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(Malformed("not a line of text"))?;
    let words: Vec<&str> = line.split(' ').collect();
    let address = match *words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), from, to, from_port, to_port] => {
            let from = v1_address(family, from, from_port)?;
            v1_address(family, to, to_port)?;
            Some(from)
        }
        _ => return Err(Malformed("neither TCP4, TCP6 nor UNKNOWN with two addresses and ports")),
    };
    Ok(Some((address, end + 1)))
}

fn v1_address(family: &str, address: &str, port: &str) -> Result<SocketAddr, Malformed> {
    let address: IpAddr = address.parse().map_err(|_| Malformed("bad address"))?;
    if address.is_ipv4() != (family == "TCP4") {
        return Err(Malformed("an address of another family"));
    }
    let port = port.parse().map_err(|_| Malformed("bad port"))?;
    Ok(SocketAddr::new(address.to_canonical(), port))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, Malformed> {
    let &[command, family, high, low] =
        bytes.get(12..V2_HEAD).and_then(|head| head.first_chunk()).ok_or(Malformed("cut"))?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = V2_HEAD + length;
    if whole > PROXY_HEADER_MAX {
        return Err(Malformed("too long"));
    }
    let Some(payload) = bytes.get(V2_HEAD..whole) else { return Ok(None) };
    let address = match (command, family) {
        (V2_LOCAL, _) => None,
        (V2_PROXY, V2_TCP4) => Some(v2_address::<4, 12>(payload)?),
        (V2_PROXY, V2_TCP6) => Some(v2_address::<16, 36>(payload)?),
        // Datagrams and Unix sockets come from no proxy of ours; the header says nothing about a visitor then.
        (V2_PROXY, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => None,
        (V2_PROXY, _) => return Err(Malformed("an unknown family")),
        _ => return Err(Malformed("an unknown version or command")),
    };
    Ok(Some((address, whole)))
}

/// The source of two addresses of so many bytes, with their ports behind.
fn v2_address<const ADDRESS: usize, const ALL: usize>(payload: &[u8]) -> Result<SocketAddr, Malformed>
where
    IpAddr: From<[u8; ADDRESS]>,
{
    let all: &[u8; ALL] = payload.first_chunk().ok_or(Malformed("shorter than its addresses"))?;
    let address: [u8; ADDRESS] = *all.first_chunk().ok_or(Malformed("cut"))?;
    let port = all.get(2 * ADDRESS..2 * ADDRESS + 2).and_then(|port| port.first_chunk()).copied();
    let port = u16::from_be_bytes(port.ok_or(Malformed("cut"))?);
    Ok(SocketAddr::new(IpAddr::from(address).to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(version: ProxyProtocol, visitor: Option<&str>, service: &str) -> Vec<u8> {
        header(
            version,
            visitor.map(|address| SocketAddr::new(address.parse().unwrap(), 0)),
            service.parse().unwrap(),
        )
    }

    #[test]
    fn what_is_written_is_read() {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            for visitor in ["192.0.2.1:4711", "[2001:db8::1]:4711"] {
                let visitor: SocketAddr = visitor.parse().unwrap();
                let mut bytes = header(version, Some(visitor), "[::1]:22".parse().unwrap());
                let length = bytes.len();
                bytes.extend_from_slice(b"and more");
                assert_eq!(parse(&bytes), Ok(Some((Some(visitor), length))), "{version}");
                for cut in 0..length {
                    assert_eq!(parse(&bytes[..cut]), Ok(None), "{version}: {cut}");
                }
            }
            let unknown = header(version, None, "[::1]:22".parse().unwrap());
            assert_eq!(parse(&unknown), Ok(Some((None, unknown.len()))));
        }
        assert_eq!(parse(b"GET / HTTP/1.1"), Ok(Some((None, 0))));
        assert_eq!(parse(b"\x16\x03\x01"), Ok(Some((None, 0))));
    }

    #[test]
    fn lying_headers_are_malformed() {
        let v2 = |tail: &[u8]| [&V2_SIGNATURE[..], tail].concat();
        for bytes in [
            b"PROXY TCP4 192.0.2.1 10.0.0.7 0\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.7 1 70000\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 10.0.0.7 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.7 1 2\n".to_vec(),
            [&b"PROXY "[..], &[b'x'; 200]].concat(),
            v2(&[0x21, 0x11, 0, 4, 192, 0, 2, 1]),
            v2(&[0x11, 0x11, 0, 0]),
            v2(&[0x2f, 0x11, 0, 0]),
            v2(&[0x21, 0x55, 0, 0]),
            v2(&[0x21, 0x11, 0xff, 0xff]),
        ] {
            assert!(parse(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn version_1_is_a_line() {
        for (visitor, service, line) in [
            (Some("192.0.2.1"), "10.0.0.7:22", "PROXY TCP4 192.0.2.1 10.0.0.7 0 22\r\n"),
            (Some("2001:db8::1"), "[::1]:22", "PROXY TCP6 2001:db8::1 ::1 0 22\r\n"),
            (Some("192.0.2.1"), "[::1]:22", "PROXY TCP6 ::ffff:192.0.2.1 ::1 0 22\r\n"),
            (None, "10.0.0.7:22", "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(String::from_utf8(text(ProxyProtocol::V1, visitor, service)).unwrap(), line);
        }
    }

    #[test]
    fn version_2_is_the_signature_and_addresses() {
        let bytes = text(ProxyProtocol::V2, Some("192.0.2.1"), "10.0.0.7:22");
        assert_eq!(bytes[..12], V2_SIGNATURE);
        assert_eq!(bytes[12..], [0x21, 0x11, 0, 12, 192, 0, 2, 1, 10, 0, 0, 7, 0, 0, 0, 22]);
        assert_eq!(text(ProxyProtocol::V2, Some("2001:db8::1"), "[::1]:22").len(), 16 + 36);
        assert_eq!(text(ProxyProtocol::V2, None, "[::1]:22")[12..], [0x20, 0, 0, 0]);
        let known = header(ProxyProtocol::V1, "192.0.2.1:4711".parse().ok(), "10.0.0.7:22".parse().unwrap());
        assert_eq!(known, b"PROXY TCP4 192.0.2.1 10.0.0.7 4711 22\r\n");
        assert!(text(ProxyProtocol::Off, None, "[::1]:22").is_empty());
    }
}
