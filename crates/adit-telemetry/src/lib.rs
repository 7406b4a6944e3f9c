//! What the process says about itself: log lines, metrics, one access record per request.

pub mod logging;

pub mod metrics;

pub mod record;

pub mod access_log;

mod json;
