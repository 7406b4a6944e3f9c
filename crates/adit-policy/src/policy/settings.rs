//! What can be said about a name or a path, and what holds once everybody has spoken.

use std::fmt;
use std::sync::Arc;

use super::Expression;
use super::act::{Redirect, Respond, Rewrite};
use super::address::Addresses;
use super::compress::Compress;
use super::fields::{FieldRules, Hsts, SecurityHeaders};
use super::limit::{Ban, Concurrency, DenyMode, RateLimit, Reach, Timeouts};
use super::pace::MinRate;
use super::pages::Pages;
use crate::cache::rule::CacheRule;

/// Who said something, from the weakest word to the strongest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Voice {
    /// Nobody: it is so where nobody says otherwise.
    #[default]
    BuiltIn,
    /// `defaults` of the edge.
    Defaults,
    /// `edge` beside a rule of the connector.
    Connector,
    /// `hostnames` of the edge.
    Hostnames,
}

impl fmt::Display for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BuiltIn => "built in",
            Self::Defaults => "defaults",
            Self::Connector => "connector",
            Self::Hostnames => "hostnames",
        })
    }
}

/// How one word is laid over an earlier one.
trait Lay {
    fn lay(&mut self, over: &Self);

    /// Whether it says that nothing is done.
    fn is_off(&self) -> bool;
}

/// Most words replace what was there.
impl<T: Clone> Lay for Option<T> {
    fn lay(&mut self, over: &Self) {
        self.clone_from(over);
    }

    fn is_off(&self) -> bool {
        self.is_none()
    }
}

impl Lay for DenyMode {
    fn lay(&mut self, over: &Self) {
        *self = *over;
    }

    fn is_off(&self) -> bool {
        false
    }
}

impl Lay for Timeouts {
    fn lay(&mut self, over: &Self) {
        self.clone_from(over);
    }

    fn is_off(&self) -> bool {
        false
    }
}

impl Lay for MinRate {
    fn lay(&mut self, over: &Self) {
        *self = *over;
    }

    fn is_off(&self) -> bool {
        self.request == 0 && self.response == 0
    }
}

/// Rules for fields add up: whoever sets another field leaves the others alone.
impl Lay for FieldRules {
    fn lay(&mut self, over: &Self) {
        self.extend(over);
    }

    fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $key:literal,)*) => {
        /// What one voice says; where it is silent, the weaker ones count.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Patch { $($(#[$doc])* pub $field: Option<$type>,)* }

        /// What holds.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Settings {
            $($(#[$doc])* pub $field: $type,)*
            /// Who said what, by key.
            pub said: Vec<(&'static str, Voice)>,
            /// What tells these settings' counters from those of others: the name and the path that they are for.
            pub scope: Arc<str>,
        }

        impl Patch {
            /// The keys that it says something about.
            #[must_use]
            pub fn keys(&self) -> Vec<&'static str> {
                let mut keys = Vec::new();
                $(if self.$field.is_some() { keys.push($key); })*
                keys
            }

            /// The keys by which it asks for something: those that it only switches off are not among them.
            #[must_use]
            pub fn keys_in_use(&self) -> Vec<&'static str> {
                let mut keys = Vec::new();
                $(if self.$field.as_ref().is_some_and(|word| !word.is_off()) { keys.push($key); })*
                keys
            }
        }

        impl Settings {
            /// Lays what a voice says over what the weaker ones have said.
            pub fn lay(&mut self, patch: &Patch, voice: Voice) {
                $(if let Some(word) = &patch.$field {
                    self.$field.lay(word);
                    self.note($key, voice);
                })*
            }
        }
    };
}

settings! {
    /// What is kept and used again.
    cache: Option<Arc<CacheRule>> = "cache",
    /// How often a visitor may ask.
    rate_limit: Option<RateLimit> = "rate-limit",
    /// How much a visitor may ask at the same time.
    concurrency: Option<Concurrency> = "concurrency",
    /// Who is banned for what.
    ban: Option<Arc<Ban>> = "ban",
    /// Fields that are set, added and removed.
    headers: FieldRules = "headers",
    /// Fields that protect browsers.
    security_headers: Option<SecurityHeaders> = "security-headers",
    /// Whether browsers are told to come by HTTPS only.
    hsts: Option<Hsts> = "hsts",
    /// Bytes of the largest body of a request.
    body_limit: Option<u64> = "body-limit",
    /// What is compressed, and how.
    compress: Option<Arc<Compress>> = "compress",
    /// Where visitors are sent instead.
    redirect: Option<Arc<[Redirect]>> = "redirect",
    /// What the origin is asked for instead.
    rewrite: Option<Arc<[Rewrite]>> = "rewrite",
    /// What is answered instead.
    respond: Option<Respond> = "respond",
    /// The only addresses that may come.
    allow: Option<Addresses> = "allow",
    /// Addresses that may not come.
    deny: Option<Addresses> = "deny",
    /// What those get who may not come.
    deny_mode: DenyMode = "deny-mode",
    /// The only methods that are let through.
    methods: Option<Arc<[http::Method]>> = "methods",
    /// Pages in place of the built-in ones.
    pages: Option<Arc<Pages>> = "error-page",
    /// What visitors read while it is taken out of service.
    maintenance: Option<Arc<str>> = "maintenance",
    /// How long things may take.
    timeouts: Timeouts = "timeouts",
    /// How slow a client may be.
    min_rate: MinRate = "min-rate",
}

impl Settings {
    /// Narrows what a connector said to its own names. For each key, this is the only place that decides how far its word
    /// reaches; all other keys act on the requests of its rule alone.
    pub(super) fn confine(&mut self) {
        if let Some(ban) = self.ban.as_mut().filter(|ban| ban.reach == Reach::All)
            && self.said.contains(&("ban", Voice::Connector))
        {
            Arc::make_mut(ban).reach = Reach::Tunnel;
        }
    }

    /// Which redirect and which rewrite apply to a path, by their places.
    pub(super) fn target_rules(&self, path: &str) -> (Option<usize>, Option<usize>) {
        let redirects = self.redirect.as_deref().unwrap_or_default();
        let rewrites = self.rewrite.as_deref().unwrap_or_default();
        let matches = |from: &Expression| from.0.is_match(path);
        (
            redirects.iter().position(|rule| rule.from.as_ref().is_none_or(matches)),
            rewrites.iter().position(|rule| matches(&rule.from)),
        )
    }

    fn note(&mut self, key: &'static str, voice: Voice) {
        match self.said.iter_mut().find(|(known, _)| *known == key) {
            Some((_, said)) => *said = voice,
            None => self.said.push((key, voice)),
        }
    }
}
