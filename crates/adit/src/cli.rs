//! The command line: flags, environment and help texts.

pub mod access;
pub mod flags;
pub mod spelling;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use access::AccessCommand;
use flags::ConnectorFlags;

/// A public front door for services without a public address.
#[derive(Debug, Parser)]
#[command(name = "adit", version, about, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done; 1 it broke; 2 your input is wrong.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// How much to log: error, warn, info, debug or trace; info, unless the connector's file says otherwise.
    #[arg(long, global = true, env = "TUNNEL_LOGLEVEL", value_name = "LEVEL", overrides_with = "loglevel")]
    pub loglevel: Option<String>,

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
    Connect(ConnectCommandLine),
    /// Tunnels: create and manage them at the edge, run them at home.
    Tunnel(TunnelArgs),
    /// Reach a TCP service behind an edge, as its visitor.
    #[command(subcommand)]
    Access(AccessCommand),
    /// How a running edge is: certificates with their days left, tunnels, and what went wrong.
    Status {
        /// The edge's file.
        #[arg(long, short, env = "ADIT_EDGE_CONFIG", value_name = "FILE", default_value = "edge.yml")]
        config: PathBuf,
        /// How to answer.
        #[arg(long, value_enum, default_value_t = Answer::Text)]
        output: Answer,
    },
    /// What is kept at an edge: how much it is, and that it is not to be used any longer.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Addresses that are kept out of a running edge.
    #[command(subcommand)]
    Ban(BanCommand),
    /// Switch names off: they answer 503 within a second, also after a restart, until `adit resume`.
    Shutoff(NamesArgs),
    /// Take names back into service that `adit shutoff` has switched off.
    Resume(NamesArgs),
    /// What happens to a URL at an edge: whose it is, who ends TLS, and who can read it.
    Explain {
        /// The URL, or a host name.
        url: String,
        /// The edge's file.
        #[arg(long, short, env = "ADIT_EDGE_CONFIG", value_name = "FILE", default_value = "edge.yml")]
        config: PathBuf,
    },
    /// Check an edge's or a connector's file: all errors at once.
    Check {
        /// The file.
        file: PathBuf,
        /// Fail on warnings too: keys without effect, for example.
        #[arg(long)]
        strict: bool,
    },
    /// Print the version.
    #[command(hide = true)]
    Version {
        /// The number alone.
        #[arg(long, short)]
        short: bool,
    },
    /// Say how the program is updated.
    #[command(hide = true)]
    Update(Rest),
    /// Say how the program becomes a service.
    #[command(subcommand, hide = true)]
    Service(ServiceCommand),
    /// Say where the log is.
    #[command(hide = true)]
    Tail(Rest),
    /// Print a JSON Schema of a file, for editors.
    Schema {
        /// Of which file.
        #[arg(value_enum, default_value_t = SchemaOf::Edge)]
        file: SchemaOf,
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

/// Arguments that are taken and not looked at.
#[derive(Args, Clone, Debug, Default)]
pub struct Rest {
    /// Whatever stands there.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub rest: Vec<String>,
}

/// cloudflared's commands on a service of the system.
#[derive(Clone, Debug, Subcommand)]
pub enum ServiceCommand {
    /// Install it.
    Install(Rest),
    /// Remove it.
    Uninstall(Rest),
}

/// cloudflared's commands on routes.
#[derive(Clone, Debug, Subcommand)]
pub enum RouteCommand {
    /// A name.
    Dns(Rest),
    /// A load balancer.
    Lb(Rest),
    /// A private network.
    Ip(Rest),
}

/// Files that have a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// `edge.yml`.
    Edge,
    /// `config.yml` of a connector.
    Connector,
}

/// Names at an edge.
#[derive(Args, Clone, Debug)]
pub struct NamesArgs {
    /// Host names, or `*.domain`.
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub names: Vec<String>,
    /// All of them, ports included.
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// The edge's file.
    #[arg(long, short, env = "ADIT_EDGE_CONFIG", value_name = "FILE", default_value = "edge.yml")]
    pub config: PathBuf,
}

/// Commands on what is kept.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// How much is kept.
    Status {
        /// The edge's file.
        #[arg(long, short, env = "ADIT_EDGE_CONFIG", value_name = "FILE", default_value = "edge.yml")]
        config: PathBuf,
        /// How to answer.
        #[arg(long, value_enum, default_value_t = Answer::Text)]
        output: Answer,
    },
    /// Say that something is not to be used any longer.
    Purge(PurgeArgs),
}

