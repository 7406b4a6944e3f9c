//! The admin address of a running edge, as commands see it.

use std::net::SocketAddr;
use std::path::Path;

use adit_config::edge::EdgeFile;
use serde_json::Value;

use crate::failure::Failure;
use crate::local;

/// The admin address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admin(SocketAddr);

impl Admin {
    /// That of an edge's file.
    ///
    /// # Errors
    /// When the file has errors, or names no such address.
    pub(crate) fn of(config: &Path) -> Result<Self, Failure> {
        let (file, _) = EdgeFile::load(config).map_err(Failure::input)?;
        let admin = file.listen.admin;
        admin.map(Self).ok_or_else(|| Failure::input("the edge has no admin address (`listen.admin`)"))
    }

    /// Asks for something.
    ///
    /// # Errors
    /// When nobody answers, or with an error.
    pub(crate) fn get(self, path: &str) -> Result<Value, Failure> {
        self.send("GET", path, "")
    }

    /// Changes something.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn send(self, method: &str, path: &str, json: &str) -> Result<Value, Failure> {
        let nobody = || Failure::broke(format!("no edge answers at {}; does it run?", self.0));
        let (status, body) = local::send(self.0, method, path, json).ok_or_else(nobody)?;
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        match (status, said["error"].as_str()) {
            (200..300, _) => Ok(said),
            (_, Some(error)) => Err(Failure::input(error)),
            _ => Err(Failure::broke(format!(
                "the edge answers {status}: {}",
                String::from_utf8_lossy(&body).trim()
            ))),
        }
    }
}
