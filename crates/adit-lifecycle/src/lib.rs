//! The life of the process: workers, readiness, drain, signals.

pub mod drain;

pub mod readiness;

pub mod signal;

pub mod workers;
