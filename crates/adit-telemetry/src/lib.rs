//! Logging, metrics, the access record.
