//! Pages in place of the built-in ones.

use std::sync::Arc;

/// Templates with `{{…}}`, by status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// For one status.
    pub by_status: Vec<(u16, Arc<str>)>,
    /// For every other one.
    pub other: Option<Arc<str>>,
}

impl Pages {
    /// The template for a status.
    #[must_use]
    pub fn find(&self, status: u16) -> Option<&str> {
        let own = self.by_status.iter().find(|(known, _)| *known == status).map(|(_, page)| page);
        own.or(self.other.as_ref()).map(AsRef::as_ref)
    }
}
