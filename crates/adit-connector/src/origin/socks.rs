//! A SOCKS5 server inside a WebSocket (`socks-proxy`): it goes only where the rule's `ipRules` allow.

use adit_wire::socks5::{self, Reply, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connect::{allowed, connect_any, resolve};
use super::tcp::Visitor;
use super::{Origin, OriginError};

/// A greeting has 257 bytes at most, a request 262.
const MESSAGE_MAX: usize = 512;

/// Speaks with the client until a connection stands. `None`: it was refused, and told so.
///
/// # Errors
/// [`OriginError`] when the client is gone, or too slow.
pub(super) async fn connect(
    visitor: &mut Visitor,
    origin: &Origin,
) -> Result<Option<TcpStream>, OriginError> {
    let limit = origin.settings.connect_timeout;
    let asked = timeout(limit, asked(visitor)).await;
    let asked = asked.map_err(|_| OriginError::ConnectTimeout("a SOCKS client".to_owned(), limit))?;
    let connected = match asked.map_err(OriginError::Broken)? {
        Ok(target) => open(origin, &target).await,
        Err(reply) => Err(reply),
    };
    let reply = connected.as_ref().map_or_else(|reply| *reply, |_| Reply::Succeeded);
    if let Err(refused) = &connected {
        tracing::info!(cause = %refused, "SOCKS request refused");
    }
    let said = async {
        visitor.write_all(&reply.encode()).await?;
        visitor.flush().await
    };
    said.await.map_err(OriginError::Broken)?;
    Ok(connected.ok())
}

/// Greeting and request.
async fn asked(visitor: &mut Visitor) -> std::io::Result<Result<Target, Reply>> {
    let mut buffer = Vec::with_capacity(MESSAGE_MAX);
    let no_authentication = match message(visitor, &mut buffer, socks5::greeting).await? {
        Ok(offered) => offered,
        Err(reply) => return Ok(Err(reply)),
    };
    if !no_authentication {
        visitor.write_all(&socks5::NO_ACCEPTABLE_METHOD).await?;
        return Ok(Err(Reply::NotAllowed));
    }
    visitor.write_all(&socks5::NO_AUTHENTICATION).await?;
    visitor.flush().await?;
    message(visitor, &mut buffer, socks5::request).await
}

/// Reads one message and takes it off the buffer.
async fn message<T>(
    visitor: &mut Visitor,
    buffer: &mut Vec<u8>,
    parse: impl Fn(&[u8]) -> Result<Option<(usize, T)>, Reply>,
) -> std::io::Result<Result<T, Reply>> {
    loop {
        match parse(buffer) {
            Ok(Some((length, message))) => {
                buffer.drain(..length);
                return Ok(Ok(message));
            }
            Ok(None) if buffer.len() < MESSAGE_MAX => {}
            Ok(None) => return Ok(Err(Reply::GeneralFailure)),
            Err(reply) => return Ok(Err(reply)),
        }
        let mut part = visitor.take((MESSAGE_MAX - buffer.len()) as u64);
        if part.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn open(origin: &Origin, target: &Target) -> Result<TcpStream, Reply> {
    let (shown, addresses) = match target {
        Target::Address(address) => (address.to_string(), vec![*address]),
        Target::Name(name, port) => {
            let addresses = resolve(origin, name, *port).await.map_err(|_| Reply::HostUnreachable)?;
            (format!("{name}:{port}"), addresses)
        }
    };
    let addresses = allowed(origin, addresses);
    if addresses.is_empty() {
        return Err(Reply::NotAllowed);
    }
    connect_any(&origin.settings, &shown, &addresses).await.map_err(|error| match error {
        OriginError::Connect(_, error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Reply::ConnectionRefused
        }
        _ => Reply::HostUnreachable,
    })
}
