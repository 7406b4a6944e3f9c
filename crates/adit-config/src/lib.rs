//! Files to Snapshot, with every error at once.
