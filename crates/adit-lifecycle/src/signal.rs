//! What the operating system asks of us.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Who asked for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownCause {
    /// Ctrl-C.
    Interrupt,
    /// The service manager.
    Terminate,
}

/// The signals of a running service.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Starts to listen; from now on the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// When the runtime cannot register a handler.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves when the end is asked for; a second call waits for a second signal.
    pub async fn shutdown(&mut self) -> ShutdownCause {
        tokio::select! {
            _ = self.interrupt.recv() => ShutdownCause::Interrupt,
            _ = self.terminate.recv() => ShutdownCause::Terminate,
        }
    }

    /// Resolves when a reload is asked for (SIGHUP).
    pub async fn reload(&mut self) {
        self.hangup.recv().await;
    }

    /// Either of the two: the cause of the end, or `None` for a reload.
    pub async fn next(&mut self) -> Option<ShutdownCause> {
        tokio::select! {
            _ = self.interrupt.recv() => Some(ShutdownCause::Interrupt),
            _ = self.terminate.recv() => Some(ShutdownCause::Terminate),
            _ = self.hangup.recv() => None,
        }
    }
}
