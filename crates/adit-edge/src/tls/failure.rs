//! Why a handshake with a visitor failed, in the words of logs and metrics.

use std::io;

use rustls::{Error, PeerMisbehaved};

/// The cause of a failed handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeFailure {
    /// The client closed the connection, or it broke.
    Closed,
    /// The handshake did not complete in time.
    Timeout,
    /// The bytes are not TLS, or malformed.
    NotTls,
    /// The server name is not a host name.
    InvalidServerName,
    /// No certificate is served for the server name, or for a client that sends none.
    NoCertificate,
    /// Client and edge share no version, cipher suite, group or protocol.
    Incompatible,
    /// The client does not accept the edge's certificate, or another part of its handshake.
    Rejected,
    /// The client breaks the rules of TLS.
    Misbehaved,
    /// The name's configuration cannot be put in force.
    Misconfigured,
    /// Another error of the TLS library.
    Other,
}

impl HandshakeFailure {
    /// The cause of an error that the TLS library reported as an I/O error.
    pub(crate) fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            None if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            None => Self::Closed,
            Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => Self::NotTls,
            Some(Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName)) => {
                Self::InvalidServerName
            }
            Some(Error::PeerMisbehaved(_)) => Self::Misbehaved,
            Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Self::Incompatible,
            Some(Error::AlertReceived(_)) => Self::Rejected,
            // The library's words for a resolver that found nothing.
            Some(Error::General(text)) if text.contains("certificate") => Self::NoCertificate,
            Some(_) => Self::Other,
        }
    }

    /// The value of the label `cause`.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::NotTls => "not_tls",
            Self::InvalidServerName => "invalid_server_name",
            Self::NoCertificate => "no_certificate",
            Self::Incompatible => "incompatible",
            Self::Rejected => "rejected_by_client",
            Self::Misbehaved => "misbehaved",
            Self::Misconfigured => "misconfigured",
            Self::Other => "other",
        }
    }

    /// What the operator may do about it, where it may be the operator's.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::NoCertificate => "no certificate is good for this server name; see `adit status`",
            Self::Rejected => "the client does not trust the certificate of this name",
            Self::Misconfigured => "the error that names the file was logged when the configuration was read",
            _ => "the cause is at the client",
        }
    }
}
