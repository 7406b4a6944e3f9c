//! Pure decisions of the edge and the connector.
