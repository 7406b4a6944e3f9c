//! The secret of a tunnel: shown to nobody, cleared from memory, compared in constant time.

use std::fmt;

use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

/// The secrets that a tunnel accepts. While one is being replaced, the old one stays good until its end.
#[derive(Clone, Default)]
pub struct TunnelSecret {
    accepted: Vec<AcceptedSecret>,
}

/// One secret, with its end.
#[derive(Clone)]
pub struct AcceptedSecret {
    bytes: Zeroizing<Vec<u8>>,
    not_after: Option<u64>,
}

impl AcceptedSecret {
    /// A secret that is good up to and including `not_after` (seconds since 1970), or for ever.
    #[must_use]
    pub fn new(bytes: Vec<u8>, not_after: Option<u64>) -> Self {
        Self { bytes: Zeroizing::new(bytes), not_after }
    }

    fn matches(&self, candidate: &[u8], now_unix: u64) -> Choice {
        let live = self.not_after.is_none_or(|end| now_unix <= end) && !self.bytes.is_empty();
        self.bytes.ct_eq(candidate) & Choice::from(u8::from(live))
    }
}

impl TunnelSecret {
    /// One secret without an end.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self::rotating(vec![AcceptedSecret::new(bytes, None)])
    }

    /// Several secrets side by side.
    #[must_use]
    pub fn rotating(accepted: Vec<AcceptedSecret>) -> Self {
        Self { accepted }
    }

    /// Whether something holds for one of the secrets that are good now, such as that it has made a signature. All are tried.
    #[must_use]
    pub fn any(&self, now_unix: u64, holds: impl Fn(&[u8]) -> bool) -> bool {
        let live = |secret: &&AcceptedSecret| {
            secret.not_after.is_none_or(|end| now_unix <= end) && !secret.bytes.is_empty()
        };
        self.accepted.iter().filter(live).fold(false, |found, secret| holds(&secret.bytes) | found)
    }

    /// Whether the candidate is one of the secrets that are good now (seconds since 1970). The time it takes tells
    /// nothing but the length.
    #[must_use]
    pub fn verify(&self, candidate: &[u8], now_unix: u64) -> bool {
        let none = Choice::from(0);
        self.accepted.iter().fold(none, |found, secret| found | secret.matches(candidate, now_unix)).into()
    }
}

impl fmt::Debug for TunnelSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TunnelSecret({} accepted)", self.accepted.len())
    }
}

impl fmt::Debug for AcceptedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AcceptedSecret(…, not after {:?})", self.not_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_pass() {
        let secret = TunnelSecret::new(vec![7; 32]);
        assert!(secret.verify(&[7; 32], 0));
        for wrong in [&[7; 31][..], &[7; 33], &[8; 32], &[]] {
            assert!(!secret.verify(wrong, 0));
        }
    }

    #[test]
    fn an_empty_secret_opens_nothing() {
        assert!(!TunnelSecret::new(Vec::new()).verify(&[], 0));
        assert!(!TunnelSecret::default().verify(&[], 0));
    }

    #[test]
    fn a_rotated_secret_is_good_until_its_end() {
        let old = AcceptedSecret::new(vec![1; 32], Some(1000));
        let secret = TunnelSecret::rotating(vec![AcceptedSecret::new(vec![2; 32], None), old]);
        assert!(secret.verify(&[1; 32], 1000));
        assert!(!secret.verify(&[1; 32], 1001));
        assert!(secret.verify(&[2; 32], 1001));
    }

    #[test]
    fn nothing_shows_the_bytes() {
        let secret = TunnelSecret::new(b"a secret of bytes".to_vec());
        assert_eq!(format!("{secret:?}"), "TunnelSecret(1 accepted)");
        assert!(!format!("{:?}", AcceptedSecret::new(vec![65; 20], None)).contains("65"));
    }
}
