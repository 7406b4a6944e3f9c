//! What is wrong in a file, and where: as a compiler would say it, and all at once.

mod render;
mod snippet;

use std::path::{Path, PathBuf};

use crate::source::Source;
use crate::yaml::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file works, though perhaps not as meant.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file.
    pub file: PathBuf,
    /// Line from 1; 0 for the whole file.
    pub line: usize,
    /// Column from 1, in characters; 0 for the whole line.
    pub column: usize,
    /// How many characters are meant.
    pub width: usize,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, without the place.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line itself. Secrets in it are hidden.
    pub snippet: Option<String>,
}

/// All findings of a file, in the order of its lines. `Display` renders them for a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub Vec<Diagnostic>);

/// Collects findings while a file is decoded.
#[derive(Debug)]
pub struct Findings {
    source: Source,
    found: Vec<Diagnostic>,
}

/// Findings of one file that are kept. The rest is counted: a thousand errors have one cause.
const FINDINGS_MAX: usize = 100;

impl Diagnostic {
    /// A finding about a whole file.
    #[must_use]
    pub fn new(file: &Path, severity: Severity, message: String) -> Self {
        let file = file.to_owned();
        Self { file, line: 0, column: 0, width: 0, severity, message, help: None, snippet: None }
    }

    /// A finding at a place of a file.
    #[must_use]
    pub fn at(source: &Source, span: Span, severity: Severity, message: String) -> Self {
        let mut diagnostic = Self::new(source.path(), severity, message);
        diagnostic.line = span.line;
        diagnostic.column = span.column;
        diagnostic.width = span.width;
        diagnostic.snippet = source.line(span.line).map(snippet::safe_line);
        diagnostic
    }

    /// The finding in one line, with its place, for logs and endpoints.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let place = match (self.line, self.column) {
            (0, _) => String::new(),
            (line, 0) => format!("{line}: "),
            (line, column) => format!("{line}:{column}: "),
        };
        let help = self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}:{place}{}{help}", self.file.display(), self.message)
    }

    /// Adds what to do about it.
    pub fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help = Some(text.into());
        self
    }
}

impl Report {
    /// Whether the file is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// All of it in one line, for what has no file and no lines.
    pub(crate) fn in_one_line(&self) -> String {
        let messages: Vec<&str> = self.0.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
        messages.join("; ")
    }
}

impl From<Diagnostic> for Report {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl std::error::Error for Report {}

impl Findings {
    /// Nothing found yet.
    #[must_use]
    pub fn new(source: &Source) -> Self {
        Self { source: source.clone(), found: Vec::new() }
    }

    /// The file.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Adds an error.
    pub fn error(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(span, Severity::Error, message.into())
    }

    /// Adds a warning.
    pub fn warning(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(span, Severity::Warning, message.into())
    }

    /// The value and the warnings, or everything that is wrong.
    ///
    /// # Errors
    /// The report, if there is an error in it or no value.
    pub fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Diagnostic>), Report> {
        let report = Report(in_order(self.found));
        match value {
            Some(value) if !report.has_errors() => Ok((value, report.0)),
            _ => Err(report),
        }
    }

    fn push(&mut self, span: Span, severity: Severity, message: String) -> &mut Diagnostic {
        let index = self.found.len();
        // The place of each further finding costs a walk through the text; past the cap it is not needed.
        self.found.push(match index < FINDINGS_MAX {
            true => Diagnostic::at(&self.source, span, severity, message),
            false => Diagnostic { line: span.line, ..Diagnostic::new(self.source.path(), severity, message) },
        });
        &mut self.found[index]
    }
}

/// By line; what belongs to the whole file goes last. Past the cap, only the number is said.
fn in_order(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let more = found.len().saturating_sub(FINDINGS_MAX);
    let severity = found.iter().skip(FINDINGS_MAX).map(|diagnostic| diagnostic.severity).min();
    found.truncate(FINDINGS_MAX);
    found.sort_by_key(|diagnostic| (diagnostic.line == 0, diagnostic.line, diagnostic.column));
    if let (Some(severity), Some(last)) = (severity, found.last()) {
        let message = format!("{more} more findings are not shown");
        found.push(Diagnostic::new(&last.file.clone(), severity, message));
    }
    found
}

#[cfg(test)]
mod tests;
