//! Whose rules a connector serves: those of its own configuration, whatever an edge pushes; or, where it has none, the
//! edge's, inside of what its own side accepts. Taking the edge's rules back leaves what the own side says.

use adit_policy::ingress::{AcceptRules, Ingress, WarpRouting};

/// What a connector's own side says.
#[derive(Clone, Debug)]
pub struct Consent {
    /// Rules of its own; with them, nothing that an edge pushes is taken.
    pub own: Option<Ingress>,
    /// Private networks that it opens by itself; the edge does not change them.
    pub warp: Option<WarpRouting>,
    /// The limits of an edge's rules; `None` takes none of them.
    pub accept: Option<AcceptRules>,
}

impl Default for Consent {
    /// What holds for a connector that has credentials and nothing else.
    fn default() -> Self {
        Self { own: None, warp: None, accept: Some(AcceptRules::default()) }
    }
}

impl Consent {
    /// Whether an edge's rules are taken at all.
    #[must_use]
    pub fn takes_rules(&self) -> bool {
        self.own.is_none() && self.accept.is_some()
    }

    /// The rules that hold without an edge's: the own ones, else 503 for everything.
    pub(crate) fn base(&self) -> Ingress {
        let ingress = self.own.clone().unwrap_or_else(Ingress::default_503);
        self.with_own_warp(ingress)
    }

    /// The edge's rules with their limits.
    ///
    /// # Errors
    /// In words, why they are not taken.
    pub(crate) fn judge(&self, mut pushed: Ingress) -> Result<Ingress, String> {
        let Some(accept) = self.accept.as_ref().filter(|_| self.own.is_none()) else {
            return Err(KEEPS_ITS_OWN.to_owned());
        };
        if self.warp.is_some() {
            pushed.warp = WarpRouting::default();
        }
        accept.accept(pushed).map(|ingress| self.with_own_warp(ingress)).map_err(|error| error.to_string())
    }

    fn with_own_warp(&self, ingress: Ingress) -> Ingress {
        match &self.warp {
            Some(warp) => ingress.with_warp(warp.clone()),
            None => ingress,
        }
    }
}

/// The answer to an edge that pushes rules all the same.
pub(crate) const KEEPS_ITS_OWN: &str =
    "this connector keeps the rules of its own configuration; rules of the edge are not taken";

#[cfg(test)]
mod tests {
    use adit_policy::ingress::{IpRule, OriginRequest, Service};

    use super::*;

    fn rules(service: &str) -> Ingress {
        Ingress::single(Service::parse(service).unwrap(), OriginRequest::default())
    }

    fn first(ingress: &Ingress) -> String {
        ingress.rules[0].service.to_string()
    }

    #[test]
    fn own_rules_are_kept_whatever_is_pushed() {
        let own = Consent { own: Some(rules("http://own:1")), ..Consent::default() };
        assert!(!own.takes_rules() && own.judge(rules("http://pushed:1")).is_err());
        assert_eq!(first(&own.base()), "http://own:1");
        let closed = Consent { accept: None, ..Consent::default() };
        assert!(!closed.takes_rules() && closed.judge(rules("http://pushed:1")).is_err());
    }

    #[test]
    fn without_own_rules_the_edge_decides_within_limits() {
        let bare = Consent::default();
        assert_eq!(first(&bare.judge(rules("http://pushed:1")).unwrap()), "http://pushed:1");
        let refused = bare.judge(rules("unix:/var/run/docker.sock")).unwrap_err();
        assert!(refused.contains("rule #1 leads to `unix:/var/run/docker.sock`"), "{refused}");
        assert_eq!(first(&bare.base()), "http_status:503");
    }

    #[test]
    fn an_own_private_network_stays_beside_the_edge_s_rules() {
        let rule = |prefix: &str| IpRule { prefix: prefix.parse().unwrap(), ports: vec![22], allow: true };
        let warp = WarpRouting { ip_rules: vec![rule("10.0.0.5/32")], ..WarpRouting::default() };
        let consent = Consent { warp: Some(warp), ..Consent::default() };
        let mut pushed = rules("http://pushed:1");
        pushed.warp.ip_rules = vec![rule("0.0.0.0/0")];
        let taken = consent.judge(pushed).unwrap();
        assert!(taken.warp.allows("10.0.0.5:22".parse().unwrap()));
        assert!(!taken.warp.allows("10.0.0.6:22".parse().unwrap()));
        assert!(consent.base().warp.is_open());
    }
}
