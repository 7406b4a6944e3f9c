//! Quick tunnels: a name under the domain for whoever asks, for as long as he runs it.

use std::net::IpAddr;

use crate::ingress::IpPrefix;

/// Quick tunnels at once, unless the file says otherwise.
pub const LIMIT: usize = 20;

/// Who gets quick tunnels, and how many there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuickTunnels {
    /// Addresses that may ask.
    pub allow: Vec<IpPrefix>,
    /// How many there may be at once.
    pub limit: usize,
}

impl QuickTunnels {
    /// Whether this address may ask.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|prefix| prefix.contains(address))
    }
}

const FIRST: [&str; 32] = [
    "amber", "bold", "brave", "bright", "calm", "clever", "cosy", "crisp", "eager", "early", "fair", "fresh",
    "gentle", "glad", "golden", "happy", "honest", "keen", "kind", "lively", "lucky", "merry", "mild",
    "neat", "noble", "plain", "proud", "quiet", "rapid", "silver", "sunny", "warm",
];
const SECOND: [&str; 32] = [
    "badger", "beaver", "bison", "crane", "curlew", "dove", "falcon", "ferret", "finch", "fox", "hare",
    "heron", "ibex", "jay", "lark", "lynx", "marten", "mole", "otter", "owl", "panda", "plover", "rabbit",
    "raven", "robin", "seal", "stork", "swan", "tern", "trout", "weasel", "wren",
];

/// A name of two words and four letters, made of random bytes: 2^30 of them, so nobody finds one by guessing.
#[must_use]
pub fn name(random: [u8; 6]) -> String {
    let [first, second, letters @ ..] = random;
    let word =
        |words: &[&'static str; 32], byte: u8| words.get(usize::from(byte % 32)).copied().unwrap_or("a");
    let letters: String = letters.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    format!("{}-{}-{letters}", word(&FIRST, first), word(&SECOND, second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Hostname;

    #[test]
    fn names_are_host_names_whatever_the_bytes() {
        for byte in 0..=255 {
            let name = name([byte, byte.wrapping_mul(7), byte, 3, 200, byte]);
            assert!(Hostname::parse(&format!("{name}.home.example")).is_ok(), "{name}");
        }
        assert_eq!(name([0, 0, 0, 1, 2, 3]), "amber-badger-abcd");
    }

    #[test]
    fn only_allowed_addresses_may_ask() {
        let quick = QuickTunnels { allow: vec!["192.0.2.0/24".parse().unwrap()], limit: 1 };
        assert!(quick.allows("192.0.2.7".parse().unwrap()) && !quick.allows("192.0.3.7".parse().unwrap()));
    }
}
