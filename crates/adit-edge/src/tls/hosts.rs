//! Which names are not served with the usual handshake: their visitors show a certificate, or the edge does not end TLS.

use std::sync::Arc;

use adit_http::trust::TrustPool;
use adit_policy::host::{HostMap, HostPattern};
use adit_policy::host_policy::{ClientCertificates, HostPolicies, HostPolicy, TlsMode};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;

use super::Certificates;
use super::client_certificate::ChainVerifier;

/// What a name's handshake is.
#[derive(Clone, Debug)]
pub(super) enum Handshake {
    /// As for everybody.
    Usual,
    /// With a certificate of the visitor's.
    WithClient(Arc<ServerConfig>, ChainVerifier),
    /// Not ours.
    Passthrough,
    /// None: its configuration could not be put in force, and to serve it without would be worse.
    Refused,
}

/// The handshakes of all names.
pub(super) type Handshakes = HostMap<Handshake>;

/// Prepares the handshakes that policies ask for.
pub(super) fn handshakes(policies: &HostPolicies, certificates: &Arc<Certificates>) -> Handshakes {
    let mut map = Handshakes::default();
    map.insert(&HostPattern::Any, handshake(policies.default_policy(), "defaults", certificates));
    for pattern in policies.patterns() {
        if let Some(policy) = policies.of_pattern(pattern) {
            map.insert(pattern, handshake(policy, &pattern.to_string(), certificates));
        }
    }
    map
}

fn handshake(policy: &HostPolicy, name: &str, certificates: &Arc<Certificates>) -> Handshake {
    match (policy.tls, &policy.client_certificates) {
        (TlsMode::Passthrough, _) => Handshake::Passthrough,
        (TlsMode::Terminate, None) => Handshake::Usual,
        (TlsMode::Terminate, Some(wanted)) => match with_client(wanted, certificates) {
            Ok((config, verifier)) => Handshake::WithClient(Arc::new(config), verifier),
            Err(error) => {
                tracing::error!(name, error, "client certificates cannot be checked; the name is not served");
                Handshake::Refused
            }
        },
    }
}

fn with_client(
    wanted: &ClientCertificates,
    certificates: &Arc<Certificates>,
) -> Result<(ServerConfig, ChainVerifier), String> {
    let verifier = verifier(wanted)?;
    let config = super::server_config(verifier.for_handshake(), certificates.clone());
    Ok((config.map_err(|error| error.to_string())?, verifier))
}

fn verifier(wanted: &ClientCertificates) -> Result<ChainVerifier, String> {
    let mut pool = TrustPool::default();
    for authority in wanted.authorities.iter() {
        pool.add(CertificateDer::from(authority.as_slice()).into_owned())
            .map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = pool.client_verifier(provider, true).map_err(|error| error.to_string())?;
    Ok(ChainVerifier::new(verifier))
}