/// What is purged, and by whom.
#[derive(Args, Clone, Debug)]
pub struct PurgeArgs {
    /// What is purged.
    #[command(flatten)]
    pub what: PurgeWhat,
    /// Make it stale in place of removing it: it still stands in when home is away.
    #[arg(long)]
    pub soft: bool,
    /// The edge's file: the call goes to its admin address.
    #[arg(long, short, env = "ADIT_EDGE_CONFIG", value_name = "FILE", default_value = "edge.yml")]
    pub config: PathBuf,
    /// Call the edge through one of the site's own names instead, from anywhere: `https://docs.home.example`.
    #[arg(long, value_name = "URL", requires = "credentials-file")]
    pub through: Option<String>,
    /// The credentials of the tunnel that serves that name.
    #[arg(id = "credentials-file", long, env = "TUNNEL_CRED_FILE", value_name = "FILE")]
    pub credentials_file: Option<PathBuf>,
    /// Certificate authority of the edge, in PEM, where it is not the public ones.
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
}

/// What is purged: one of these.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct PurgeWhat {
    /// Everything.
    #[arg(long)]
    pub all: bool,
    /// A host name, or `*.domain`.
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// One URL, in every form that is kept.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Everything whose URL begins so.
    #[arg(long, value_name = "URL")]
    pub prefix: Option<String>,
    /// Everything that its origin has given this tag (`Cache-Tag`, `Surrogate-Key`).
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
}

/// Commands on bans.
#[derive(Debug, Subcommand)]
pub enum BanCommand {
    /// Who is kept out, since when, until when and why.
    List {
        /// The edge's file.
        #[arg(long, short, env = "ADIT_EDGE_CONFIG", value_name = "FILE", default_value = "edge.yml")]
        config: PathBuf,
        /// How to answer.
        #[arg(long, value_enum, default_value_t = Answer::Text)]
        output: Answer,
    },
    /// Keep an address or a network out.
    Add {
        /// `192.0.2.7` or `198.51.100.0/24`.
        network: String,
        /// For how long: `1h`, `7d`. Without it, for ever.
        #[arg(long, value_name = "TIME")]
        time: Option<String>,
        /// Of this name only.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Why, for whoever reads the list.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// The edge's file.
        #[arg(long, short, env = "ADIT_EDGE_CONFIG", value_name = "FILE", default_value = "edge.yml")]
        config: PathBuf,
    },
    /// Let an address or a network in again.
    Remove {
        /// As it stands in the list.
        network: String,
        /// To this name only.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The edge's file.
        #[arg(long, short, env = "ADIT_EDGE_CONFIG", value_name = "FILE", default_value = "edge.yml")]
        config: PathBuf,
    },
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
    #[arg(long, short, global = true, env = "TUNNEL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// cloudflared's flags.
    #[command(flatten)]
    pub flags: ConnectorFlags,
    /// Name or id of the tunnel, where neither the file nor the credentials say it.
    #[arg(value_name = "TUNNEL")]
    pub tunnel: Option<String>,
}

/// `adit connect …`.
#[derive(Args, Clone, Debug)]
pub struct ConnectCommandLine {
    /// What to do, if not to connect.
    #[command(subcommand)]
    pub command: Option<ConnectCommand>,
    /// How to connect.
    #[command(flatten)]
    pub args: ConnectArgs,
}

/// Commands on a running connector.
#[derive(Clone, Debug, Subcommand)]
pub enum ConnectCommand {
    /// Ask the connector on this machine whether it is connected; for container health checks.
    Health,
}

