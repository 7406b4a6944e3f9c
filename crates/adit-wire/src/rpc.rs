//! Registration and configuration calls: between the generated types and our own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use capnp::Error;
use uuid::Uuid;

use crate::limits::{CONFIGURATION_BYTES_MAX, FEATURES_MAX, LABEL_BYTES_MAX, SECRET_BYTES_MAX};
use crate::registration::{
    ClientInfo, ConnectionDetails, ConnectionOptions, RegisterError, RegisterRequest, TunnelAuth,
};
use crate::secret::Secret;

#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::use_self,
    clippy::unwrap_used,
    clippy::unimplemented,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths,
    unnameable_types,
    reason = "generated"
)]
#[rustfmt::skip]
pub mod tunnelrpc_capnp;

use tunnelrpc_capnp::{connection_options, connection_response, registration_server};

/// Reads the parameters of `registerConnection`.
///
/// # Errors
/// When a part is missing, too long or of the wrong form.
pub fn read_register(
    params: registration_server::register_connection_params::Reader<'_>,
) -> Result<RegisterRequest, Error> {
    let auth = params.get_auth()?;
    Ok(RegisterRequest {
        auth: TunnelAuth {
            account_tag: text(auth.get_account_tag()?)?,
            secret: Secret::new(bounded(auth.get_tunnel_secret()?, SECRET_BYTES_MAX)?.to_vec()),
        },
        tunnel_id: uuid(params.get_tunnel_id()?)?,
        conn_index: params.get_conn_index(),
        options: read_options(params.get_options()?)?,
    })
}

fn read_options(options: connection_options::Reader<'_>) -> Result<ConnectionOptions, Error> {
    let client = options.get_client()?;
    let client = ClientInfo {
        client_id: uuid(client.get_client_id()?)?,
        features: texts(client.get_features()?)?,
        version: text(client.get_version()?)?,
        arch: text(client.get_arch()?)?,
    };
    Ok(ConnectionOptions {
        client,
        origin_local_ip: ip(options.get_origin_local_ip()?),
        replace_existing: options.get_replace_existing(),
        compression_quality: options.get_compression_quality(),
        num_previous_attempts: options.get_num_previous_attempts(),
    })
}

/// Writes the parameters of `registerConnection`.
pub fn write_register(
    request: &RegisterRequest,
    mut params: registration_server::register_connection_params::Builder<'_>,
) {
    let mut auth = params.reborrow().init_auth();
    auth.set_account_tag(&*request.auth.account_tag);
    auth.set_tunnel_secret(request.auth.secret.expose());
    params.set_tunnel_id(request.tunnel_id.as_bytes());
    params.set_conn_index(request.conn_index);
    let mut options = params.init_options();
    options.set_replace_existing(request.options.replace_existing);
    options.set_compression_quality(request.options.compression_quality);
    options.set_num_previous_attempts(request.options.num_previous_attempts);
    if let Some(ip) = request.options.origin_local_ip {
        options.set_origin_local_ip(&sixteen(ip));
    }
    let mut client = options.init_client();
    client.set_client_id(request.options.client.client_id.as_bytes());
    client.set_version(&*request.options.client.version);
    client.set_arch(&*request.options.client.arch);
    write_texts(
        client.init_features(request.options.client.features.len() as u32),
        &request.options.client.features,
    );
}

/// Reads the answer to `registerConnection`: the edge's yes or no.
///
/// # Errors
/// When the answer makes no sense.
pub fn read_response(
    response: connection_response::Reader<'_>,
) -> Result<Result<ConnectionDetails, RegisterError>, Error> {
    match response.get_result().which()? {
        connection_response::result::Error(error) => {
            let error = error?;
            Ok(Err(RegisterError {
                cause: text(error.get_cause()?)?,
                retry_after: Duration::from_nanos(u64::try_from(error.get_retry_after()).unwrap_or(0)),
                should_retry: error.get_should_retry(),
            }))
        }
        connection_response::result::ConnectionDetails(details) => {
            let details = details?;
            Ok(Ok(ConnectionDetails {
                uuid: uuid(details.get_uuid()?)?,
                location: text(details.get_location_name()?)?,
                remotely_managed: details.get_tunnel_is_remotely_managed(),
                features: texts(details.get_features()?)?,
            }))
        }
    }
}

