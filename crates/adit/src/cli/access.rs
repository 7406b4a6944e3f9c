//! `adit access …`: the visitor's side of a TCP service, with cloudflared's flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Rest;

/// Kinds of clients. All do the same; the words are cloudflared's.
#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// Reach a TCP service behind an edge: on a local address, or on standard input and output.
    Tcp(AccessArgs),
    /// The same for ssh; as a ProxyCommand: `adit access ssh --hostname %h`.
    Ssh(AccessArgs),
    /// The same for remote desktops.
    Rdp(AccessArgs),
    /// The same for Windows shares.
    Smb(AccessArgs),
    /// Print the lines for `~/.ssh/config`.
    SshConfig(SshConfigArgs),
    /// Say what takes the place of a login.
    #[command(hide = true)]
    Login(Rest),
    /// Say what takes the place of a token.
    #[command(hide = true)]
    Token(Rest),
    /// Say what takes the place of a call with a token.
    #[command(hide = true, disable_help_flag = true)]
    Curl(Rest),
    /// Say what takes the place of a short-lived certificate.
    #[command(hide = true)]
    SshGen(Rest),
}

/// For whom the lines are.
#[derive(Args, Clone, Debug, Default)]
pub struct SshConfigArgs {
    /// The service's public name.
    #[arg(long, env = "TUNNEL_SERVICE_HOSTNAME", value_name = "HOST")]
    pub hostname: Option<String>,
    /// With certificates that are made for each login.
    #[arg(long, hide = true)]
    pub short_lived_cert: bool,
}

/// How to reach a TCP service.
#[derive(Args, Clone, Debug, Default)]
pub struct AccessArgs {
    /// The service's public name, with a port where it is not 443.
    #[arg(
        long,
        short = 'T',
        visible_alias = "tunnel-host",
        env = "TUNNEL_SERVICE_HOSTNAME",
        value_name = "HOST[:PORT]"
    )]
    pub hostname: String,
    /// Listen here and open a way for each connection. Without it, the way is standard input and output.
    #[arg(
        long,
        short = 'L',
        visible_aliases = ["listener"],
        env = "TUNNEL_SERVICE_URL",
        value_name = "ADDRESS:PORT"
    )]
    pub url: Option<String>,
    /// Where a bastion is to go, as HOST:PORT.
    #[arg(long, env = "TUNNEL_SERVICE_DESTINATION", value_name = "HOST:PORT")]
    pub destination: Option<String>,
    /// A header of the request, as NAME: VALUE; several may be named.
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Id of a service token.
    #[arg(long, visible_alias = "id", env = "TUNNEL_SERVICE_TOKEN_ID", value_name = "ID")]
    pub service_token_id: Option<String>,
    /// Secret of a service token. Other users of this machine can read it here: prefer the environment.
    #[arg(
        long,
        visible_alias = "secret",
        env = "TUNNEL_SERVICE_TOKEN_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub service_token_secret: Option<String>,
    /// Trust this certificate authority, in PEM, instead of the system's.
    #[arg(long, env = "TUNNEL_CACERT", value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Connect to this address instead of the name's own; the certificate is still the name's.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub connect_to: Option<SocketAddr>,
}
