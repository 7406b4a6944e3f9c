//! A configuration that the edge pushes: one short stream per call, in either transport.

use std::rc::Rc;

use adit_wire::rpc::configuration;
use adit_wire::rpc::tunnelrpc_capnp::{cloudflared_server, configuration_manager as rpc, session_manager};
use bytes::Bytes;
use h2::server::SendResponse;
use http::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use super::{sessions, stream};
use crate::connector::{ConfigurationApplied, ConfigurationHandler, Handlers, apply};
use crate::framing::H2Reader;
use crate::limits::{CONTROL_BYTES_MAX, RPC_TIMEOUT};

/// Answers the calls of one RPC stream on QUIC; `first` was read with the preamble.
pub(crate) async fn answer(
    first: Bytes,
    recv: quinn::RecvStream,
    send: quinn::SendStream,
    handlers: Handlers,
) {
    let client: cloudflared_server::Client = capnp_rpc::new_client(Server(handlers));
    stream::answer(std::io::Cursor::new(first).chain(recv), send, client.client).await;
}

struct Server(Handlers);

impl rpc::Server for Server {
    async fn update_configuration(
        self: Rc<Self>,
        params: rpc::UpdateConfigurationParams,
        mut results: rpc::UpdateConfigurationResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let applied =
            apply(self.0.configuration.as_ref(), params.get_version(), configuration(params.get_config()?)?);
        let mut out = results.get().init_result();
        out.set_latest_applied_version(applied.version);
        out.set_err(applied.error.as_deref().unwrap_or_default());
        Ok(())
    }
}

impl session_manager::Server for Server {
    async fn register_udp_session(
        self: Rc<Self>,
        params: session_manager::RegisterUdpSessionParams,
        results: session_manager::RegisterUdpSessionResults,
    ) -> Result<(), capnp::Error> {
        sessions::register(self.0.sessions.as_ref(), params, results)
    }

    async fn unregister_udp_session(
        self: Rc<Self>,
        params: session_manager::UnregisterUdpSessionParams,
        _: session_manager::UnregisterUdpSessionResults,
    ) -> Result<(), capnp::Error> {
        sessions::unregister(self.0.sessions.as_ref(), params)
    }
}

impl cloudflared_server::Server for Server {}

/// The body of a push on HTTP/2 (cloudflared: `connection/http2.go`).
#[derive(Deserialize)]
struct Update<'a> {
    version: i32,
    #[serde(borrow)]
    config: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Updated {
    last_applied_version: i32,
    err: Option<String>,
}

/// Answers a push on HTTP/2.
pub(crate) async fn answer_h2(
    reader: H2Reader,
    mut respond: SendResponse<Bytes>,
    handler: Option<ConfigurationHandler>,
) {
    let applied = read_update(reader, handler).await;
    let answer = Updated { last_applied_version: applied.version, err: applied.error };
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    // An edge that is gone needs no answer.
    if let Ok(mut send) = respond.send_response(Response::new(()), false) {
        drop(send.send_data(body.into(), true));
    }
}

async fn read_update(reader: H2Reader, handler: Option<ConfigurationHandler>) -> ConfigurationApplied {
    let refused = |error: String| ConfigurationApplied { version: -1, error: Some(error) };
    let mut body = Vec::new();
    let read = timeout(RPC_TIMEOUT, reader.take(CONTROL_BYTES_MAX).read_to_end(&mut body)).await;
    if !matches!(read, Ok(Ok(_))) {
        return refused("the configuration did not arrive".to_owned());
    }
    match serde_json::from_slice::<Update<'_>>(&body) {
        Ok(update) => apply(handler.as_ref(), update.version, update.config.get().as_bytes()),
        Err(error) => refused(error.to_string()),
    }
}

/// Pushes a configuration over QUIC: a stream of its own, one call.
pub(crate) async fn send_quic(
    connection: &quinn::Connection,
    version: i32,
    json: &[u8],
) -> Result<ConfigurationApplied, capnp::Error> {
    stream::call(connection, async |client: rpc::Client| {
        let mut call = client.update_configuration_request();
        call.get().set_version(version);
        call.get().set_config(json);
        read_applied(&call.send().promise.await?)
    })
    .await
}

fn read_applied(
    answer: &capnp::capability::Response<rpc::update_configuration_results::Owned>,
) -> Result<ConfigurationApplied, capnp::Error> {
    let result = answer.get()?.get_result()?;
    let error = result.get_err()?.to_str()?.to_owned();
    Ok(ConfigurationApplied {
        version: result.get_latest_applied_version(),
        error: (!error.is_empty()).then_some(error),
    })
}

/// The body of a push on HTTP/2, from the edge's side.
pub(crate) fn encode_update(version: i32, json: &[u8]) -> Vec<u8> {
    let mut body = format!(r#"{{"version":{version},"config":"#).into_bytes();
    body.extend_from_slice(json);
    body.push(b'}');
    body
}

/// Reads the answer to a push on HTTP/2. cloudflared loses the text of its errors: `"err":{}`.
pub(crate) async fn decode_updated(body: impl AsyncRead + Unpin) -> Option<ConfigurationApplied> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        last_applied_version: i32,
        err: serde_json::Value,
    }
    let mut text = Vec::new();
    timeout(RPC_TIMEOUT, body.take(CONTROL_BYTES_MAX).read_to_end(&mut text)).await.ok()?.ok()?;
    let answer: Answer = serde_json::from_slice(&text).ok()?;
    let error = match answer.err {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text),
        other => Some(format!("the connector refused it ({other})")),
    };
    Some(ConfigurationApplied { version: answer.last_applied_version, error })
}
