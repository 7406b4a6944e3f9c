//! Who may come, and with what: `allow`, `deny`, `deny-mode`, `methods`, `body-limit`, `maintenance`.

use std::sync::Arc;

use adit_policy::policy::address::{self, Addresses};
use adit_policy::policy::limit::DenyMode;
use http::Method;

use super::Decoder;
use crate::yaml::{self, Node};

/// What visitors read where `maintenance: true` says no more.
const MAINTENANCE: &str = "This site is being worked on. Please come back a little later.";

impl Decoder<'_> {
    pub(super) fn networks(&mut self, node: &Node) -> Option<Option<Addresses>> {
        self.unless_off(node, Self::some_networks)
    }

    /// Networks, or single addresses.
    pub(super) fn some_networks(&mut self, node: &Node) -> Option<Addresses> {
        let mut networks = Vec::new();
        for node in yaml::one_or_many(node) {
            let text = yaml::text(node, self.findings)?;
            match address::parse(text) {
                Some(network) => networks.push(network),
                None => {
                    self.findings
                        .error(node.span, format!("`{text}` is no address and no network"))
                        .help("for example `192.0.2.7` or `10.0.0.0/8`");
                }
            }
        }
        Some(Addresses::of(&networks))
    }

    pub(super) fn deny_mode(&mut self, node: &Node) -> Option<DenyMode> {
        yaml::word(node, &[("answer", DenyMode::Answer), ("drop", DenyMode::Drop)], self.findings)
    }

    pub(super) fn methods(&mut self, node: &Node) -> Option<Option<Arc<[Method]>>> {
        self.unless_off(node, |decoder, node| {
            let mut methods = Vec::new();
            for node in yaml::one_or_many(node) {
                let text = yaml::text(node, decoder.findings)?;
                let method = Method::from_bytes(text.as_bytes()).ok();
                match method.filter(|method| !method.as_str().contains(|c: char| c.is_ascii_lowercase())) {
                    Some(method) => methods.push(method),
                    None => {
                        decoder
                            .findings
                            .error(node.span, format!("`{text}` is no method"))
                            .help("for example `[GET, HEAD, POST]`");
                    }
                }
            }
            // Whoever may read may ask about it.
            if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
                methods.push(Method::HEAD);
            }
            Some(methods.into())
        })
    }

    pub(super) fn body_limit(&mut self, node: &Node) -> Option<Option<u64>> {
        self.unless_off(node, Self::size)
    }

    pub(super) fn maintenance(&mut self, node: &Node) -> Option<Option<Arc<str>>> {
        match yaml::truth_of(node) {
            Some(on) => Some(on.then(|| MAINTENANCE.into())),
            None => yaml::text(node, self.findings).map(|text| Some(text.into())),
        }
    }
}
