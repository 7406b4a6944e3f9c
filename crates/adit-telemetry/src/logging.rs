//! The operator's log: text on a terminal, JSON elsewhere.

use std::fs::OpenOptions;
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::time::UtcTime;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

mod lines;
mod rotating;

use lines::Lines;
use rotating::Rotating;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For programs: one object a line with `level`, `time`, `message` and fields.
    Json,
}

/// The level is not one.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no log level; use error, warn, info, debug or trace")]
pub struct BadLevel(String);

/// What to log, and where.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How lines look.
    pub format: Format,
    /// How much: a level, or a filter in the syntax of `tracing`.
    pub level: String,
    /// A file that gets the lines too.
    pub file: Option<LogFile>,
}

/// A file of log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFile {
    /// It grows; somebody else may put it aside.
    Growing(PathBuf),
    /// It is put aside at 1 MiB, and five old ones are kept.
    Rotating(PathBuf),
}

/// Logging cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The level is not one.
    #[error(transparent)]
    Level(#[from] BadLevel),
    /// The file cannot be written.
    #[error("log file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Starts logging to standard error. Later calls change nothing.
///
/// # Errors
/// [`LoggingError`] when the level is none, or the file cannot be opened.
pub fn init(settings: &Settings) -> Result<(), LoggingError> {
    let Settings { format, level, file } = settings;
    let bad = |_| BadLevel(level.clone());
    let filter = EnvFilter::try_new(quieted(level)).map_err(bad)?;
    let json = match format {
        Format::Auto => !std::io::stderr().is_terminal(),
        Format::Text => false,
        Format::Json => true,
    };
    let terminal =
        fmt::layer().with_writer(std::io::stderr).with_timer(UtcTime::rfc_3339()).with_target(false);
    let terminal = match json {
        true => terminal.event_format(Lines).boxed(),
        false => terminal.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    // For programs, whatever people see.
    let file = match file {
        Some(file) => Some(fmt::layer().with_writer(open(file)?).event_format(Lines)),
        None => None,
    };
    // A second initialisation, as in tests, is no error.
    let started = tracing_subscriber::registry().with(filter).with(terminal).with(file).try_init();
    if started.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
    Ok(())
}

/// A panic is a mistake of ours. It ends one task; the operator reads of it where everything else is.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    tracing::error!(
        thread = thread.name(),
        location = panic.location().map(tracing::field::display),
        cause = panic.payload_as_str(),
        "panicked; please report this"
    );
}

fn open(file: &LogFile) -> Result<BoxMakeWriter, LoggingError> {
    let (LogFile::Growing(path) | LogFile::Rotating(path)) = file;
    let failed = |source| LoggingError::File { path: path.clone(), source };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    Ok(match file {
        LogFile::Growing(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
            BoxMakeWriter::new(Arc::new(file))
        }
        LogFile::Rotating(path) => BoxMakeWriter::new(Mutex::new(Rotating::open(path).map_err(failed)?)),
    })
}

/// A plain level is for us; the libraries below speak only when it is serious.
fn quieted(level: &str) -> String {
    let plain = ["error", "warn", "info", "debug", "trace"];
    let level = match level.to_ascii_lowercase().as_str() {
        "fatal" | "panic" => "error".to_owned(),
        other => other.to_owned(),
    };
    if !plain.contains(&level.as_str()) {
        return level;
    }
    format!("{level},quinn=warn,quinn_proto=warn,h2=warn,hyper=warn,rustls=error")
}

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
