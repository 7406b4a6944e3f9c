//! What holds, in the words of the configuration: for `adit check` and `adit explain`.

use std::time::Duration;

use super::fields::{Changes, FieldPreset, SecurityHeaders};
use super::limit::{Ban, Concurrency, DenyMode, LimitKey, RateLimit, Reach, Timeouts};
use super::{Policy, Settings, Voice};
use crate::cache::rule::{Bypass, CacheRule, KeyShape, QueryKey, StatusRange};

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The key.
    pub key: &'static str,
    /// What holds.
    pub value: String,
    /// Who has said it last.
    pub voice: Voice,
}

impl Settings {
    /// Everything that somebody has said, in the order of the voices.
    #[must_use]
    pub fn describe(&self) -> Vec<Said> {
        let said = self.said.iter();
        said.map(|(key, voice)| Said { key, value: self.value(key), voice: *voice }).collect()
    }

    fn value(&self, key: &str) -> String {
        match key {
            "cache" => or_off(self.cache.as_deref(), cache),
            "rate-limit" => or_off(self.rate_limit.as_ref(), rate_limit),
            "concurrency" => or_off(self.concurrency.as_ref(), concurrency),
            "ban" => or_off(self.ban.as_deref(), ban),
            "headers" => {
                let parts = [("request", &self.headers.request), ("response", &self.headers.response)];
                let preset =
                    (self.headers.preset == Some(FieldPreset::Cloudflare)).then(|| "cloudflare".to_owned());
                let changed = parts.iter().filter(|(_, changes)| !changes.is_empty());
                join(preset.into_iter().chain(changed.map(|(way, c)| changes(way, c))))
            }
            "security-headers" => or_off(self.security_headers.as_ref(), security_headers),
            "hsts" => or_off(self.hsts.as_ref(), ToString::to_string),
            "body-limit" => or_off(self.body_limit.as_ref(), |bytes| size(*bytes)),
            "compress" => or_off(self.compress.as_ref(), |rule| {
                format!(
                    "{}; from {}",
                    join(rule.codings.iter().map(ToString::to_string)),
                    size(rule.min_size)
                )
            }),
            "redirect" => or_off(self.redirect.as_ref(), |rules| {
                join(rules.iter().map(|rule| format!("{} to {}", rule.status.as_u16(), rule.to)))
            }),
            "rewrite" => or_off(self.rewrite.as_ref(), |rules| {
                join(rules.iter().map(|rule| format!("{} to {}", rule.from.0, rule.to)))
            }),
            "respond" => or_off(self.respond.as_ref(), |respond| respond.status.as_u16().to_string()),
            "allow" => or_off(self.allow.as_ref(), networks),
            "deny" => or_off(self.deny.as_ref(), networks),
            "deny-mode" => if self.deny_mode == DenyMode::Drop { "drop" } else { "answer" }.to_owned(),
            "methods" => {
                or_off(self.methods.as_ref(), |methods| join(methods.iter().map(ToString::to_string)))
            }
            "error-page" => or_off(self.pages.as_ref(), |pages| {
                let own = pages.by_status.iter().map(|(status, _)| status.to_string());
                join(own.chain(pages.other.iter().map(|_| "all others".to_owned())))
            }),
            "maintenance" => or_off(self.maintenance.as_ref(), ToString::to_string),
            "timeouts" => timeouts(&self.timeouts),
            "min-rate" => self.min_rate.to_string(),
            _ => String::new(),
        }
    }
}

impl Policy {
    /// What holds for the whole name, and for paths: what differs there.
    pub fn describe(&self) -> impl Iterator<Item = (Option<&str>, Vec<Said>)> {
        let base = self.base.describe();
        let own = move |settings: &Settings| {
            settings.describe().into_iter().filter(|said| !base.contains(said)).collect::<Vec<_>>()
        };
        let paths = self.paths.iter().map(move |(path, settings)| (Some(path.0.as_str()), own(settings)));
        std::iter::once((None, self.base.describe())).chain(paths)
    }
}

