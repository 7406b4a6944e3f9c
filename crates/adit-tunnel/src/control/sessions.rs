//! Calls that open and end UDP sessions of version 2: one short stream per call, from either end
//! (cloudflared: `tunnelrpc/quic/`).

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use adit_wire::preamble::{self, Parsed, Preamble, RPC_PREAMBLE};
use adit_wire::rpc::tunnelrpc_capnp::session_manager as rpc;
use tokio::time::timeout;
use uuid::Uuid;

use super::stream;
use crate::limits::RPC_TIMEOUT;

/// Who opens and ends UDP sessions.
pub trait UdpSessions {
    /// Opens a session.
    ///
    /// # Errors
    /// In words for the edge's operator.
    fn register(&self, id: Uuid, to: SocketAddr, idle: Duration) -> Result<(), String>;

    /// A session is over.
    fn unregister(&self, id: Uuid);
}

/// The calls of a connector, answered.
pub(crate) fn register(
    sessions: Option<&Rc<dyn UdpSessions>>,
    params: rpc::RegisterUdpSessionParams,
    mut results: rpc::RegisterUdpSessionResults,
) -> Result<(), capnp::Error> {
    let params = params.get()?;
    let id = id(params.get_session_id()?)?;
    let to = SocketAddr::new(address(params.get_dst_ip()?)?, params.get_dst_port());
    let idle = Duration::from_nanos(u64::try_from(params.get_close_after_idle_hint()).unwrap_or_default());
    let opened = match sessions {
        Some(sessions) => sessions.register(id, to, idle),
        None => Err("UDP sessions are not offered".to_owned()),
    };
    let mut result = results.get().init_result();
    if let Err(error) = opened {
        result.set_err(&error);
    }
    Ok(())
}

/// The other call, answered.
pub(crate) fn unregister(
    sessions: Option<&Rc<dyn UdpSessions>>,
    params: rpc::UnregisterUdpSessionParams,
) -> Result<(), capnp::Error> {
    let id = id(params.get()?.get_session_id()?)?;
    if let Some(sessions) = sessions {
        sessions.unregister(id);
    }
    Ok(())
}

/// Answers the calls of a stream that the connector opened.
pub(crate) async fn answer(
    sessions: Rc<dyn UdpSessions>,
    send: quinn::SendStream,
    mut recv: quinn::RecvStream,
) {
    let mut signature = [0; RPC_PREAMBLE.len()];
    let read = timeout(RPC_TIMEOUT, recv.read_exact(&mut signature)).await;
    let is_rpc = matches!(preamble::parse(&signature), Ok(Parsed::Complete(Preamble::Rpc, _)));
    if matches!(read, Ok(Ok(()))) && is_rpc {
        let client: rpc::Client = capnp_rpc::new_client(Server(sessions));
        stream::answer(recv, send, client.client).await;
    }
}

struct Server(Rc<dyn UdpSessions>);

impl rpc::Server for Server {
    async fn unregister_udp_session(
        self: Rc<Self>,
        params: rpc::UnregisterUdpSessionParams,
        _: rpc::UnregisterUdpSessionResults,
    ) -> Result<(), capnp::Error> {
        unregister(Some(&self.0), params)
    }
}

/// Asks the connector for a session.
///
/// # Errors
/// In words, when there is none.
pub(crate) async fn call_register(
    connection: &quinn::Connection,
    id: Uuid,
    to: SocketAddr,
    idle: Duration,
) -> Result<(), String> {
    let octets = match to.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let called = stream::call(connection, async |client: rpc::Client| {
        let mut call = client.register_udp_session_request();
        let mut params = call.get();
        params.set_session_id(id.as_bytes());
        params.set_dst_ip(&octets);
        params.set_dst_port(to.port());
        params.set_close_after_idle_hint(i64::try_from(idle.as_nanos()).unwrap_or(i64::MAX));
        params.set_trace_context("");
        let answer = call.send().promise.await?;
        let error = answer.get()?.get_result()?.get_err()?.to_str()?.to_owned();
        if error.is_empty() { Ok(()) } else { Err(capnp::Error::failed(error)) }
    });
    called.await.map_err(|error| error.extra)
}

/// Tells the other end that a session is over.
///
/// # Errors
/// In words, when it did not hear.
pub(crate) async fn call_unregister(
    connection: &quinn::Connection,
    id: Uuid,
    message: &str,
) -> Result<(), String> {
    let called = stream::call(connection, async |client: rpc::Client| {
        let mut call = client.unregister_udp_session_request();
        call.get().set_session_id(id.as_bytes());
        call.get().set_message(message);
        call.send().promise.await.map(drop)
    });
    called.await.map_err(|error| error.extra)
}

fn id(bytes: &[u8]) -> Result<Uuid, capnp::Error> {
    Uuid::from_slice(bytes).map_err(|_| capnp::Error::failed("the session's id has not 16 bytes".to_owned()))
}

fn address(bytes: &[u8]) -> Result<IpAddr, capnp::Error> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(v4.into());
    }
    let v6 = <[u8; 16]>::try_from(bytes);
    let v6 = v6.map_err(|_| capnp::Error::failed("the address has neither 4 nor 16 bytes".to_owned()))?;
    Ok(IpAddr::from(v6).to_canonical())
}
