//! The control plane of an edge: its certificate authority, its tunnels' credentials, its files.
//!
//! It turns what lies on disk into a Snapshot and a table of certificates, and watches for changes. It never touches a
//! request.

pub mod files;

pub mod authority;

pub mod renewal;

pub mod shutoff;

pub mod owners;

pub mod crowdsec;

pub mod tunnels;

pub mod watch;
