//! YAML text to a tree that remembers where everything stands, and a strict decoder that collects every error.
//!
//! Scalars stay text until a decoder asks for a number or a truth value, so `hostname: 123` is a name and `version:
//! 1.10` keeps its zero. Aliases and merge keys work, within a budget.

pub(crate) mod decode;
mod json;
mod parse;
mod suggest;

use std::sync::Arc;

pub use decode::{
    Table, boolean, duration, integer, list, one_or_many, one_word, optional_text, parse_period, path_text,
    period, text, truth_of, word,
};
pub(crate) use json::{json_node, json_table};
pub use parse::{parse, parse_lenient};
pub use suggest::did_you_mean;

/// Levels of nesting.
pub const DEPTH_MAX: usize = 64;

/// Nodes of a file, after aliases are filled in.
pub const NODES_MAX: usize = 500_000;

/// Where something stands. It never reaches over the end of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Line from 1; 0 if there is none.
    pub line: usize,
    /// Column from 1, in characters.
    pub column: usize,
    /// Characters.
    pub width: usize,
}

/// A value of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Nothing: an empty value, `null` or `~`.
    Null,
    /// A word without quotes; it may also be a number or a truth value.
    Plain(Arc<str>),
    /// A text in quotes, or a block of text.
    Quoted(Arc<str>),
    /// A list.
    List(Arc<[Node]>),
    /// Keys with their values, in the order of the file.
    Map(Arc<[(Node, Node)]>),
}

impl Node {
    /// A value that stands nowhere.
    #[must_use]
    pub fn nowhere(kind: Kind) -> Self {
        Self { span: Span::default(), kind }
    }

    /// The text of a scalar.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Plain(text) | Kind::Quoted(text) => Some(text),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// What it is, for a message.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Plain(text) if text.parse::<f64>().is_ok() => "a number",
            Kind::Plain(text) if decode::truth(text).is_some() => "a truth value",
            Kind::Plain(_) => "a word",
            Kind::Quoted(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a table",
        }
    }
}

#[cfg(test)]
mod tests;
