//! The PROXY protocol towards a TCP service: whose connection it is. Versions 1 and 2 of HAProxy's `proxy-protocol.txt`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use adit_policy::ingress::ProxyProtocol;

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