/// Writes the answer to `registerConnection`.
pub fn write_response(
    answer: &Result<ConnectionDetails, RegisterError>,
    response: connection_response::Builder<'_>,
) {
    match answer {
        Ok(details) => {
            let mut out = response.init_result().init_connection_details();
            out.set_uuid(details.uuid.as_bytes());
            out.set_location_name(&*details.location);
            out.set_tunnel_is_remotely_managed(details.remotely_managed);
            write_texts(out.init_features(details.features.len() as u32), &details.features);
        }
        Err(error) => {
            let mut out = response.init_result().init_error();
            out.set_cause(&*error.cause);
            out.set_retry_after(i64::try_from(error.retry_after.as_nanos()).unwrap_or(i64::MAX));
            out.set_should_retry(error.should_retry);
        }
    }
}

/// Checks the size of a configuration.
///
/// # Errors
/// When it passes [`CONFIGURATION_BYTES_MAX`].
pub fn configuration(bytes: &[u8]) -> Result<&[u8], Error> {
    bounded(bytes, CONFIGURATION_BYTES_MAX)
}

fn bounded(bytes: &[u8], limit: usize) -> Result<&[u8], Error> {
    if bytes.len() > limit {
        return Err(Error::failed(format!("{} bytes where at most {limit} are allowed", bytes.len())));
    }
    Ok(bytes)
}

fn text(text: capnp::text::Reader<'_>) -> Result<String, Error> {
    bounded(text.as_bytes(), LABEL_BYTES_MAX)?;
    Ok(text.to_str()?.to_owned())
}

fn texts(list: capnp::text_list::Reader<'_>) -> Result<Vec<String>, Error> {
    if list.len() as usize > FEATURES_MAX {
        return Err(Error::failed(format!("more than {FEATURES_MAX} features")));
    }
    list.iter().map(|item| text(item?)).collect()
}

fn write_texts(mut list: capnp::text_list::Builder<'_>, texts: &[String]) {
    for (index, text) in texts.iter().enumerate() {
        list.set(index as u32, &**text);
    }
}

fn uuid(bytes: &[u8]) -> Result<Uuid, Error> {
    Uuid::from_slice(bytes).map_err(|_| Error::failed("an id must have 16 bytes".to_owned()))
}

/// Go writes v4 addresses in four bytes or mapped into sixteen.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    let six = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
    Some(six.to_ipv4_mapped().map_or(IpAddr::V6(six), IpAddr::V4))
}

fn sixteen(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(four) => four.to_ipv6_mapped().octets(),
        IpAddr::V6(six) => six.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> RegisterRequest {
        RegisterRequest {
            auth: TunnelAuth { account_tag: "acc".to_owned(), secret: Secret::new(vec![7; 32]) },
            tunnel_id: Uuid::from_u128(1),
            conn_index: 3,
            options: ConnectionOptions {
                client: ClientInfo {
                    client_id: Uuid::from_u128(2),
                    features: vec!["a".to_owned(), "b".to_owned()],
                    version: "1".to_owned(),
                    arch: "linux_amd64".to_owned(),
                },
                origin_local_ip: Some(IpAddr::from([192, 0, 2, 1])),
                replace_existing: false,
                compression_quality: 0,
                num_previous_attempts: 9,
            },
        }
    }

    #[test]
    fn a_registration_survives_the_wire() {
        let mut message = capnp::message::Builder::new_default();
        write_register(&request(), message.init_root());
        let read = read_register(message.get_root_as_reader().unwrap()).unwrap();
        assert_eq!(read.options, request().options);
        assert_eq!((read.tunnel_id, read.conn_index), (Uuid::from_u128(1), 3));
        assert_eq!(read.auth.secret.expose(), [7; 32]);
    }

    #[test]
    fn both_answers_survive_the_wire() {
        let details = ConnectionDetails {
            uuid: Uuid::from_u128(5),
            location: "edge1".to_owned(),
            remotely_managed: true,
            features: vec!["adit_trailers".to_owned()],
        };
        let error = RegisterError {
            cause: "Unauthorized: unknown tunnel".to_owned(),
            retry_after: Duration::from_secs(7),
            should_retry: true,
        };
        for answer in [Ok(details), Err(error)] {
            let mut message = capnp::message::Builder::new_default();
            write_response(&answer, message.init_root());
            assert_eq!(read_response(message.get_root_as_reader().unwrap()).unwrap(), answer);
        }
    }

    #[test]
    fn bounds_hold() {
        let mut long = request();
        long.options.client.version = "x".repeat(LABEL_BYTES_MAX + 1);
        let mut many = request();
        many.options.client.features = vec![String::new(); FEATURES_MAX + 1];
        for bad in [long, many] {
            let mut message = capnp::message::Builder::new_default();
            write_register(&bad, message.init_root());
            assert!(read_register(message.get_root_as_reader().unwrap()).is_err());
        }
        assert!(configuration(&vec![0; CONFIGURATION_BYTES_MAX + 1]).is_err());
    }
}
