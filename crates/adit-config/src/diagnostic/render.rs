//! Findings as text for a terminal.

use std::fmt;

use super::{Diagnostic, Report, Severity};

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if self.column > 0 {
            write!(f, "{}:", self.column)?;
        }
        write!(f, " {}: {}", self.severity, self.message)?;
        let gutter = " ".repeat(self.line.to_string().len());
        if let Some(snippet) = self.snippet.as_ref().filter(|snippet| !snippet.trim().is_empty()) {
            write!(f, "\n{gutter} |\n{} | {snippet}", self.line)?;
            self.write_caret(f, &gutter, snippet)?;
        }
        match &self.help {
            Some(help) => write!(f, "\n{gutter} = help: {help}"),
            None => Ok(()),
        }
    }
}

impl Diagnostic {
    fn write_caret(&self, f: &mut fmt::Formatter<'_>, gutter: &str, snippet: &str) -> fmt::Result {
        let length = snippet.chars().count();
        let Some(indent) = self.column.checked_sub(1).filter(|&indent| indent <= length) else {
            return Ok(());
        };
        let width = self.width.clamp(1, (length - indent).max(1));
        write!(f, "\n{gutter} | {}{}", " ".repeat(indent), "^".repeat(width))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{diagnostic}")?;
        }
        Ok(())
    }
}
