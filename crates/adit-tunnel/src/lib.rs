//! The tunnel protocol over QUIC and over HTTP/2.
