//! Sets of addresses, as networks.

use std::net::IpAddr;
use std::sync::Arc;

use crate::ingress::IpPrefix;

/// A set of networks, found by bisection: lists of a hundred thousand are common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// First and last address of each, as numbers; in order, and without overlaps.
    v4: Arc<[(u32, u32)]>,
    v6: Arc<[(u128, u128)]>,
    /// As they were written, where there are few.
    text: Arc<[IpPrefix]>,
}

/// Networks that are shown as they were written.
const SHOWN_MAX: usize = 32;

impl Addresses {
    /// The set of these networks.
    #[must_use]
    pub fn of(networks: &[IpPrefix]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network.bounds() {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((first.to_bits(), last.to_bits())),
                _ => {}
            }
        }
        let text: Arc<[IpPrefix]> = networks.iter().take(SHOWN_MAX).copied().collect();
        Self { v4: merged(v4).into(), v6: merged(v6).into(), text }
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn includes(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.v4, address.to_bits()),
            IpAddr::V6(address) => holds(&self.v6, address.to_bits()),
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// How many networks there are, those that overlap counted as one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// The networks as they were written; of many, the first ones.
    #[must_use]
    pub fn shown(&self) -> &[IpPrefix] {
        &self.text
    }
}

fn merged<N: Ord + Copy>(mut ranges: Vec<(N, N)>) -> Vec<(N, N)> {
    ranges.sort_unstable();
    let mut merged: Vec<(N, N)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = (*end).max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn holds<N: Ord>(ranges: &[(N, N)], address: N) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

/// Reads an address, or a network.
#[must_use]
pub fn parse(text: &str) -> Option<IpPrefix> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(address.into()),
        Err(_) => text.parse().ok(),
    }
}

/// Reads a list of networks, one a line; `#` and `;` begin a comment. What is none is told by its line, from 1.
#[must_use]
pub fn parse_list(text: &str) -> (Vec<IpPrefix>, Vec<(usize, String)>) {
    let (mut networks, mut wrong) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let entry = line.split(['#', ';']).next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        match parse(entry) {
            Some(network) => networks.push(network),
            None => wrong.push((index + 1, entry.to_owned())),
        }
    }
    (networks, wrong)
}

/// Whom an address stands for when visitors are counted: itself, or the network of a home (IPv6: 64 bits), where one person
/// has all addresses.
#[must_use]
pub fn visitor(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_overlapping_networks() {
        let (networks, wrong) = parse_list(
            "10.0.0.0/8\n10.1.0.0/16 # inside\n; nothing\n192.0.2.7\n\n2001:db8::/32\nnonsense\n0.0.0.0/33\n",
        );
        assert_eq!(wrong, [(7, "nonsense".to_owned()), (8, "0.0.0.0/33".to_owned())]);
        let set = Addresses::of(&networks);
        assert_eq!(set.len(), 3);
        for (address, inside) in [
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.0.0.1", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(set.includes(address.parse().unwrap()), inside, "{address}");
        }
        assert!(!Addresses::default().includes("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_home_is_one_visitor() {
        let of = |text: &str| visitor(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
    }
}
