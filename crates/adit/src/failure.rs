//! Why a command failed, and with which exit code.

use std::fmt;
use std::process::ExitCode;

/// A command's failure. The text is for people and names what to do.
#[derive(Debug)]
pub enum Failure {
    /// The input is wrong: exit code 2.
    Input(String),
    /// It broke: exit code 1.
    Broke(String),
}

impl Failure {
    /// The input is wrong.
    pub fn input(text: impl fmt::Display) -> Self {
        Self::Input(text.to_string())
    }

    /// It broke.
    pub fn broke(text: impl fmt::Display) -> Self {
        Self::Broke(text.to_string())
    }

    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) => ExitCode::from(2),
            Self::Broke(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(text) | Self::Broke(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}