fn or_off<T: ?Sized>(value: Option<&T>, text: impl Fn(&T) -> String) -> String {
    value.map_or_else(|| "off".to_owned(), text)
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn cache(rule: &CacheRule) -> String {
    let mut parts = Vec::new();
    let ttl = rule.ttl.iter().map(|(range, time)| format!("{} {}", status(*range), period(*time)));
    parts.push(if rule.ttl.is_empty() { "as the origin says".to_owned() } else { join(ttl) });
    let ignored = [("cache-control", rule.ignore.cache_control), ("set-cookie", rule.ignore.set_cookie)];
    let ignored: Vec<&str> = ignored.iter().filter(|(_, on)| *on).map(|(word, _)| *word).collect();
    if !ignored.is_empty() {
        parts.push(format!("ignores {}", ignored.join(", ")));
    }
    parts.push(format!("key {}", key(&rule.key)));
    let stale =
        [("error", rule.stale.error), ("timeout", rule.stale.timeout), ("updating", rule.stale.updating)];
    let stale: Vec<&str> = stale.iter().filter(|(_, on)| *on).map(|(word, _)| *word).collect();
    if !stale.is_empty() {
        parts.push(format!("stale on {} for {}", stale.join(", "), period(rule.stale.for_at_most)));
    }
    if !rule.bypass.is_empty() {
        parts.push(format!("bypassed by {}", join(rule.bypass.iter().map(bypass))));
    }
    parts.extend(rule.slice.map(|bytes| format!("in slices of {}", size(bytes))));
    parts.join("; ")
}

fn key(shape: &KeyShape) -> String {
    let mut parts = Vec::new();
    parts.extend(shape.host.then(|| "host".to_owned()));
    parts.extend(shape.path.then(|| "path".to_owned()));
    match &shape.query {
        QueryKey::All => parts.push("query".to_owned()),
        QueryKey::None => {}
        QueryKey::Only(names) => parts.push(format!("query({})", names.join(", "))),
        QueryKey::Without(names) => parts.push(format!("query(!{})", names.join(", !"))),
    }
    parts.extend(shape.headers.iter().map(|name| format!("header({name})")));
    parts.extend(shape.cookies.iter().map(|name| format!("cookie({name})")));
    parts.join("+")
}

fn bypass(condition: &Bypass) -> String {
    match condition {
        Bypass::Header(name) => format!("header({name})"),
        Bypass::Cookie(name) => format!("cookie({name})"),
        Bypass::Query(name) => format!("query({name})"),
    }
}

fn status(range: StatusRange) -> String {
    match range {
        StatusRange::One(status) => status.to_string(),
        StatusRange::Class(class) => format!("{class}xx"),
        StatusRange::Any => "any".to_owned(),
    }
}

fn rate_limit(rule: &RateLimit) -> String {
    let burst = if rule.burst == 0 { String::new() } else { format!(", burst {}", rule.burst) };
    format!("{}{burst}{}", rule.rate, per(&rule.key))
}

fn concurrency(rule: &Concurrency) -> String {
    format!("{} at once{}", rule.requests, per(&rule.key))
}

fn per(key: &LimitKey) -> String {
    format!(" per {key}")
}

fn ban(rule: &Ban) -> String {
    let statuses = join(rule.statuses.iter().map(|range| status(*range)));
    let scope = match rule.reach {
        Reach::Name => "of this name",
        Reach::Tunnel => "of all names of its tunnel",
        Reach::All => "of all names",
    };
    format!(
        "{} of {statuses} in {} ban for {}, at most {}, {scope}",
        rule.count,
        period(rule.window),
        period(rule.time),
        period(rule.time_max)
    )
}

fn changes(way: &str, changes: &Changes) -> String {
    let names = |fields: &[(http::HeaderName, http::HeaderValue)]| {
        join(fields.iter().map(|(name, _)| name.to_string()))
    };
    let removed = join(changes.remove.iter().map(ToString::to_string));
    let parts = [("sets", names(&changes.set)), ("adds", names(&changes.add)), ("removes", removed)];
    let said =
        parts.iter().filter(|(_, names)| !names.is_empty()).map(|(verb, names)| format!("{verb} {names}"));
    format!("{way} {}", said.collect::<Vec<_>>().join(", "))
}

fn security_headers(fields: &SecurityHeaders) -> String {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    join(fields.0.iter().map(|(name, value)| format!("{name}: {}", text(value))))
}

fn networks(set: &super::address::Addresses) -> String {
    let shown = set.shown().iter().map(ToString::to_string);
    let more = set.len().saturating_sub(set.shown().len());
    let more = (more > 0).then(|| format!("{more} more"));
    join(shown.chain(more))
}

fn timeouts(timeouts: &Timeouts) -> String {
    let named = [("answer", timeouts.answer), ("idle", timeouts.idle)];
    let said = named.iter().filter_map(|(name, time)| Some(format!("{name} {}", period((*time)?))));
    join(said)
}

/// A time as the configuration writes it.
fn period(time: Duration) -> String {
    let seconds = time.as_secs();
    if time.subsec_millis() > 0 || seconds == 0 {
        return format!("{}ms", time.as_millis());
    }
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

/// A size as the configuration writes it.
fn size(bytes: u64) -> String {
    for (unit, length) in [("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)] {
        if bytes > 0 && bytes.is_multiple_of(length) {
            return format!("{}{unit}", bytes / length);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Layer, Patch};
    use super::*;
    use crate::cache::rule::Preset;

    #[test]
    fn what_holds_is_told_with_whose_word_it_is() {
        let defaults = Layer {
            base: Patch { body_limit: Some(Some(200 << 20)), rate_limit: Some(None), ..Patch::default() },
            paths: Vec::new(),
        };
        let rule = CacheRule::preset(Preset::Static);
        let operator = Layer {
            base: Patch { cache: Some(Some(Arc::new(rule))), ..Patch::default() },
            paths: Vec::new(),
        };
        let policy = Policy::of("a", &[(Voice::Defaults, &defaults), (Voice::Hostnames, &operator)]);
        let said: Vec<String> = policy
            .base
            .describe()
            .iter()
            .map(|said| format!("{} {}: {}", said.voice, said.key, said.value))
            .collect();
        assert_eq!(
            said,
            [
                "defaults rate-limit: off",
                "defaults body-limit: 200m",
                "hostnames cache: 200 1d, 301 1d, 404 1m; ignores cache-control, set-cookie; key host+path; \
                 stale on error, timeout, updating for 30d",
            ]
        );
    }

    #[test]
    fn times_and_sizes_are_short() {
        let text = |seconds| period(Duration::from_secs(seconds));
        assert_eq!([text(90), text(3600), text(86_400), text(60)], ["90s", "1h", "1d", "1m"]);
        assert_eq!(period(Duration::from_millis(1500)), "1500ms");
        assert_eq!([size(0), size(1536), size(1 << 20)], ["0", "1536", "1m"]);
    }
}
