//! Whose word about a visitor counts: proxies in front of the edge, and the field that each says it in.

use std::net::IpAddr;

use crate::ingress::IpPrefix;

/// The field in which a proxy names the visitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressField {
    /// `X-Forwarded-For`: each proxy adds whom it saw, so the right-most address that is no proxy's is the visitor.
    #[default]
    ForwardedFor,
    /// `Fly-Client-IP` of Fly.io's platform.
    Fly,
    /// `CF-Connecting-IP` of Cloudflare.
    Cloudflare,
    /// `X-Real-IP`, as nginx is mostly told to set it.
    RealIp,
}

impl AddressField {
    /// The field's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ForwardedFor => "x-forwarded-for",
            Self::Fly => "fly-client-ip",
            Self::Cloudflare => "cf-connecting-ip",
            Self::RealIp => "x-real-ip",
        }
    }
}

/// The proxies that are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Where they come from.
    pub from: Vec<IpPrefix>,
    /// How they name the visitor.
    pub field: AddressField,
}

/// Where Fly.io's proxies come from, seen from a machine of theirs (fly.io/docs/networking/request-headers): their side of
/// the private network of each machine.
pub const FLY: [&str; 2] = ["172.16.0.0/12", "fdaa::/16"];

/// Where Cloudflare's proxies come from (cloudflare.com/ips).
pub const CLOUDFLARE: [&str; 22] = [
    "173.245.48.0/20",
    "103.21.244.0/22",
    "103.22.200.0/22",
    "103.31.4.0/22",
    "141.101.64.0/18",
    "108.162.192.0/18",
    "190.93.240.0/20",
    "188.114.96.0/20",
    "197.234.240.0/22",
    "198.41.128.0/17",
    "162.158.0.0/15",
    "104.16.0.0/13",
    "104.24.0.0/14",
    "172.64.0.0/13",
    "131.0.72.0/22",
    "2400:cb00::/32",
    "2606:4700::/32",
    "2803:f800::/32",
    "2405:b500::/32",
    "2405:8100::/32",
    "2a06:98c0::/29",
    "2c0f:f248::/32",
];

impl Trust {
    /// Trusts these networks, which are written in CIDR form; what is none is left out.
    #[must_use]
    pub fn of(networks: &[&str], field: AddressField) -> Self {
        Self { from: networks.iter().filter_map(|network| network.parse().ok()).collect(), field }
    }

    /// Whether this address is a trusted proxy's.
    #[must_use]
    pub fn includes(&self, address: IpAddr) -> bool {
        self.from.iter().any(|prefix| prefix.contains(address))
    }

    /// The visitor, by the word of a trusted proxy: `values` are those of its field, in order. Without a word that can be
    /// read it is the proxy itself.
    #[must_use]
    pub fn visitor<'v>(&self, proxy: IpAddr, values: impl DoubleEndedIterator<Item = &'v [u8]>) -> IpAddr {
        if self.field != AddressField::ForwardedFor {
            // A field with one address; two of them are nobody's word.
            let mut values = values;
            return match (values.next(), values.next()) {
                (Some(value), None) => parse(value).unwrap_or(proxy),
                _ => proxy,
            };
        }
        let mut nearest = proxy;
        for entry in values.rev().flat_map(|value| value.rsplit(|byte| *byte == b',')) {
            let Some(address) = parse(entry) else { return nearest };
            nearest = address;
            if !self.includes(address) {
                break;
            }
        }
        nearest
    }
}

/// An address as proxies write it: bare, in brackets, with or without a port.
fn parse(value: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let address = text.parse().or_else(|_| text.parse::<std::net::SocketAddr>().map(|address| address.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.ok().or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visitor(trust: &Trust, values: &[&str]) -> String {
        let proxy = "10.0.0.1".parse().unwrap();
        trust.visitor(proxy, values.iter().map(|value| value.as_bytes())).to_string()
    }

    #[test]
    fn the_right_most_address_that_is_no_proxy_s_is_the_visitor() {
        let trust = Trust::of(&["10.0.0.0/8"], AddressField::ForwardedFor);
        for (values, expected) in [
            (&["192.0.2.7"][..], "192.0.2.7"),
            (&["6.6.6.6, 192.0.2.7, 10.2.3.4"], "192.0.2.7"),
            (&["6.6.6.6", "192.0.2.7,10.9.9.9"], "192.0.2.7"),
            (&["6.6.6.6, nonsense, 10.2.3.4"], "10.2.3.4"),
            (&["10.5.5.5"], "10.5.5.5"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["[2001:db8::7]:4711"], "2001:db8::7"),
            (&["192.0.2.7:4711"], "192.0.2.7"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
            (&[""], "10.0.0.1"),
            (&["unknown"], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(visitor(&trust, values), expected, "{values:?}");
        }
    }

    #[test]
    fn a_field_with_one_address_says_it_once() {
        let trust = Trust::of(&FLY, AddressField::Fly);
        assert_eq!(visitor(&trust, &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(visitor(&trust, &["192.0.2.7", "6.6.6.6"]), "10.0.0.1");
        assert_eq!(visitor(&trust, &["192.0.2.7, 6.6.6.6"]), "10.0.0.1");
    }

    #[test]
    fn the_known_networks_can_be_read() {
        assert_eq!(Trust::of(&CLOUDFLARE, AddressField::Cloudflare).from.len(), CLOUDFLARE.len());
        let fly = Trust::of(&FLY, AddressField::Fly);
        assert!(fly.includes("172.19.4.2".parse().unwrap()) && fly.includes("fdaa::3".parse().unwrap()));
        assert!(!fly.includes("192.0.2.1".parse().unwrap()));
    }
}
