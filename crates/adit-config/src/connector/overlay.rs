//! Flags of the command line and of the environment, laid over the file: each is a key of the file, so the same code
//! reads both.

use std::path::Path;

use super::{ConnectorFile, decode};
use crate::diagnostic::{Diagnostic, Findings, Report};
use crate::source::Source;
use crate::yaml::{self, Kind, Node};

/// A flag that was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Flag {
    /// Its name, which is the key.
    pub name: String,
    /// Its values; several for a list.
    pub values: Vec<String>,
    /// Whether it is a list.
    pub list: bool,
}

/// A flag that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{name}: {message}")]
pub struct FlagError {
    name: String,
    message: String,
}

/// Why no configuration came about.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// Flags are wrong: all that are.
    #[error("{}", lines(.0))]
    Flags(Vec<FlagError>),
    /// The file is wrong.
    #[error("{0}")]
    File(Report),
}

/// Ways to say who one is. Given as a flag, one of them replaces all of the file.
const CREDENTIALS: [&str; 4] = ["token", "token-file", "credentials-file", "credentials-contents"];

/// Ways to name the one service. The same.
const SERVICES: [&str; 4] = ["hello-world", "bastion", "url", "unix-socket"];

/// Values may be secrets.
impl std::fmt::Debug for Flag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flag").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ConnectorFile {
    /// Reads a file, if there is one, with these flags over it.
    ///
    /// # Errors
    /// Everything that is wrong with the flags, else with the file.
    pub fn load_with(path: Option<&Path>, flags: &[Flag]) -> Result<(Self, Vec<Diagnostic>), OverlayError> {
        check(flags)?;
        let source = match path {
            Some(path) => Source::read(path),
            None => Source::new(Path::new("command line"), ""),
        };
        read(&source.map_err(OverlayError::File)?, flags).map_err(OverlayError::File)
    }
}

/// Each flag by itself, so that its message names it.
fn check(flags: &[Flag]) -> Result<(), OverlayError> {
    let wrong: Vec<FlagError> = flags.iter().flat_map(errors).collect();
    if wrong.is_empty() { Ok(()) } else { Err(OverlayError::Flags(wrong)) }
}

fn errors(flag: &Flag) -> Vec<FlagError> {
    let error = |message: String| FlagError { name: flag.name.clone(), message };
    let Ok(source) = Source::new(Path::new("command line"), "") else { return Vec::new() };
    match read(&source, std::slice::from_ref(flag)) {
        Ok(_) => Vec::new(),
        Err(report) => report.0.into_iter().map(|diagnostic| error(said(&diagnostic))).collect(),
    }
}

/// A finding in one line.
fn said(diagnostic: &Diagnostic) -> String {
    let help = diagnostic.help.as_ref().map(|help| format!(" ({help})"));
    diagnostic.message.clone() + &help.unwrap_or_default()
}

fn read(source: &Source, flags: &[Flag]) -> Result<(ConnectorFile, Vec<Diagnostic>), Report> {
    let mut findings = Findings::new(source);
    let root = yaml::parse_lenient(&mut findings);
    let file = root.and_then(|root| decode(&overlaid(root, flags), &mut findings));
    findings.finish(file)
}

/// The file's table with the flags in it.
fn overlaid(root: Node, flags: &[Flag]) -> Node {
    let of_file = match (&root.kind, flags) {
        (_, []) => return root,
        (Kind::Map(entries), _) => entries.to_vec(),
        (Kind::Null, _) => Vec::new(),
        // What is no table is said of the file.
        _ => return root,
    };
    let replaced = |key: &str| {
        let among = |group: &[&str]| {
            group.contains(&key) && flags.iter().any(|flag| group.contains(&flag.name.as_str()))
        };
        flags.iter().any(|flag| flag.name == key) || among(&CREDENTIALS) || among(&SERVICES)
    };
    let kept = of_file.into_iter().filter(|(key, _)| !key.as_text().is_some_and(replaced));
    let added = flags.iter().map(|flag| (text(&flag.name), value(flag)));
    Node { span: root.span, kind: Kind::Map(kept.chain(added).collect()) }
}

fn value(flag: &Flag) -> Node {
    match (flag.list, flag.values.as_slice()) {
        (false, [value]) => text(value),
        _ => Node::nowhere(Kind::List(flag.values.iter().map(|value| text(value)).collect())),
    }
}

/// A word without quotes may be a number or a truth value as well as a text.
fn text(text: &str) -> Node {
    Node::nowhere(Kind::Plain(text.into()))
}

fn lines(errors: &[FlagError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(name: &str, values: &[&str]) -> Flag {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Flag { name: name.to_owned(), values, list: matches!(name, "edge" | "tag") }
    }

    fn over(text: &str, flags: &[Flag]) -> ConnectorFile {
        let source = Source::new(Path::new("config.yml"), text).unwrap();
        read(&source, flags).unwrap().0
    }

    #[test]
    fn a_flag_wins_over_its_key() {
        let file = over(
            "edge: [a.example:1]\nretries: 3\n",
            &[flag("edge", &["b.example:2", "c.example"]), flag("ha-connections", &["2"])],
        );
        assert_eq!(file.edge, ["b.example:2", "c.example"]);
        assert_eq!((file.retries, file.ha_connections), (Some(3), Some(2)));
    }

    #[test]
    fn one_way_to_say_who_one_is_replaces_the_others() {
        let file = over("token: abc\ncredentials-file: a.json\n", &[flag("token-file", &["t"])]);
        assert!(file.token.is_none() && file.credentials_file.is_none());
        assert_eq!(file.token_file.as_deref(), Some(Path::new("t")));
        assert!(over("url: http://a:1\n", &[flag("hello-world", &["true"])]).single.unwrap().is_http());
    }

    #[test]
    fn wrong_flags_are_named_all_at_once() {
        let flags = [flag("grace-period", &["1h"]), flag("protocol", &["quick"]), flag("metrics", &["a:1"])];
        let error = ConnectorFile::load_with(None, &flags).unwrap_err().to_string();
        assert!(error.contains("--grace-period: ") && error.contains("--protocol: "), "{error}");
        assert!(!error.contains("--metrics"), "{error}");
    }
}
