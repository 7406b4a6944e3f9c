//! One rule: host name and path to service.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::{OriginRequest, Service};
use crate::host::{HostError, HostPattern};
use crate::limits::PATH_REGEX_BYTES_MAX;
use crate::policy::Layer;

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The host names it is for. `None`: all.
    pub hostname: Option<RuleHost>,
    /// The paths it is for, as an unanchored search. `None`: all.
    pub path: Option<Regex>,
    /// Who answers.
    pub service: Service,
    /// Who answers as well: requests are spread over all of them. Mostly empty; ours.
    pub more: Vec<Service>,
    /// How to talk to that service.
    pub origin: OriginRequest,
    /// How the edge is to treat requests; ours.
    pub edge: Option<Arc<EdgeWord>>,
}

/// What is said to the edge beside a rule.
#[derive(Clone, Debug)]
pub struct EdgeWord {
    /// As it travels: JSON.
    pub json: String,
    /// What it means.
    pub layer: Layer,
}

/// The host name of a rule. It is compared as it is written and in its normal form (lower-case ASCII, no trailing dot); a request
/// brings the normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleHost {
    text: String,
    ascii: Option<String>,
}

/// Why a text is no host name of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleHostError {
    /// A wildcard elsewhere than at the start.
    #[error(
        "a hostname can have at most one wildcard character (\"*\") and only for subdomains, as in \"*.example.com\""
    )]
    Wildcard,
    /// A port follows the name.
    #[error("a hostname cannot contain a port")]
    Port,
    /// Not a host name in another way.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Why a text is no path expression. The message is the regex engine's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid regex: {0}")]
pub struct PathError(String);

/// Compiles the path expression of a rule.
///
/// # Errors
/// [`PathError`] if it is no expression, or too large a one.
pub fn path_regex(text: &str) -> Result<Regex, PathError> {
    let mut builder = RegexBuilder::new(text);
    builder.size_limit(PATH_REGEX_BYTES_MAX);
    builder.build().map_err(|error| PathError(last_line(&error.to_string())))
}

impl Rule {
    /// Everyone who answers: one, or several.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        std::iter::once(&self.service).chain(&self.more)
    }

    /// Whether it matches every request.
    #[must_use]
    pub fn is_catch_all(&self) -> bool {
        self.hostname.is_none() && self.path.is_none()
    }

    /// The names it is for, as a pattern of the edge.
    #[must_use]
    pub fn pattern(&self) -> Option<HostPattern> {
        self.hostname.as_ref().map_or(Some(HostPattern::Any), RuleHost::pattern)
    }

    /// Whether it is for a host, which is in its normal form and without a port.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        self.hostname.as_ref().is_none_or(|pattern| pattern.matches(host))
    }
}

impl RuleHost {
    /// Reads the host name of a rule. Empty and `*` are `None`: every host.
    ///
    /// # Errors
    /// [`RuleHostError`] for a port, a misplaced wildcard, or what can be no host name.
    pub fn parse(text: &str) -> Result<Option<Self>, RuleHostError> {
        if text.is_empty() || text == "*" {
            return Ok(None);
        }
        if text.rfind('*').is_some_and(|position| position > 0) {
            return Err(RuleHostError::Wildcard);
        }
        // `*abc.com` passes, as in cloudflared, and is compared literally: no request can ever carry that name.
        let ascii = match HostPattern::parse(text) {
            Err(HostError::Port) => return Err(RuleHostError::Port),
            Err(HostError::Wildcard) => text.to_owned(),
            parsed => parsed?.to_string(),
        };
        let ascii = Some(ascii).filter(|ascii| ascii != text);
        Ok(Some(Self { text: text.to_owned(), ascii }))
    }

    /// The name as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a host (without port) belongs to it.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        is_match(&self.text, host) || self.ascii.as_ref().is_some_and(|ascii| is_match(ascii, host))
    }

    /// The same as a pattern of the edge. `None` if no request can ever match it (`*abc.com`).
    #[must_use]
    pub fn pattern(&self) -> Option<HostPattern> {
        HostPattern::parse(&self.text).ok()
    }
}

/// `*.a.b` is a suffix of any depth, which the bare `a.b` does not have.
fn is_match(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(suffix) => host.strip_suffix(suffix).is_some_and(|head| head.ends_with('.')),
        None => pattern == host,
    }
}

/// The engine draws the expression over several lines; the last one says what is wrong.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
