//! The connector's end of a tunnel connection: it dials, registers, and answers the streams that the edge opens.

mod dial;
mod h2;
mod quic;
mod reply;
mod request;

use std::collections::VecDeque;
use std::rc::Rc;

use adit_wire::datagram::Version;
use adit_wire::features::{self, Extensions};
use adit_wire::registration::{ConnectionDetails, RegisterRequest};

pub use crate::control::sessions::UdpSessions;
pub use dial::{Dial, DialError, dial};
pub(crate) use reply::CAUSE;
pub use reply::{Duplex, Reply, ReplyBody};
pub use request::{Chunk, RequestBody, StreamRequest};

use crate::control::client::{Control, RegisterFailed};
use crate::datagrams::Datagrams;
use crate::window::Windows;
use crate::{LinkClosed, Protocol, StreamError};

/// Takes a configuration that the edge pushes: version and JSON. Answers the version now in force, or why not.
pub type ConfigurationHandler = Rc<dyn Fn(i32, &[u8]) -> ConfigurationApplied>;

/// Who answers the edge's calls. Without one, they are refused.
#[derive(Clone, Default)]
pub struct Handlers {
    /// Pushed configurations.
    pub configuration: Option<ConfigurationHandler>,
    /// UDP sessions of version 2.
    pub sessions: Option<Rc<dyn UdpSessions>>,
}

/// The answer to a pushed configuration (cloudflared: `UpdateConfigurationResponse`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationApplied {
    /// The version that is in force now; −1 before the first.
    pub version: i32,
    /// Why the pushed one was refused; `None` when it is in force, or was older.
    pub error: Option<String>,
}

/// What both ends of a connection can do, and the windows of its streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agreed {
    pub(crate) extensions: Extensions,
    windows: Windows,
}

impl Agreed {
    /// Returns the windows of the connection's streams, where both ends keep them.
    pub(crate) fn windows(&self) -> Option<&Windows> {
        Some(&self.windows).filter(|_| self.extensions.contains(Extensions::WINDOWS))
    }
}

/// One live connection to an edge. It lives on one thread.
pub struct Link {
    transport: Transport,
    control: Control,
    details: ConnectionDetails,
    agreed: Agreed,
    handlers: Handlers,
    datagram_version: Version,
    backlog: VecDeque<Opening>,
}

enum Transport {
    Quic(quic::Transport),
    H2(Box<h2::Transport>),
}

impl Link {
    fn new(transport: Transport, control: Control) -> Self {
        Self {
            transport,
            control,
            details: ConnectionDetails::default(),
            agreed: Agreed::default(),
            handlers: Handlers::default(),
            datagram_version: Version::V2,
            backlog: VecDeque::new(),
        }
    }

    /// Registers the connection for a tunnel. Streams come afterwards.
    ///
    /// # Errors
    /// [`RegisterFailed`] with the edge's own words, or what happened to the connection.
    pub async fn register(&mut self, request: &RegisterRequest) -> Result<(), RegisterFailed> {
        let control = self.control.clone();
        let details = {
            let mut call = std::pin::pin!(control.register(request));
            loop {
                tokio::select! {
                    biased;
                    details = &mut call => break details?,
                    // HTTP/2 makes progress only while it is asked for streams.
                    opening = self.transport.accept() => self.backlog.push_back(opening?),
                }
            }
        };
        let offered = Extensions::from_features(request.options.client.features.iter().map(String::as_str));
        let answered = Extensions::from_features(details.features.iter().map(String::as_str));
        self.agreed.extensions = offered.intersection(answered);
        self.datagram_version = features::datagram_version(&request.options.client.features);
        self.details = details;
        Ok(())
    }

    /// Sets who answers the edge's calls.
    pub fn answer_calls(&mut self, handlers: Handlers) {
        self.handlers = handlers;
    }

    /// The connection's datagrams; `None` on HTTP/2, which has none.
    #[must_use]
    pub fn datagrams(&self) -> Option<Datagrams> {
        match &self.transport {
            Transport::Quic(transport) => {
                Some(Datagrams::new(transport.connection.clone(), self.datagram_version))
            }
            Transport::H2(_) => None,
        }
    }

    /// The next stream that the edge opens. Cancel-safe; the connection lives only while somebody waits here.
    ///
    /// # Errors
    /// [`LinkClosed`] when the connection has ended.
    pub async fn accept(&mut self) -> Result<Opening, LinkClosed> {
        let mut opening = match self.backlog.pop_front() {
            Some(opening) => opening,
            None => self.transport.accept().await?,
        };
        opening.agreed.clone_from(&self.agreed);
        opening.handlers.clone_from(&self.handlers);
        Ok(opening)
    }

    /// Lets the edge open more streams when many are open.
    pub fn make_room(&mut self, taken: usize) {
        // HTTP/2 reserves nothing, and has room from the start.
        if let Transport::Quic(transport) = &mut self.transport {
            transport.make_room(taken);
        }
    }

    /// The calls of the control stream, to be made while another task waits in [`accept`](Self::accept).
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Which transport this is.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match &self.transport {
            Transport::Quic(_) => Protocol::Quic,
            Transport::H2(_) => Protocol::Http2,
        }
    }

    /// What the edge said at registration.
    #[must_use]
    pub fn details(&self) -> &ConnectionDetails {
        &self.details
    }

    /// What both ends can do beyond cloudflared's protocol.
    #[must_use]
    pub fn extensions(&self) -> Extensions {
        self.agreed.extensions
    }

    /// Closes the connection; running streams are cut.
    pub fn close(&mut self, reason: &str) {
        match &mut self.transport {
            Transport::Quic(transport) => transport.close(reason),
            Transport::H2(transport) => transport.close(),
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("protocol", &self.protocol())
            .field("details", &self.details)
            .finish_non_exhaustive()
    }
}

impl Transport {
    async fn accept(&mut self) -> Result<Opening, LinkClosed> {
        let source = match self {
            Self::Quic(transport) => Source::Quic(transport.accept().await?),
            Self::H2(transport) => Source::H2(transport.accept().await?),
        };
        Ok(Opening { source, agreed: Agreed::default(), handlers: Handlers::default() })
    }
}

/// A stream that the edge opened; its head is not read yet.
pub struct Opening {
    source: Source,
    agreed: Agreed,
    handlers: Handlers,
}

enum Source {
    Quic(quic::Opening),
    H2(h2::Opening),
}

impl Opening {
    /// Reads the head. `None` when the stream was a call to the connector itself, which is answered by now.
    ///
    /// # Errors
    /// [`StreamError`] when the stream breaks off or makes no sense; it is reset then.
    pub async fn read(self) -> Result<Option<Stream>, StreamError> {
        match self.source {
            Source::Quic(opening) => opening.read(&self.agreed, self.handlers).await,
            Source::H2(opening) => opening.read(&self.agreed, self.handlers).await,
        }
    }
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").finish_non_exhaustive()
    }
}

/// One request with its body and the way to answer it.
#[derive(Debug)]
pub struct Stream {
    /// The head.
    pub request: StreamRequest,
    /// The body, which may be empty.
    pub body: RequestBody,
    /// The answer to be given.
    pub reply: Reply,
}

/// Answers a push for which nobody is there.
pub(crate) fn apply(
    handler: Option<&ConfigurationHandler>,
    version: i32,
    json: &[u8],
) -> ConfigurationApplied {
    match handler {
        Some(handler) => handler(version, json),
        None => ConfigurationApplied {
            version: -1,
            error: Some("remote configuration is not taken here".to_owned()),
        },
    }
}
