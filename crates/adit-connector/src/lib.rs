//! The private data plane.
