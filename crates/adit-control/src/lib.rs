//! Credentials, certificates, reconciliation.
