//! Drain, readiness, task ownership, signals.
