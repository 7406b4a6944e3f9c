//! Edges, connectors, origins and clients for tests.
