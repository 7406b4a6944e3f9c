//! `adit check FILE`: everything that is wrong with a file, at once.

use std::path::Path;

use crate::failure::Failure;

/// Checks an edge's or a connector's file; the summary is the answer. `strict` refuses what is warned of as well.
///
/// # Errors
/// The report when there are errors.
pub fn check(path: &Path, strict: bool) -> Result<String, Failure> {
    let outcome = adit_config::check::check(path);
    if !outcome.is_ok() || (strict && !outcome.is_flawless()) {
        return Err(Failure::input(outcome.report));
    }
    let warnings = outcome.report.to_string();
    let gap = if warnings.is_empty() { "" } else { "\n" };
    Ok(format!("{warnings}{gap}{}", outcome.summary))
}