/// `adit tunnel …`, with cloudflared's flags before the verb or after it.
#[derive(Args, Debug)]
pub struct TunnelArgs {
    /// The edge's file for create, list, info, token, rotate, release and delete; the connector's for the rest.
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// cloudflared's flags.
    #[command(flatten)]
    pub flags: ConnectorFlags,
    /// What to do; without it, run a connector.
    #[command(subcommand)]
    pub command: Option<TunnelCommand>,
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
        #[arg(id = "credentials-file", long, env = "TUNNEL_CRED_FILE", value_name = "FILE")]
        credentials_file: Option<String>,
    },
    /// List the tunnels of an edge.
    List {
        /// How to answer.
        #[arg(long, short, value_enum, default_value_t = TunnelAnswer::Text)]
        output: TunnelAnswer,
        /// Only the tunnel of this name.
        #[arg(long, short, value_name = "NAME")]
        name: Option<String>,
    },
    /// Show one tunnel: connections, names, refusals.
    Info {
        /// Its name or id.
        name: String,
        /// How to answer.
        #[arg(long, short, value_enum, default_value_t = TunnelAnswer::Text)]
        output: TunnelAnswer,
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
        #[arg(id = "credentials-file", long, value_name = "FILE")]
        credentials_file: Option<String>,
    },
    /// Take names away from a tunnel that owns them because it claimed them first.
    Release {
        /// The tunnel's name or id.
        name: String,
        /// The host names, as `adit tunnel info` shows them under `owns`.
        #[arg(required = true, value_name = "HOSTNAME")]
        hostnames: Vec<String>,
    },
    /// Delete a tunnel; its connectors are refused from then on.
    Delete {
        /// Its name.
        name: String,
        /// Kept for cloudflared's sake: connections do not hold a tunnel.
        #[arg(long, short, hide = true)]
        force: bool,
    },
    /// Run a connector (the same as `adit connect`).
    Run {
        /// Kept for cloudflared's sake: a new connection replaces an old one anyway.
        #[arg(long, short, hide = true)]
        force: bool,
        /// How log lines look: default or json.
        #[arg(long, value_name = "FORMAT")]
        output: Option<String>,
        /// Name or id of the tunnel.
        name: Option<String>,
    },
    /// Check the rules of a configuration, or ask which of them a URL meets.
    #[command(subcommand)]
    Ingress(IngressCommand),
    /// Ask the connector on this machine whether it is connected (the same as `adit connect health`).
    #[command(alias = "health")]
    Ready,
    /// Say what takes the place of a login.
    #[command(hide = true)]
    Login(Rest),
    /// Say what takes the place of a route.
    #[command(subcommand, hide = true)]
    Route(RouteCommand),
    /// Say what takes the place of a virtual network.
    #[command(hide = true)]
    Vnet(Rest),
    /// Say that dead connections go by themselves.
    #[command(hide = true)]
    Cleanup(Rest),
    /// Collect what the connector on this machine tells of itself in a ZIP file: connections, flags, machine, metrics.
    Diag {
        /// Write it here, in place of a name with the time in it.
        #[arg(id = "diag-output", long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Leave parts out.
        #[command(flatten)]
        without: DiagWithout,
    },
}

/// Parts that a collection is to be without, with cloudflared's flags.
#[derive(Args, Clone, Debug, Default)]
pub struct DiagWithout {
    /// Leave the metrics out.
    #[arg(long)]
    pub no_diag_metrics: bool,
    /// Leave the machine out.
    #[arg(long)]
    pub no_diag_system: bool,
    /// Logs are never in it.
    #[arg(long, hide = true)]
    pub no_diag_logs: bool,
    /// Nothing of the runtime is in it.
    #[arg(long, hide = true)]
    pub no_diag_runtime: bool,
    /// Nothing of the network is in it.
    #[arg(long, hide = true)]
    pub no_diag_network: bool,
    /// Logs of a container are never in it.
    #[arg(long, hide = true, value_name = "ID")]
    pub diag_container_id: Option<String>,
    /// Logs of a pod are never in it.
    #[arg(long, hide = true, value_name = "ID")]
    pub diag_pod_id: Option<String>,
}

/// Commands on rules.
#[derive(Clone, Debug, Subcommand)]
pub enum IngressCommand {
    /// Check the rules.
    Validate {
        /// The configuration as JSON, instead of the file.
        #[arg(long, short, env = "TUNNEL_INGRESS_VALIDATE_JSON", value_name = "JSON")]
        json: Option<String>,
    },
    /// Show the rule that a URL meets.
    Rule {
        /// The URL.
        url: String,
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

/// How a command on tunnels answers; cloudflared's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TunnelAnswer {
    /// For people.
    #[default]
    #[value(alias = "default")]
    Text,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

impl TunnelArgs {
    /// The edge's file.
    #[must_use]
    pub fn edge_config(&self) -> PathBuf {
        let named = self.config.clone().or_else(|| std::env::var_os("ADIT_EDGE_CONFIG").map(PathBuf::from));
        named.unwrap_or_else(|| PathBuf::from("edge.yml"))
    }

    /// Whether a connector is to be run.
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self.command, None | Some(TunnelCommand::Run { .. }))
    }

    /// The arguments of a connector, as `adit connect` takes them.
    #[must_use]
    pub fn connect(&self) -> ConnectArgs {
        let mut args = ConnectArgs { config: self.config.clone(), flags: self.flags.clone(), tunnel: None };
        if let Some(TunnelCommand::Run { name, output, .. }) = &self.command {
            args.tunnel.clone_from(name);
            args.flags.set("output", output.as_deref());
        }
        args
    }
}

/// Hours as a duration.
#[must_use]
pub fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours.saturating_mul(3600))
}
