//! The thread of local endpoints: metrics and health never wait for the data path, nor it for them.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use adit_http::local::{Answer, serve};
use http::Method;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::failure::Failure;

/// A running local server; it ends with this.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

/// Starts a local server on an address.
///
/// # Errors
/// When the address is not to be had.
pub(crate) fn start(
    what: &str,
    address: SocketAddr,
    answer: impl Fn(&Method, &str) -> Answer + Send + 'static,
) -> Result<Local, Failure> {
    let failed =
        |error: std::io::Error| Failure::input(format!("cannot listen on {address} ({what}): {error}"));
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let run = move || {
        LocalSet::new().block_on(&runtime, async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            tokio::select! {
                () = serve(listener, Rc::new(answer)) => {}
                // Either word means the end.
                _ = stopped => {}
            }
        });
    };
    std::thread::Builder::new().name(what.to_owned()).spawn(run).map_err(failed)?;
    Ok(Local { address, _stop: stop })
}
