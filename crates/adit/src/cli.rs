//! The command line: flags, environment and help texts.

pub mod access;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use adit_config::connector::Protocol as FileProtocol;
use clap::{Args, Parser, Subcommand, ValueEnum};

use access::AccessCommand;

/// A public front door for services without a public address.
#[derive(Debug, Parser)]
#[command(name = "adit", version, about, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done; 1 it broke; 2 your input is wrong.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// How much to log: error, warn, info, debug or trace.
    #[arg(long, global = true, env = "TUNNEL_LOGLEVEL", default_value = "info", value_name = "LEVEL")]
    pub loglevel: String,

    /// How log lines look: text on a terminal and JSON elsewhere, unless this says otherwise.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Auto, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Text.
    Text,
    /// JSON.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole way in one process: edge, connector and a page.
    Demo {
        /// Address of the HTTPS listener.
        #[arg(long, default_value = "127.0.0.1:8443", value_name = "ADDRESS")]
        listen: SocketAddr,
        /// Show this service instead of the built-in page.
        #[arg(long, value_name = "URL")]
        origin: Option<String>,
    },
    /// The public side.
    #[command(subcommand)]
    Edge(EdgeCommand),
    /// The private side: connect to an edge and serve the rules of a configuration.
    Connect(ConnectArgs),
    /// Tunnels: create and manage them at the edge, run them at home.
    Tunnel(TunnelArgs),
    /// Reach a TCP service behind an edge, as its visitor.
    #[command(subcommand)]
    Access(AccessCommand),
    /// Check an edge's or a connector's file: all errors at once.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(hide = true)]
    Man,
}

/// Commands of the edge.
#[derive(Debug, Subcommand)]
pub enum EdgeCommand {
    /// Make a folder with a file to start from.
    Init {
        /// The folder.
        #[arg(long, value_name = "FOLDER")]
        dir: PathBuf,
        /// The domain that host names live under.
        #[arg(long, value_name = "NAME")]
        domain: String,
        /// Your address, for certificate authorities.
        #[arg(long, value_name = "EMAIL")]
        email: Option<String>,
    },
    /// Run the edge.
    Run {
        /// The edge's file.
        #[arg(long, short, env = "ADIT_EDGE_CONFIG", default_value = "edge.yml", value_name = "FILE")]
        config: PathBuf,
    },
}

/// How to connect. Flags win over the environment, the environment over the file.
#[derive(Args, Clone, Debug, Default)]
pub struct ConnectArgs {
    /// The connector's file (cloudflared's config.yml). Without it, cloudflared's usual places are searched.
    #[arg(long, short, env = "TUNNEL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// An edge to connect to, as HOST or HOST:PORT; several may be named.
    #[arg(long, env = "TUNNEL_EDGE", value_delimiter = ',', value_name = "HOST:PORT")]
    pub edge: Vec<String>,
    /// Certificate authority of the edge, in PEM: the edge's DATA-DIR/tunnel-ca.pem.
    #[arg(long, env = "TUNNEL_CACERT", value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Transport to the edge.
    #[arg(long, short, env = "TUNNEL_TRANSPORT_PROTOCOL", value_enum, value_name = "PROTOCOL")]
    pub protocol: Option<ProtocolArg>,
    /// Number of connections.
    #[arg(long, value_name = "NUMBER")]
    pub ha_connections: Option<u8>,
    /// Address of the local endpoints /ready and /metrics.
    #[arg(long, env = "TUNNEL_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<String>,
    /// File with the tunnel's token.
    #[arg(long, env = "TUNNEL_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The tunnel's token. Other users of this machine can read it here: prefer --token-file.
    #[arg(long, env = "TUNNEL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// The tunnel's credentials file.
    #[arg(long, visible_alias = "cred-file", env = "TUNNEL_CRED_FILE", value_name = "FILE")]
    pub credentials_file: Option<PathBuf>,
    /// Name or id of the tunnel, where neither the file nor the credentials say it.
    #[arg(value_name = "TUNNEL")]
    pub tunnel: Option<String>,
}

/// Transport to the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProtocolArg {
    /// QUIC, and HTTP/2 where UDP does not pass.
    Auto,
    /// QUIC only.
    Quic,
    /// HTTP/2 only.
    Http2,
}

impl From<ProtocolArg> for FileProtocol {
    fn from(protocol: ProtocolArg) -> Self {
        match protocol {
            ProtocolArg::Auto => Self::Auto,
            ProtocolArg::Quic => Self::Quic,
            ProtocolArg::Http2 => Self::Http2,
        }
    }
}

