//! Tree to values. Each function says what is wrong and returns nothing, so that its caller can go on.

use std::time::Duration;

use super::{Kind, Node, Span, did_you_mean};
use crate::diagnostic::{Diagnostic, Findings, Severity};
use crate::duration::parse_duration;

/// A table whose keys are asked for by name. What nobody asked for is unknown.
#[derive(Debug)]
pub struct Table<'n> {
    /// What it is, where a test holds the schema to it.
    #[cfg(test)]
    what: String,
    span: Span,
    entries: &'n [(Node, Node)],
    asked: Vec<&'static str>,
}

impl<'n> Table<'n> {
    /// Opens a table. `what` names it in the message if it is none.
    pub fn open(node: &'n Node, what: &str, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Map(entries) => Some(Self::new(what, node.span, entries)),
            Kind::Null => Some(Self::new(what, node.span, &[])),
            _ => {
                findings.error(node.span, format!("{what} is a table, not {}", node.describe()));
                None
            }
        }
    }

    #[cfg_attr(not(test), expect(unused_variables, reason = "only a test asks what it is"))]
    fn new(what: &str, span: Span, entries: &'n [(Node, Node)]) -> Self {
        Self {
            #[cfg(test)]
            what: what.to_owned(),
            span,
            entries,
            asked: Vec::new(),
        }
    }

    /// Where the table begins.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// The value of a key; `None` if it is absent or null.
    pub fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.asked.push(key);
        self.find(key).filter(|node| !node.is_null())
    }

    /// Whether a key is there, null or not.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Whether a key is there with a value, be it an empty list or table.
    #[must_use]
    pub fn has_value(&self, key: &str) -> bool {
        self.find(key).is_some_and(|node| !node.is_null())
    }

    /// Whether a key is there and says no.
    #[must_use]
    pub fn is_off(&self, key: &str) -> bool {
        self.find(key).and_then(truth_of) == Some(false)
    }

    /// Where the key stands, or the table if the key is absent.
    #[must_use]
    pub fn key_span(&self, key: &str) -> Span {
        let found = self.entries.iter().find(|(name, _)| name.as_text() == Some(key));
        found.map_or(self.span, |(name, _)| name.span)
    }

    /// The value of a key that must be there.
    pub fn require(&mut self, key: &'static str, example: &str, findings: &mut Findings) -> Option<&'n Node> {
        let value = self.take(key);
        if value.is_none() {
            let span = self.key_span(key);
            findings
                .error(span, format!("`{key}` is missing"))
                .help(format!("for example `{key}: {example}`"));
        }
        value
    }

    /// Reports the keys that nobody asked for as errors.
    pub fn finish(self, findings: &mut Findings) {
        self.report_unknown(|_| Severity::Error, findings);
    }

    /// Reports the keys that nobody asked for as warnings, as cloudflared does; those that look like one of `ours` as errors.
    pub fn finish_lenient(self, ours: &[&str], findings: &mut Findings) {
        let severity = |meant: Option<&str>| match meant.is_some_and(|meant| ours.contains(&meant)) {
            true => Severity::Error,
            false => Severity::Warning,
        };
        self.report_unknown(severity, findings);
    }

    fn report_unknown(self, severity: impl Fn(Option<&str>) -> Severity, findings: &mut Findings) {
        #[cfg(test)]
        asked::note(&self.what, &self.asked);
        for (key, _) in self.entries {
            let name = key.as_text().unwrap_or_default();
            if !self.asked.contains(&name) {
                let meant = did_you_mean(name, self.asked.iter().copied());
                let message = format!("unknown key `{name}`");
                let diagnostic = match severity(meant) {
                    Severity::Error => findings.error(key.span, message),
                    Severity::Warning => findings.warning(key.span, message + ": it has no effect"),
                };
                suggest(diagnostic, meant, &self.asked);
            }
        }
    }

    fn find(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
    }
}

fn suggest(diagnostic: &mut Diagnostic, meant: Option<&str>, known: &[&'static str]) {
    match meant {
        Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
        None if known.len() <= 12 => diagnostic.help(format!("known keys: {}", known.join(", "))),
        None => diagnostic,
    };
}

/// A text. A number or a truth value is one too.
pub fn text<'n>(node: &'n Node, findings: &mut Findings) -> Option<&'n str> {
    let text = node.as_text();
    if text.is_none() {
        findings.error(node.span, format!("expected a text, found {}", node.describe()));
    }
    text
}

/// A text that may be absent.
pub fn optional_text(node: Option<&Node>, findings: &mut Findings) -> Option<String> {
    node.and_then(|node| text(node, findings)).map(str::to_owned)
}

/// A path. It is not empty, and nothing in it is expanded.
pub fn path_text<'n>(node: &'n Node, findings: &mut Findings) -> Option<&'n str> {
    let path = text(node, findings)?;
    if path.is_empty() {
        findings.error(node.span, "the path is empty");
        return None;
    }
    if path.contains("${") {
        findings.warning(node.span, "`${…}` is not expanded: this is the path as it stands");
    }
    Some(path)
}

