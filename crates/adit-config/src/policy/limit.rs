//! `rate-limit`, `concurrency`, `ban`, `timeouts`, `min-rate`.

use std::sync::Arc;
use std::time::Duration;

use adit_policy::cache::rule::StatusRange;
use adit_policy::policy::limit::{Ban, Concurrency, LimitKey, RateLimit, Reach, Timeouts};
use adit_policy::policy::pace::MinRate;

use super::Decoder;
use crate::yaml::{self, Kind, Node, Table};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The shortest window of `min-rate`: below it, one lost packet makes a client slow.
const WINDOW_MIN: Duration = Duration::from_secs(1);

/// Answers that count where a ban says no more.
const BANNED_FOR: [StatusRange; 2] = [StatusRange::One(401), StatusRange::One(403)];

impl Decoder<'_> {
    pub(super) fn rate_limit(&mut self, node: &Node) -> Option<Option<RateLimit>> {
        self.unless_off(node, |decoder, node| {
            let Kind::Map(_) = &node.kind else {
                return Some(RateLimit { rate: decoder.rate(node)?, burst: 0, key: LimitKey::Address });
            };
            let mut table = Table::open(node, "`rate-limit`", decoder.findings)?;
            let rate = table.require("rate", "10/s", decoder.findings).and_then(|node| decoder.rate(node));
            let burst = table.take("burst");
            let burst = burst.and_then(|node| yaml::integer(node, 0..=1_000_000, decoder.findings));
            let key = table.take("key").and_then(|node| decoder.limit_key(node));
            table.finish(decoder.findings);
            Some(RateLimit { rate: rate?, burst: burst.unwrap_or(0), key: key.unwrap_or_default() })
        })
    }

    pub(super) fn concurrency(&mut self, node: &Node) -> Option<Option<Concurrency>> {
        self.unless_off(node, |decoder, node| {
            let Kind::Map(_) = &node.kind else {
                let requests = yaml::integer(node, 1..=1_000_000, decoder.findings)?;
                return Some(Concurrency { requests, key: LimitKey::Address });
            };
            let mut table = Table::open(node, "`concurrency`", decoder.findings)?;
            let requests = table.require("requests", "20", decoder.findings);
            let requests = requests.and_then(|node| yaml::integer(node, 1..=1_000_000, decoder.findings));
            let key = table.take("key").and_then(|node| decoder.limit_key(node));
            table.finish(decoder.findings);
            Some(Concurrency { requests: requests?, key: key.unwrap_or_default() })
        })
    }

    fn limit_key(&mut self, node: &Node) -> Option<LimitKey> {
        let text = yaml::text(node, self.findings)?;
        let call = text.strip_suffix(')').and_then(|text| text.split_once('('));
        match (text, call) {
            ("address", _) => Some(LimitKey::Address),
            ("identity", _) => Some(LimitKey::Identity),
            ("all", _) => Some(LimitKey::All),
            (_, Some(("header", name))) => {
                let name = Node { span: node.span, kind: Kind::Quoted(name.into()) };
                self.field_name(&name).map(LimitKey::Header)
            }
            (_, Some(("cookie", name))) if !name.is_empty() => Some(LimitKey::Cookie(name.to_owned())),
            _ => {
                self.findings
                    .error(node.span, format!("`{text}` is nobody who can be counted"))
                    .help("known: address, identity, header(NAME), cookie(NAME), all");
                None
            }
        }
    }

    pub(super) fn ban(&mut self, node: &Node) -> Option<Option<Arc<Ban>>> {
        self.unless_off(node, |decoder, node| {
            let is_on = yaml::truth_of(node) == Some(true);
            let nothing = Node::nowhere(Kind::Null);
            let mut table = Table::open(if is_on { &nothing } else { node }, "`ban`", decoder.findings)?;
            let statuses = table.take("statuses").map(yaml::one_or_many).unwrap_or_default();
            let mut statuses: Vec<StatusRange> =
                statuses.iter().filter_map(|node| decoder.status_range(node)).collect();
            if statuses.is_empty() {
                statuses = BANNED_FOR.to_vec();
            }
            let count = table.take("count");
            let count = count.and_then(|node| yaml::integer(node, 1..=100_000, decoder.findings));
            let window = table.take("window").and_then(|node| yaml::period(node, decoder.findings));
            let time = table.take("time").and_then(|node| yaml::period(node, decoder.findings));
            let time_max = table.take("time-max").and_then(|node| yaml::period(node, decoder.findings));
            let allow = table.take("allow").and_then(|node| decoder.some_networks(node));
            let shared = table.take("shared").and_then(|node| yaml::boolean(node, decoder.findings));
            table.finish(decoder.findings);
            let time = time.unwrap_or(HOUR);
            Some(Arc::new(Ban {
                statuses,
                count: count.unwrap_or(5),
                window: window.unwrap_or(10 * MINUTE),
                time,
                time_max: time_max.unwrap_or(7 * 24 * HOUR).max(time),
                allow: allow.unwrap_or_default(),
                reach: reach(shared),
            }))
        })
    }

    /// `404`, `4xx` or `any`.
    pub(super) fn status_range(&mut self, node: &Node) -> Option<StatusRange> {
        let text = yaml::text(node, self.findings)?;
        if text == "any" {
            return Some(StatusRange::Any);
        }
        let class = text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok());
        if let Some(class) = class.filter(|class| (1..=5).contains(class)) {
            return Some(StatusRange::Class(class));
        }
        match text.parse::<u16>() {
            Ok(status) if (100..=599).contains(&status) => Some(StatusRange::One(status)),
            _ => {
                self.findings
                    .error(node.span, format!("`{text}` is no status"))
                    .help("for example `404`, `5xx` or `any`");
                None
            }
        }
    }

    pub(super) fn timeouts(&mut self, node: &Node) -> Option<Timeouts> {
        let mut table = Table::open(node, "`timeouts`", self.findings)?;
        let answer = table.take("answer").and_then(|node| yaml::period(node, self.findings));
        let idle = table.take("idle").and_then(|node| yaml::period(node, self.findings));
        table.finish(self.findings);
        let some = |time: Option<Duration>| time.filter(|time| !time.is_zero());
        Some(Timeouts { answer: some(answer), idle: some(idle) })
    }

    /// `false`, a rate for both directions in bytes per second, or a table.
    pub(super) fn min_rate(&mut self, node: &Node) -> Option<MinRate> {
        let default = MinRate::default();
        if yaml::truth_of(node) == Some(false) {
            return Some(MinRate::OFF);
        }
        let Kind::Map(_) = &node.kind else {
            let rate = self.size(node)?;
            return Some(MinRate { request: rate, response: rate, ..default });
        };
        let mut table = Table::open(node, "`min-rate`", self.findings)?;
        let (request, response) = (table.take("request"), table.take("response"));
        let window = table.take("window").and_then(|node| self.window(node));
        let grace = table.take("grace").and_then(|node| yaml::period(node, self.findings));
        let request = request.and_then(|node| self.rate_or_off(node));
        let response = response.and_then(|node| self.rate_or_off(node));
        table.finish(self.findings);
        Some(MinRate {
            request: request.unwrap_or(default.request),
            response: response.unwrap_or(default.response),
            window: window.unwrap_or(default.window),
            grace: grace.unwrap_or(default.grace),
        })
    }

    fn rate_or_off(&mut self, node: &Node) -> Option<u64> {
        if yaml::truth_of(node) == Some(false) { Some(0) } else { self.size(node) }
    }

    fn window(&mut self, node: &Node) -> Option<Duration> {
        let time = yaml::period(node, self.findings)?;
        if time < WINDOW_MIN {
            let message = "the window of `min-rate` is shorter than 1s";
            self.findings.error(node.span, message).help("for example `window: 30s`");
            return None;
        }
        Some(time)
    }
}

/// Without a word, a ban holds for the names of the tunnel whose answers counted.
fn reach(shared: Option<bool>) -> Reach {
    match shared {
        None => Reach::Tunnel,
        Some(true) => Reach::All,
        Some(false) => Reach::Name,
    }
}
