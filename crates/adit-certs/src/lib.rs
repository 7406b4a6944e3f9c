//! Certificates: read from files, or asked for from authorities by ACME (RFC 8555).
//!
//! It knows how to ask once; when to ask, and where to keep the answer, is for others to say ([`schedule`] helps).

pub mod file;

pub mod schedule;

mod account;

mod client;

mod order;

mod proof;

pub use account::Session;
pub use client::Https;
pub use file::{CertificateError, Loaded};
pub use order::{KeyKind, OrderError, Wanted};
pub use proof::{Proof, Prover};