/// `adit tunnel …`, with cloudflared's flags before the verb.
#[derive(Args, Debug)]
pub struct TunnelArgs {
    /// The edge's file for create, list, info, token, rotate and delete; the connector's for run.
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// An edge to connect to (run).
    #[arg(long, global = true, env = "TUNNEL_EDGE", value_delimiter = ',', value_name = "HOST:PORT")]
    pub edge: Vec<String>,
    /// Certificate authority of the edge (run).
    #[arg(long, global = true, env = "TUNNEL_CACERT", value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Transport to the edge (run).
    #[arg(
        long,
        short,
        global = true,
        env = "TUNNEL_TRANSPORT_PROTOCOL",
        value_enum,
        value_name = "PROTOCOL"
    )]
    pub protocol: Option<ProtocolArg>,
    /// Number of connections (run).
    #[arg(long, global = true, value_name = "NUMBER")]
    pub ha_connections: Option<u8>,
    /// Address of the local endpoints (run).
    #[arg(long, global = true, env = "TUNNEL_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<String>,
    /// Accepted for cloudflared's sake: nothing here updates itself.
    #[arg(long, global = true, hide = true)]
    pub no_autoupdate: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: TunnelCommand,
}

/// Commands on tunnels.
#[derive(Debug, Subcommand)]
pub enum TunnelCommand {
    /// Create a tunnel at the edge. Works before the edge's first run and beside a running one.
    Create {
        /// Its name.
        name: String,
        /// A host name, or `*.domain`, that it may serve; several may be named.
        #[arg(long, required = true, num_args = 1.., value_name = "PATTERN")]
        hostname: Vec<String>,
        /// Write its credentials here.
        #[arg(long, value_name = "FILE")]
        credentials_file: Option<PathBuf>,
    },
    /// List the tunnels of an edge.
    List {
        /// How to answer.
        #[arg(long, value_enum, default_value_t = Answer::Text)]
        output: Answer,
    },
    /// Show one tunnel: connections, names, refusals.
    Info {
        /// Its name or id.
        name: String,
        /// How to answer.
        #[arg(long, value_enum, default_value_t = Answer::Text)]
        output: Answer,
    },
    /// Print a tunnel's token.
    Token {
        /// Its name.
        name: String,
    },
    /// Make a new secret; the old one stays good for a while.
    Rotate {
        /// Its name.
        name: String,
        /// How long the old secret stays good, in hours.
        #[arg(long, default_value_t = 24, value_name = "HOURS")]
        keep_old: u64,
        /// Write the new credentials here instead of printing the token.
        #[arg(long, value_name = "FILE")]
        credentials_file: Option<PathBuf>,
    },
    /// Delete a tunnel; its connectors are refused from then on.
    Delete {
        /// Its name.
        name: String,
    },
    /// Run a connector (the same as `adit connect`).
    Run {
        /// File with the tunnel's token.
        #[arg(long, env = "TUNNEL_TOKEN_FILE", value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// The tunnel's token. Prefer --token-file.
        #[arg(long, env = "TUNNEL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
        token: Option<String>,
        /// The tunnel's credentials file.
        #[arg(long, visible_alias = "cred-file", env = "TUNNEL_CRED_FILE", value_name = "FILE")]
        credentials_file: Option<PathBuf>,
        /// Name or id of the tunnel.
        name: Option<String>,
    },
}

/// How a command answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl TunnelArgs {
    /// The edge's file.
    #[must_use]
    pub fn edge_config(&self) -> PathBuf {
        let named = self.config.clone().or_else(|| std::env::var_os("ADIT_EDGE_CONFIG").map(PathBuf::from));
        named.unwrap_or_else(|| PathBuf::from("edge.yml"))
    }

    /// The arguments of `run`, as `adit connect` takes them.
    #[must_use]
    pub fn connect(&self) -> Option<ConnectArgs> {
        let TunnelCommand::Run { token_file, token, credentials_file, name } = &self.command else {
            return None;
        };
        Some(ConnectArgs {
            config: self.config.clone(),
            edge: self.edge.clone(),
            cacert: self.cacert.clone(),
            protocol: self.protocol,
            ha_connections: self.ha_connections,
            metrics: self.metrics.clone(),
            token_file: token_file.clone(),
            token: token.clone(),
            credentials_file: credentials_file.clone(),
            tunnel: name.clone(),
        })
    }
}

/// Hours as a duration.
#[must_use]
pub fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours.saturating_mul(3600))
}
