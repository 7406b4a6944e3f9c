//! The address that is dialled, as the network understands it: rules about addresses are judged by it, however it is spelled.
//!
//! One destination has many spellings: `::ffff:127.0.0.1` is 127.0.0.1, and Linux takes `0.0.0.0` and `::` for this machine
//! itself. Others lead there by way of a translator: `64:ff9b::7f00:1`, `2002:7f00:1::`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::IpRule;

/// Returns the address that the system connects to when it is given this one: an IPv4-mapped address is IPv4 (RFC 4291,
/// section 2.5.5.2), and the unspecified address is this machine.
#[must_use]
pub fn destination(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// The same of an address with a port. A scope stays where the address stays.
#[must_use]
pub fn destination_of(to: SocketAddr) -> SocketAddr {
    let address = destination(to.ip());
    if address == to.ip() { to } else { SocketAddr::new(address, to.port()) }
}

/// Whether the rules allow a destination; the first match decides, and without one the answer is no. An allowing rule
/// matches the destination itself. A denying rule also matches what a translator would make of it.
pub(super) fn allows(rules: &[IpRule], address: IpAddr, port: u16) -> bool {
    let destination = destination(address);
    let translated = translations(destination);
    let applies = |rule: &&IpRule| {
        let has_port = rule.ports.is_empty() || rule.ports.contains(&port);
        let holds = |address: &IpAddr| rule.prefix.contains(*address);
        has_port && (holds(&destination) || (!rule.allow && translated.iter().any(holds)))
    };
    rules.iter().find(applies).is_some_and(|rule| rule.allow)
}

/// Whether an address belongs to the machine's own link or to a cloud's metadata service, or is no single host's: link-local,
/// multicast, broadcast, and the metadata addresses that are not link-local. Credentials of the whole machine are handed
/// out there.
#[must_use]
pub fn is_special(address: IpAddr) -> bool {
    let destination = destination(address);
    is_special_itself(destination) || translations(destination).into_iter().any(is_special_itself)
}

/// Metadata services outside of the link-local networks.
const METADATA: [IpAddr; 5] = [
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Oracle Cloud.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // Azure's "wire server".
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Amazon EC2.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // Google Cloud.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

fn is_special_itself(address: IpAddr) -> bool {
    METADATA.contains(&address)
        || match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_multicast() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast(),
        }
}

/// The IPv4 destinations that translators and tunnels find in an IPv6 address.
fn translations(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = address else { return Vec::new() };
    let octets = v6.octets();
    let four = |at: [usize; 4]| IpAddr::from(at.map(|index| octets[index]));
    let last = four([12, 13, 14, 15]);
    let found = match v6.segments() {
        // IPv4-compatible (RFC 4291, section 2.5.5.1); `::1` is IPv6's own.
        [0, 0, 0, 0, 0, 0, high, low] if (high, low) != (0, 1) => vec![last],
        // IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0xffff, 0, _, _] => vec![last],
        // NAT64 (RFC 6052, section 2.1).
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => vec![last],
        // NAT64 of a site (RFC 8215), in each place where RFC 6052, section 2.2, puts the address.
        [0x64, 0xff9b, 1, ..] => {
            vec![last, four([6, 7, 9, 10]), four([7, 9, 10, 11]), four([9, 10, 11, 12])]
        }
        // 6to4 (RFC 3056).
        [0x2002, ..] => vec![four([2, 3, 4, 5])],
        // Teredo (RFC 4380): the client's address is inverted.
        [0x2001, 0, ..] => vec![IpAddr::from([12, 13, 14, 15].map(|index: usize| !octets[index]))],
        // ISATAP (RFC 5214).
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => vec![last],
        _ => Vec::new(),
    };
    found.into_iter().map(destination).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str, allow: bool) -> IpRule {
        IpRule { prefix: prefix.parse().unwrap(), ports: Vec::new(), allow }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Every spelling of this machine, and of 10.0.0.1.
    #[test]
    fn a_denied_destination_is_denied_in_every_spelling() {
        let deny_loopback =
            [rule("127.0.0.0/8", false), rule("::1/128", false), rule("0.0.0.0/0", true), rule("::/0", true)];
        for text in [
            "127.0.0.1",
            "127.255.1.2",
            "0.0.0.0",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::0.0.0.0",
            "64:ff9b:1::127.0.0.1",
            "64:ff9b:1:7f00:0:100::",
            "2002:7f00:1::1",
            "2001::ffff:ffff:80ff:fffe",
            "fd00::5efe:127.0.0.1",
        ] {
            assert!(!allows(&deny_loopback, address(text), 80), "{text}");
        }
        for text in ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "64:ff9b::10.0.0.1", "fd00::1"] {
            assert!(allows(&deny_loopback, address(text), 80), "{text}");
        }
    }

    #[test]
    fn an_allowing_rule_is_for_the_destination_itself() {
        let lan = [rule("10.0.0.0/8", true)];
        assert!(allows(&lan, address("10.1.2.3"), 80) && allows(&lan, address("::ffff:10.1.2.3"), 80));
        for text in ["64:ff9b::10.1.2.3", "2002:a01:203::1", "::10.1.2.3", "11.0.0.1"] {
            assert!(!allows(&lan, address(text), 80), "{text}");
        }
        let here = [rule("127.0.0.0/8", true), rule("::1/128", true)];
        assert!(allows(&here, address("0.0.0.0"), 80) && allows(&here, address("::"), 80));
    }

    #[test]
    fn a_prefix_in_mapped_form_means_ipv4() {
        let denied = [rule("::ffff:127.0.0.0/104", false), rule("0.0.0.0/0", true)];
        assert!(!allows(&denied, address("127.0.0.1"), 80) && allows(&denied, address("10.0.0.1"), 80));
    }

    #[test]
    fn the_dialled_address_is_the_judged_one() {
        for (given, dialled) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            ("[::ffff:0.0.0.0]:80", "127.0.0.1:80"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            assert_eq!(destination_of(given.parse().unwrap()), dialled.parse().unwrap(), "{given}");
        }
    }

    #[test]
    fn special_addresses_are_known_in_every_spelling() {
        for text in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "::169.254.169.254",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(is_special(address(text)), "{text}");
        }
        for text in ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd00::1", "fec0::1", "8.8.8.8"] {
            assert!(!is_special(address(text)), "{text}");
        }
    }
}
