//! `cache`.

use std::sync::Arc;
use std::time::Duration;

use adit_policy::cache::rule::{Bypass, CacheRule, Ignore, KeyShape, Preset, QueryKey, Stale, StatusRange};

use super::Decoder;
use crate::yaml::{self, Kind, Node, Table};

const PRESETS: [(&str, Preset); 3] =
    [("static", Preset::Static), ("assets", Preset::Assets), ("api", Preset::Api)];

/// The smallest slice: below that, the heads cost more than the bytes.
const SLICE_MIN: u64 = 64 * 1024;
/// The largest slice: one that is under way is held in one piece.
const SLICE_MAX: u64 = 64 * 1024 * 1024;

/// `name(argument, argument)`, or a bare `name`.
struct Call {
    name: String,
    arguments: Vec<String>,
}

impl Decoder<'_> {
    pub(super) fn cache(&mut self, node: &Node) -> Option<Option<Arc<CacheRule>>> {
        self.unless_off(node, |decoder, node| {
            let rule = match &node.kind {
                _ if yaml::truth_of(node) == Some(true) => CacheRule::default(),
                Kind::Map(_) => decoder.cache_table(node)?,
                _ => CacheRule::preset(yaml::word(node, &PRESETS, decoder.findings)?),
            };
            Some(Arc::new(rule))
        })
    }

    fn cache_table(&mut self, node: &Node) -> Option<CacheRule> {
        let mut table = Table::open(node, "`cache`", self.findings)?;
        let preset = table.take("preset").and_then(|node| yaml::word(node, &PRESETS, self.findings));
        let mut rule = preset.map(CacheRule::preset).unwrap_or_default();
        if let Some(node) = table.take("ttl") {
            rule.ttl = self.ttl(node);
        }
        if let Some(node) = table.take("ignore") {
            rule.ignore = self.ignore(node);
        }
        if let Some(node) = table.take("key") {
            rule.key = self.key_shape(node);
        }
        if let Some(node) = table.take("bypass") {
            rule.bypass = self.bypass(node);
        }
        self.stale(&mut table, &mut rule.stale);
        if let Some(size) = table.take("max-size").and_then(|node| self.size(node)) {
            rule.max_size = size;
        }
        if let Some(time) = table.take("lock-timeout").and_then(|node| yaml::period(node, self.findings)) {
            rule.lock_timeout = time;
        }
        if let Some(on) = table.take("status-header").and_then(|node| yaml::boolean(node, self.findings)) {
            rule.status_header = on;
        }
        if let Some(node) = table.take("slice") {
            rule.slice = self.slice(node);
        }
        table.finish(self.findings);
        Some(rule)
    }

    fn slice(&mut self, node: &Node) -> Option<u64> {
        let size = self.unless_off(node, Self::size).flatten()?;
        if !(SLICE_MIN..=SLICE_MAX).contains(&size) {
            self.findings
                .error(node.span, "a slice has between `64k` and `64m`")
                .help("for example `slice: 1m`");
            return None;
        }
        Some(size)
    }

    /// One time for success, or times by status.
    fn ttl(&mut self, node: &Node) -> Vec<(StatusRange, Duration)> {
        let Kind::Map(entries) = &node.kind else {
            let time = yaml::period(node, self.findings);
            return time.into_iter().map(|time| (StatusRange::One(200), time)).collect();
        };
        let mut times = Vec::new();
        for (key, value) in entries.iter() {
            let range = self.status_range(key);
            times.extend(range.zip(yaml::period(value, self.findings)));
        }
        times
    }

    fn ignore(&mut self, node: &Node) -> Ignore {
        let mut ignore = Ignore::default();
        for node in yaml::one_or_many(node) {
            match yaml::word(node, &[("cache-control", 0), ("set-cookie", 1)], self.findings) {
                Some(0) => ignore.cache_control = true,
                Some(_) => ignore.set_cookie = true,
                None => {}
            }
        }
        ignore
    }

    fn stale(&mut self, table: &mut Table<'_>, stale: &mut Stale) {
        if let Some(node) = table.take("stale") {
            let words = [("error", 0), ("timeout", 1), ("updating", 2)];
            let nodes = if yaml::truth_of(node) == Some(false) { &[][..] } else { yaml::one_or_many(node) };
            let said: Vec<i32> =
                nodes.iter().filter_map(|node| yaml::word(node, &words, self.findings)).collect();
            (stale.error, stale.timeout, stale.updating) =
                (said.contains(&0), said.contains(&1), said.contains(&2));
        }
        if let Some(time) = table.take("stale-for").and_then(|node| yaml::period(node, self.findings)) {
            stale.for_at_most = time;
        }
    }

    fn key_shape(&mut self, node: &Node) -> KeyShape {
        let mut shape = KeyShape {
            host: false,
            path: false,
            query: QueryKey::None,
            headers: Vec::new(),
            cookies: Vec::new(),
        };
        for call in self.calls(node) {
            let Call { name, arguments } = call;
            match (name.as_str(), arguments.is_empty()) {
                ("host", true) => shape.host = true,
                ("path", true) => shape.path = true,
                ("query", true) => shape.query = QueryKey::All,
                ("query", false) => shape.query = self.query_key(node, arguments),
                ("header", false) => shape.headers.extend(self.names(node, &arguments)),
                ("cookie", false) => shape.cookies.extend(arguments),
                _ => {
                    self.findings
                        .error(node.span, format!("`{name}` tells nothing apart"))
                        .help("known: host, path, query, query(NAME, …), query(!NAME, …), header(NAME), cookie(NAME)");
                }
            }
        }
        if !shape.path {
            self.findings.warning(node.span, "without `path`, all pages of a name are one and the same");
        }
        shape
    }

    fn query_key(&mut self, node: &Node, arguments: Vec<String>) -> QueryKey {
        let without: Vec<String> =
            arguments.iter().filter_map(|name| name.strip_prefix('!')).map(str::to_owned).collect();
        match without.len() {
            0 => QueryKey::Only(arguments),
            all if all == arguments.len() => QueryKey::Without(without),
            _ => {
                self.findings
                    .error(node.span, "some parameters have a `!`, others have none")
                    .help("name those that count, or with `!` those that do not");
                QueryKey::All
            }
        }
    }

    fn bypass(&mut self, node: &Node) -> Vec<Bypass> {
        let mut conditions = Vec::new();
        for Call { name, arguments } in self.calls(node) {
            match (name.as_str(), arguments.is_empty()) {
                ("header", false) => {
                    conditions.extend(self.names(node, &arguments).into_iter().map(Bypass::Header))
                }
                ("cookie", false) => conditions.extend(arguments.into_iter().map(Bypass::Cookie)),
                ("query", false) => conditions.extend(arguments.into_iter().map(Bypass::Query)),
                _ => {
                    self.findings
                        .error(node.span, format!("`{name}` is no reason to pass by"))
                        .help("known: header(NAME), cookie(NAME), query(NAME)");
                }
            }
        }
        conditions
    }

    fn names(&mut self, node: &Node, names: &[String]) -> Vec<http::HeaderName> {
        let nodes =
            names.iter().map(|name| Node { span: node.span, kind: Kind::Quoted(name.as_str().into()) });
        nodes.collect::<Vec<_>>().iter().filter_map(|node| self.field_name(node)).collect()
    }

    /// Commas inside of a call are commas of the list in YAML, so the list is put together again first.
    fn calls(&mut self, node: &Node) -> Vec<Call> {
        let nodes = yaml::one_or_many(node);
        let texts: Vec<&str> = nodes.iter().filter_map(|node| yaml::text(node, self.findings)).collect();
        let mut calls: Vec<Call> = Vec::new();
        let mut open = false;
        for text in texts.join(",").split(',').map(str::trim) {
            let closes = text.ends_with(')');
            let body = text.strip_suffix(')').unwrap_or(text);
            match (open, body.split_once('('), calls.last_mut()) {
                (true, _, Some(call)) => call.arguments.push(body.trim().to_owned()),
                (_, Some((name, argument)), _) => {
                    open = true;
                    calls.push(Call {
                        name: name.trim().to_owned(),
                        arguments: vec![argument.trim().to_owned()],
                    });
                }
                _ => calls.push(Call { name: body.to_owned(), arguments: Vec::new() }),
            }
            open = open && !closes;
        }
        if open {
            self.findings.error(node.span, "a `)` is missing");
        }
        calls
    }
}