/// A truth value.
pub fn boolean(node: &Node, findings: &mut Findings) -> Option<bool> {
    let value = truth_of(node);
    if value.is_none() {
        let diagnostic =
            findings.error(node.span, format!("expected true or false, found {}", node.describe()));
        if matches!(&node.kind, Kind::Quoted(word) if truth(word).is_some()) {
            diagnostic.help("remove the quotes");
        }
    }
    value
}

/// A whole number within a range.
pub fn integer<T>(node: &Node, range: std::ops::RangeInclusive<T>, findings: &mut Findings) -> Option<T>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let parsed = match &node.kind {
        Kind::Plain(word) => word.parse::<T>().ok(),
        _ => None,
    };
    let value = parsed.filter(|value| range.contains(value));
    if value.is_none() {
        not_in_range(node, range.start(), range.end(), findings);
    }
    value
}

fn not_in_range<T>(node: &Node, low: &T, high: &T, findings: &mut Findings)
where
    T: std::str::FromStr + std::fmt::Display,
{
    if matches!(&node.kind, Kind::Quoted(word) if word.parse::<T>().is_ok()) {
        findings.error(node.span, "expected a number, found a text").help("remove the quotes");
        return;
    }
    let found = node.as_text().map_or_else(|| node.describe().to_owned(), |text| format!("`{text}`"));
    findings.error(node.span, format!("expected a whole number from {low} to {high}, found {found}"));
}

/// A duration in Go's spelling. A bare number is taken for seconds, with a warning.
pub fn duration(node: &Node, findings: &mut Findings) -> Option<Duration> {
    let word = text(node, findings)?;
    if let Ok(duration) = parse_duration(word) {
        return Some(duration);
    }
    if let Ok(seconds) = word.parse::<u32>() {
        let help = format!("write `{seconds}s`");
        findings.warning(node.span, "a duration without a unit is taken for seconds").help(help);
        return Some(Duration::from_secs(seconds.into()));
    }
    let message = format!("`{word}` is not a duration");
    findings.error(node.span, message).help("a duration is written like `30s`, `1m30s` or `500ms`");
    None
}

/// A duration that may be long: `1y`, `30d`, `2w`, or as [`duration`] reads it.
pub fn period(node: &Node, findings: &mut Findings) -> Option<Duration> {
    let word = text(node, findings)?;
    parse_period(word).or_else(|| duration(node, findings))
}

/// The same of a text.
#[must_use]
pub fn parse_period(word: &str) -> Option<Duration> {
    const DAY: u64 = 24 * 3600;
    for (unit, seconds) in [("y", 365 * DAY), ("w", 7 * DAY), ("d", DAY)] {
        if let Some(number) = word.strip_suffix(unit).and_then(|number| number.parse::<u32>().ok()) {
            return Some(Duration::from_secs(u64::from(number) * seconds));
        }
    }
    parse_duration(word).ok()
}

/// A truth value, where it is one.
#[must_use]
pub fn truth_of(node: &Node) -> Option<bool> {
    match &node.kind {
        Kind::Plain(word) => truth(word),
        // Go's library reads these words of YAML 1.1 in quotes as well.
        Kind::Quoted(word) if !matches!(word.to_ascii_lowercase().as_str(), "true" | "false") => truth(word),
        _ => None,
    }
}

/// A list.
pub fn list<'n>(node: &'n Node, findings: &mut Findings) -> Option<&'n [Node]> {
    match &node.kind {
        Kind::List(items) => Some(items),
        _ => {
            let help = "write `- value`, one in each line, or `[value, value]`";
            findings.error(node.span, format!("expected a list, found {}", node.describe())).help(help);
            None
        }
    }
}

/// A list, or one value in place of a list of one.
#[must_use]
pub fn one_or_many(node: &Node) -> &[Node] {
    match &node.kind {
        Kind::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

/// One of a few words, with its meaning.
pub fn word<T: Copy>(node: &Node, words: &[(&'static str, T)], findings: &mut Findings) -> Option<T> {
    let given = text(node, findings)?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == given) {
        return Some(*meaning);
    }
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let help = match did_you_mean(given, names.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known: {}", names.join(", ")),
    };
    findings.error(node.span, format!("`{given}` is not known here")).help(help);
    None
}

/// One of a few words, kept as it is.
pub fn one_word(node: &Node, words: &[&'static str], findings: &mut Findings) -> Option<String> {
    let pairs: Vec<(&'static str, &'static str)> = words.iter().map(|word| (*word, *word)).collect();
    word(node, &pairs, findings).map(str::to_owned)
}

/// What YAML 1.1 and 1.2 take for a truth value.
pub(super) fn truth(word: &str) -> Option<bool> {
    match word {
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Which keys the decoders have asked for, by what they decode: the schema is held to it.
#[cfg(test)]
pub(crate) mod asked {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};

    thread_local! {
        static ASKED: RefCell<BTreeMap<String, BTreeSet<&'static str>>> = RefCell::default();
    }

    pub(super) fn note(what: &str, keys: &[&'static str]) {
        ASKED.with_borrow_mut(|asked| asked.entry(what.to_owned()).or_default().extend(keys));
    }

    /// What this thread's decoders have asked for so far.
    pub(crate) fn all() -> BTreeMap<String, BTreeSet<&'static str>> {
        ASKED.take()
    }
}
