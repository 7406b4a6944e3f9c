//! How a connector logs: the program's own flags, then cloudflared's, then the file.

use std::path::PathBuf;

use adit_config::connector::ConnectorFile;
use adit_telemetry::logging::{Format, LogFile, Settings};

/// What the command line says of the log.
#[derive(Clone, Debug, Default)]
pub struct LogFlags {
    /// The level, if one is given.
    pub level: Option<String>,
    /// How lines look.
    pub format: Format,
}

impl LogFlags {
    /// The settings without a file's word.
    #[must_use]
    pub fn settings(&self, level: &str) -> Settings {
        let level = self.level.clone().unwrap_or_else(|| level.to_owned());
        Settings { format: self.format, level, file: None }
    }

    /// The settings with the file's word where the command line has none.
    pub(super) fn over(&self, file: &ConnectorFile) -> Settings {
        let mut settings = self.settings(file.loglevel.as_deref().unwrap_or("info"));
        if settings.format == Format::Auto && file.other.get("output").is_some_and(|word| word == "json") {
            settings.format = Format::Json;
        }
        // cloudflared's name for the file in its folder.
        let folder = file.other.get("log-directory").map(PathBuf::from);
        let rotating = folder.map(|folder| LogFile::Rotating(folder.join("cloudflared.log")));
        settings.file = file.logfile.clone().map(LogFile::Growing).or(rotating);
        settings
    }
}
