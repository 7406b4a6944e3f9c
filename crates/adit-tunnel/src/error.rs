//! What can go wrong on a tunnel, from the side of the one who uses it.

/// A request could not be answered through a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection ended before the stream was open: nothing was sent.
    #[error("the tunnel connection is gone")]
    NotSent,
    /// The connection ended, or went silent, after the request was sent and before an answer came.
    #[error("the tunnel connection was lost before an answer came")]
    Lost,
    /// The connector could not reach the origin. The text is for the operator only: it names internal addresses.
    #[error("the connector could not reach the origin: {0}")]
    Origin(String),
    /// The connector reset the stream before an answer came.
    #[error("the connector reset the stream")]
    Reset,
    /// The connector sent bytes that make no sense.
    #[error("the connector sent a malformed answer: {0}")]
    Malformed(String),
    /// The visitor's upload broke off.
    #[error("the upload broke off")]
    Upload,
    /// The upload was cut here: the origin took nothing for long, while others needed the room.
    #[error("the upload was stalled for too long while others waited")]
    Stalled,
}

impl SendError {
    /// Whether the origin cannot have seen the request, whatever its method.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        matches!(self, Self::NotSent)
    }

    /// Whether another connection may answer, if the request can be repeated.
    #[must_use]
    pub fn is_connection_loss(&self) -> bool {
        matches!(self, Self::NotSent | Self::Lost)
    }
}

/// One stream failed; the connection lives on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer reset the stream.
    #[error("the peer reset the stream")]
    Reset,
    /// The connection under the stream ended.
    #[error("the tunnel connection ended")]
    ConnectionLost,
    /// The body ended before its announced length.
    #[error("the body ended early")]
    Truncated,
    /// The peer no longer wants what we send.
    #[error("the peer stopped reading")]
    Stopped,
    /// The stream was cut here: nobody took its bytes for long, while others needed the room.
    #[error("the stream was stalled for too long while others waited")]
    Stalled,
    /// Bytes that make no sense.
    #[error("malformed bytes: {0}")]
    Malformed(String),
}

/// Why a link ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LinkClosed {
    /// We closed it.
    #[error("closed here")]
    Local,
    /// The edge closed it; its reason may be empty.
    #[error("closed by the edge: {0}")]
    Remote(String),
    /// Nothing was heard for the idle time-out.
    #[error("nothing heard from the edge for 5 s")]
    TimedOut,
    /// Anything else the transport says.
    #[error("transport error: {0}")]
    Transport(String),
}

impl From<quinn::ConnectionError> for LinkClosed {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::LocallyClosed => Self::Local,
            E::TimedOut => Self::TimedOut,
            E::ApplicationClosed(close) => Self::Remote(String::from_utf8_lossy(&close.reason).into_owned()),
            other => Self::Transport(other.to_string()),
        }
    }
}

impl From<h2::Error> for LinkClosed {
    fn from(error: h2::Error) -> Self {
        if error.is_go_away() && error.is_remote() {
            return Self::Remote(error.to_string());
        }
        Self::Transport(error.to_string())
    }
}

impl From<quinn::ReadError> for StreamError {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::Reset(_) => Self::Reset,
            _ => Self::ConnectionLost,
        }
    }
}

impl From<quinn::WriteError> for StreamError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::Stopped(_) => Self::Stopped,
            _ => Self::ConnectionLost,
        }
    }
}

impl From<h2::Error> for StreamError {
    fn from(error: h2::Error) -> Self {
        if error.is_io() || error.is_go_away() { Self::ConnectionLost } else { Self::Reset }
    }
}
