//! Files to [`adit_policy::snapshot::Snapshot`] and [`adit_policy::ingress::Ingress`], with every error at once.
//!
//! [`edge`] reads `edge.yml`, [`connector`] reads cloudflared's `config.yml`, [`check`] tells which of the two a file
//! is. Both are strict: an unknown key is an error with file, line, column and a suggestion ([`diagnostic`]). Relative
//! paths in `edge.yml` start at its directory. `${NAME}` is not expanded.

pub mod diagnostic;
pub mod yaml;

pub mod duration;
mod source;

pub mod tunnel_name;

pub mod policy;

pub mod edge;
pub mod stored;

pub mod connector;

pub mod check;

pub mod schema;

pub use duration::{DurationError, parse_duration};
pub use source::{FILE_BYTES_MAX, Source};
