//! Text to tree.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, Tag};

use super::{DEPTH_MAX, Kind, NODES_MAX, Node, Span};
use crate::diagnostic::Findings;

/// Reads the one document of a file. `None` after a syntax error, which is then among the findings. An empty file is
/// null.
pub fn parse(findings: &mut Findings) -> Option<Node> {
    read(findings, Strictness::Strict)
}

/// The same as cloudflared reads its file: what follows the first document, and tags that are not known, are warnings.
pub fn parse_lenient(findings: &mut Findings) -> Option<Node> {
    read(findings, Strictness::Lenient)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    Strict,
    Lenient,
}

fn read(findings: &mut Findings, strictness: Strictness) -> Option<Node> {
    let source = findings.source().clone();
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    let mut builder = Builder::new(findings, strictness);
    for event in Parser::new_from_str_with_options(source.text(), options) {
        match event {
            Ok((Event::DocumentStart(..), span)) if builder.ends_here(place(&span)) => break,
            Ok((event, span)) => builder.event(event, place(&span))?,
            Err(error) => {
                syntax_error(findings, &error);
                return None;
            }
        }
    }
    Some(builder.root.unwrap_or_else(|| Node::nowhere(Kind::Null)))
}

/// A collection whose end has not come yet.
struct Open {
    span: Span,
    anchor: usize,
    items: Items,
    /// Nodes inside, aliases filled in.
    size: usize,
}

enum Items {
    List(Vec<Node>),
    Map(Vec<(Node, Node)>, Option<Node>),
}

struct Builder<'f> {
    findings: &'f mut Findings,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    documents: usize,
    strictness: Strictness,
    root: Option<Node>,
}

impl<'f> Builder<'f> {
    fn new(findings: &'f mut Findings, strictness: Strictness) -> Self {
        let (open, anchors) = (Vec::new(), HashMap::new());
        Self { findings, open, anchors, nodes: 0, documents: 0, strictness, root: None }
    }

    /// Whether a document begins that is not read.
    fn ends_here(&mut self, span: Span) -> bool {
        let ends = self.strictness == Strictness::Lenient && self.documents > 0;
        if ends {
            self.findings.warning(span, "a second document begins here: it has no effect").help("remove it");
        }
        ends
    }

    /// Takes the next event. `None` ends the reading: the rest would make no sense.
    fn event(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        match event {
            Event::DocumentStart(..) => self.start_document(span),
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(text, style, tag.as_deref(), span);
                self.add(node, anchor, 1, 1)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.start(Items::List(Vec::new()), anchor, tag.as_deref(), span)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.start(Items::Map(Vec::new(), None), anchor, tag.as_deref(), span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, span),
            _ => Some(()),
        }
    }

    fn start_document(&mut self, span: Span) -> Option<()> {
        self.documents += 1;
        if self.documents > 1 {
            self.findings
                .error(span, "a second document begins here")
                .help("only one document is read: remove it");
            return None;
        }
        Some(())
    }

