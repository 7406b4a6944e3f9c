//! Files to [`adit_policy::snapshot::Snapshot`] and [`adit_policy::ingress::Ingress`], with every error at once.
//!
//! [`edge`] reads `edge.yml`, [`connector`] reads cloudflared's `config.yml`, [`check`] tells which of the two a file
//! is. An unknown key is an error with file, line, column and a suggestion ([`diagnostic`]); in cloudflared's part of
//! `config.yml` it is a warning. Relative paths in `edge.yml` start at its directory. `${NAME}` is not expanded.

pub mod diagnostic;
pub mod yaml;

pub mod duration;
mod sections;
mod source;

pub mod tunnel_name;

pub mod policy;

pub mod edge;
pub mod stored;

pub mod connector;

pub mod check;

pub mod schema;

pub use duration::{DurationError, parse_duration};
pub use sections::{SectionLost, Sections};
pub use source::{FILE_BYTES_MAX, Source};
