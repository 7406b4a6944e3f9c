//! The public data plane.