    fn scalar(&mut self, text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Node {
        let text: Arc<str> = text.into();
        let is_text = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
        self.check_tag(tag, span);
        let kind = match style {
            ScalarStyle::Plain if is_text => Kind::Quoted(text),
            ScalarStyle::Plain if is_null(&text) => Kind::Null,
            ScalarStyle::Plain => Kind::Plain(text),
            _ => Kind::Quoted(text),
        };
        Node { span, kind }
    }

    fn check_tag(&mut self, tag: Option<&Tag>, span: Span) {
        if let Some(tag) = tag.filter(|tag| tag.core_suffix().is_none() && tag.original() != "!") {
            let message = format!("the tag `{}` is not known here", tag.original());
            match self.strictness {
                Strictness::Strict => self.findings.error(span, message),
                Strictness::Lenient => self.findings.warning(span, message),
            };
        }
    }

    fn start(&mut self, items: Items, anchor: usize, tag: Option<&Tag>, span: Span) -> Option<()> {
        self.check_tag(tag, span);
        self.open.push(Open { span, anchor, items, size: 1 });
        Some(())
    }

    fn end(&mut self) -> Option<()> {
        let open = self.open.pop()?;
        let kind = match open.items {
            Items::List(items) => Kind::List(items.into()),
            Items::Map(entries, _) => Kind::Map(self.checked_entries(entries)?.into()),
        };
        self.add(Node { span: open.span, kind }, open.anchor, open.size, 1)
    }

    /// A copy of what the anchor holds, at the place of the alias. The text is shared, the budget is not.
    fn alias(&mut self, anchor: usize, span: Span) -> Option<()> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            self.findings.error(span, "an alias cannot stand inside of what it repeats");
            return None;
        };
        let (node, size) = (Node { span, kind: node.kind.clone() }, *size);
        self.add(node, 0, size, size)
    }

    /// Takes a finished value of `size` nodes, `new` of which have not been counted yet.
    fn add(&mut self, node: Node, anchor: usize, size: usize, new: usize) -> Option<()> {
        self.nodes = self.nodes.saturating_add(new);
        if self.nodes > NODES_MAX {
            self.findings
                .error(node.span, format!("too many values (more than {NODES_MAX}, aliases counted)"));
            return None;
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut() {
            Some(open) => open.push(node, size),
            None => self.root = Some(node),
        }
        Some(())
    }

    /// Refuses keys that are no words or stand there twice, and fills merge keys in.
    fn checked_entries(&mut self, entries: Vec<(Node, Node)>) -> Option<Vec<(Node, Node)>> {
        let mut seen: HashMap<Arc<str>, usize> = HashMap::new();
        let mut kept = Vec::with_capacity(entries.len());
        let mut merges = Vec::new();
        for (key, value) in entries {
            let Some(name) = key_name(&key) else {
                self.findings.error(key.span, format!("a key is a word, not {}", key.describe()));
                continue;
            };
            if &*name == "<<" && matches!(key.kind, Kind::Plain(_)) {
                merges.push(value);
                continue;
            }
            match seen.get(&name) {
                Some(first) => {
                    let help = format!("it stands in line {first} already: keep one of them");
                    self.findings.error(key.span, format!("the key `{name}` is there twice")).help(help);
                }
                None => {
                    seen.insert(name, key.span.line);
                    kept.push((key, value));
                }
            }
        }
        self.merge(&mut kept, merges)?;
        Some(kept)
    }

    /// `<<: *base`: the entries of the base that the table does not have itself.
    fn merge(&mut self, kept: &mut Vec<(Node, Node)>, merges: Vec<Node>) -> Option<()> {
        let mut names: HashSet<Arc<str>> = kept.iter().filter_map(|(key, _)| key_name(key)).collect();
        for base in merges {
            let bases: &[Node] = match &base.kind {
                Kind::List(bases) => bases,
                _ => std::slice::from_ref(&base),
            };
            for base in bases {
                let Kind::Map(entries) = &base.kind else {
                    self.findings.error(base.span, format!("`<<` takes a table, not {}", base.describe()));
                    continue;
                };
                let new =
                    entries.iter().filter(|(key, _)| key_name(key).is_some_and(|name| names.insert(name)));
                kept.extend(new.cloned());
            }
        }
        Some(())
    }
}

impl Open {
    fn push(&mut self, node: Node, size: usize) {
        self.size = self.size.saturating_add(size);
        match &mut self.items {
            Items::List(items) => items.push(node),
            Items::Map(entries, key) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(node),
            },
        }
    }
}

fn key_name(key: &Node) -> Option<Arc<str>> {
    match &key.kind {
        Kind::Plain(text) | Kind::Quoted(text) => Some(Arc::clone(text)),
        Kind::Null | Kind::List(_) | Kind::Map(_) => None,
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn place(span: &granit_parser::Span) -> Span {
    let width = match span.start.line() == span.end.line() {
        true => span.end.col().saturating_sub(span.start.col()),
        false => usize::MAX,
    };
    Span { line: span.start.line(), column: span.start.col() + 1, width }
}

fn syntax_error(findings: &mut Findings, error: &ScanError) {
    use granit_parser::ErrorKind as E;

    let marker = error.marker();
    let span = Span { line: marker.line().max(1), column: marker.col() + 1, width: 1 };
    let tab =
        findings.source().line(span.line).is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'));
    let (message, help) = match error.kind() {
        E::TabNotAllowed | E::TabInBlockIndentation | E::TabInIndentation | E::TabAtBlockScalarStart => {
            tabs()
        }
        _ if tab => tabs(),
        E::UnknownAnchor => {
            ("this alias names no anchor".to_owned(), "put `&name` where the value stands first")
        }
        E::RecursionLimitExceeded => (format!("nested deeper than {DEPTH_MAX} levels"), ""),
        E::MappingValueNotAllowed => (
            format!("not valid YAML: {}", error.kind()),
            "look at the line above too: is its `:` missing, is the indentation right, does a text need quotes?",
        ),
        E::InvalidSimpleKey | E::SimpleKeyExpected => (
            "not valid YAML: a key without `:`".to_owned(),
            "write `key: value`, with a space after the colon",
        ),
        _ => (format!("not valid YAML: {}", error.kind()), ""),
    };
    let diagnostic = findings.error(span, message);
    if !help.is_empty() {
        diagnostic.help(help);
    }
}

fn tabs() -> (String, &'static str) {
    ("not valid YAML: a tab cannot indent".to_owned(), "indent with spaces")
}
