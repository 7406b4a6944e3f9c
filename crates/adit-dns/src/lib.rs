//! Changes of DNS zones, each provider behind one small trait.

mod rfc2136;

use futures_util::future::BoxFuture;

pub use rfc2136::{Algorithm, Rfc2136};

/// Text records of names that the operator has, as proofs of ownership need them.
pub trait TxtRecords: Send + Sync + std::fmt::Debug {
    /// Adds a record beside those that are there, and returns once the provider's own server answers with it.
    fn add<'a>(&'a self, name: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>>;

    /// Removes that record. One that is not there is no error.
    fn remove<'a>(&'a self, name: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>>;
}

/// Why a zone was not changed. Never shows a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The server was not reached, or did not answer.
    #[error("name server {server}: {source}")]
    Server {
        /// Its address.
        server: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server refused.
    #[error("name server {server} refused to change `{name}`: {code}")]
    Refused {
        /// Its address.
        server: String,
        /// What was to be changed.
        name: String,
        /// Its word.
        code: String,
    },
    /// The server knows no zone for the name.
    #[error("name server {server} has no zone for `{name}`")]
    NoZone {
        /// Its address.
        server: String,
        /// The name.
        name: String,
    },
    /// The server took the record and does not answer with it.
    #[error("name server {server} does not answer with the new record of `{name}`")]
    NotThere {
        /// Its address.
        server: String,
        /// The name.
        name: String,
    },
    /// A message could not be made or read.
    #[error("DNS message: {0}")]
    Message(String),
    /// The key cannot be used.
    #[error("{0}")]
    Key(String),
}
