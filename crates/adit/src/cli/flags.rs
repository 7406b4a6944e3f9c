//! cloudflared's flags of a connector, as a table. Each is a key of the file too, so that one place reads and checks both
//! ([`adit_config::connector::overlay`]).

use adit_config::connector::overlay::Flag;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// The flags that were given, on the command line or in the environment.
#[derive(Clone, Debug, Default)]
pub struct ConnectorFlags(pub Vec<Flag>);

/// One flag.
struct Known {
    name: &'static str,
    env: &'static str,
    kind: Kind,
    help: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Value,
    /// `--flag`, `--flag=true`, `--flag=false`.
    Switch,
    List,
}

const fn value(name: &'static str, env: &'static str, help: &'static str) -> Known {
    Known { name, env, kind: Kind::Value, help }
}

const fn switch(name: &'static str, env: &'static str, help: &'static str) -> Known {
    Known { name, env, kind: Kind::Switch, help }
}

const fn list(name: &'static str, env: &'static str, help: &'static str) -> Known {
    Known { name, env, kind: Kind::List, help }
}

/// All of them. Those without a help have no effect: cloudflared has them, or once had, and command lines name them.
const FLAGS: [Known; 95] = [
    list("edge", "TUNNEL_EDGE", "An edge to connect to, as HOST or HOST:PORT; several may be named"),
    value(
        "cacert",
        "TUNNEL_CACERT",
        "Certificate authority of the edge, in PEM: the edge's DATA-DIR/tunnel-ca.pem",
    ),
    value("token-file", "TUNNEL_TOKEN_FILE", "File with the tunnel's token"),
    value(
        "token",
        "TUNNEL_TOKEN",
        "The tunnel's token. Other users of this machine can read it here: prefer --token-file",
    ),
    value("credentials-file", "TUNNEL_CRED_FILE", "The tunnel's credentials file"),
    value("credentials-contents", "TUNNEL_CRED_CONTENTS", "The text of a credentials file"),
    value(
        "protocol",
        "TUNNEL_TRANSPORT_PROTOCOL",
        "Transport to the edge: auto (QUIC, and HTTP/2 where UDP does not pass), quic or http2",
    ),
    value("ha-connections", "", "Number of connections"),
    value(
        "metrics",
        "TUNNEL_METRICS",
        "Address of the local endpoints /ready, /metrics, /config and /diag/…",
    ),
    value("grace-period", "TUNNEL_GRACE_PERIOD", "Time for running requests on SIGTERM"),
    value(
        "retries",
        "TUNNEL_RETRIES",
        "Largest pause between attempts to connect, as a power of two seconds",
    ),
    value("edge-ip-version", "TUNNEL_EDGE_IP_VERSION", "IP version to reach the edge with: auto, 4 or 6"),
    value("edge-bind-address", "TUNNEL_EDGE_BIND_ADDRESS", "Local address to reach the edge from"),
    switch("post-quantum", "TUNNEL_POST_QUANTUM", "Connect with post-quantum key exchange only"),
    list("tag", "TUNNEL_TAG", ""),
    value("logfile", "TUNNEL_LOGFILE", "File of the log, beside standard error"),
    value("pidfile", "TUNNEL_PIDFILE", "File for the process id, written once a connection is registered"),
    value("output", "TUNNEL_LOG_OUTPUT", "How log lines look: default or json"),
    value("transport-loglevel", "TUNNEL_TRANSPORT_LOGLEVEL", "How much the transport logs"),
    value("url", "TUNNEL_URL", "One service for everything, where the file has no rules"),
    switch("hello-world", "TUNNEL_HELLO_WORLD", "The built-in page for everything"),
    switch("bastion", "TUNNEL_BASTION", "A bastion for everything"),
    value("unix-socket", "TUNNEL_UNIX_SOCKET", "A service behind a socket for everything"),
    switch("socks5", "TUNNEL_SOCKS", "The one service is a SOCKS5 proxy"),
    value("proxy-connect-timeout", "", "Time to connect to the one service"),
    value("proxy-tls-timeout", "", "Time for its TLS handshake"),
    value("proxy-tcp-keepalive", "", "Interval of its keep-alive probes"),
    switch("proxy-no-happy-eyeballs", "", "Do not try IPv4 and IPv6 side by side"),
    value("proxy-keepalive-connections", "", "Idle connections to it that are kept"),
    value("proxy-keepalive-timeout", "", "Time that an idle connection is kept"),
    value("http-host-header", "TUNNEL_HTTP_HOST_HEADER", "Host header for it"),
    value("origin-server-name", "TUNNEL_ORIGIN_SERVER_NAME", "Name that its certificate must have"),
    switch("match-sni-to-host", "", "Take that name from the Host header"),
    value(
        "origin-ca-pool",
        "TUNNEL_ORIGIN_CA_POOL",
        "Certificate authorities that its certificate may come from",
    ),
    switch("no-tls-verify", "NO_TLS_VERIFY", "Accept any certificate of it"),
    switch("no-chunked-encoding", "TUNNEL_NO_CHUNKED_ENCODING", "Send it no chunked bodies"),
    switch("http2-origin", "TUNNEL_ORIGIN_ENABLE_HTTP2", "Speak HTTP/2 to it"),
    value("proxy-address", "TUNNEL_PROXY_ADDRESS", ""),
    value("proxy-port", "TUNNEL_PROXY_PORT", ""),
    list("features", "", ""),
    value("label", "", ""),
    value("region", "TUNNEL_REGION", ""),
    value("origincert", "TUNNEL_ORIGIN_CERT", ""),
    value("log-directory", "TUNNEL_LOGDIRECTORY", "Folder for the log, which is cloudflared.log there"),
    value("max-active-flows", "TUNNEL_MAX_ACTIVE_FLOWS", ""),
    switch("no-autoupdate", "", ""),
    value("autoupdate-freq", "", ""),
    switch("no-prechecks", "", ""),
    switch("is-autoupdated", "", ""),
    value("api-key", "", ""),
    value("api-email", "", ""),
    value("api-ca-key", "", ""),
    value("api-url", "", ""),
    value("lb-pool", "", ""),
    value("metrics-update-freq", "", ""),
    value("heartbeat-interval", "", ""),
    value("heartbeat-count", "", ""),
    value("max-edge-addr-retries", "", ""),
    value("rpc-timeout", "", ""),
    value("write-stream-timeout", "", ""),
    switch("quic-disable-pmtu-discovery", "", ""),
    value("quic-connection-level-flow-control-limit", "", ""),
    value("quic-stream-level-flow-control-limit", "", ""),
    value("compression-quality", "", ""),
    switch("use-reconnect-token", "", ""),
    value("dial-edge-timeout", "", ""),
    switch("stdin-control", "", ""),
    switch("ui", "", ""),
    value("quick-service", "", ""),
    value("max-fetch-size", "", ""),
    switch("management-diagnostics", "", ""),
    value("management-hostname", "", ""),
    value("service-op-ip", "", ""),
    value("proxy-connection-timeout", "", ""),
    value("proxy-expect-continue-timeout", "", ""),
    value("local-ssh-port", "", ""),
    value("ssh-idle-timeout", "", ""),
    value("ssh-max-timeout", "", ""),
    value("bucket-name", "", ""),
    value("region-name", "", ""),
    value("secret-id", "", ""),
    value("access-key-id", "", ""),
    value("session-token", "", ""),
    value("s3-url-host", "", ""),
    value("host-key-path", "", ""),
    switch("ssh-server", "", ""),
    switch("proxy-dns", "", ""),
    value("proxy-dns-port", "", ""),
    value("proxy-dns-address", "", ""),
    list("proxy-dns-upstream", "", ""),
    value("proxy-dns-max-upstream-conns", "", ""),
    list("proxy-dns-bootstrap", "", ""),
    value("icmpv4-src", "", ""),
    value("icmpv6-src", "", ""),
    list("dns-resolver-addrs", "", ""),
];

/// Other spellings of a flag.
fn aliases(name: &str) -> &'static [&'static str] {
    match name {
        "credentials-file" => &["cred-file"],
        "post-quantum" => &["pq"],
        "transport-loglevel" => &["proto-loglevel"],
        _ => &[],
    }
}

/// Whether a word is a flag of ours without its dashes: cloudflared takes one dash too.
#[must_use]
pub fn is_known(name: &str) -> bool {
    let name = name.split('=').next().unwrap_or_default();
    FLAGS.iter().any(|flag| flag.name == name || aliases(flag.name).contains(&name))
}

/// Whether a flag of ours, without its dashes and with no `=` in it, has its value in the next argument.
#[must_use]
pub fn takes_next(name: &str) -> bool {
    let flag = FLAGS.iter().find(|flag| flag.name == name || aliases(flag.name).contains(&name));
    flag.is_some_and(|flag| flag.kind != Kind::Switch)
}

impl Args for ConnectorFlags {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, flag| command.arg(argument(flag)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(flag: &'static Known) -> Arg {
    let mut argument = Arg::new(flag.name)
        .long(flag.name)
        .visible_aliases(aliases(flag.name).iter().copied())
        .help(flag.help)
        .hide(flag.help.is_empty())
        // Subcommands have an answer format of that name.
        .global(flag.name != "output")
        .hide_env_values(true)
        .action(if flag.kind == Kind::List { ArgAction::Append } else { ArgAction::Set })
        .value_name(placeholder(flag.name));
    if flag.name == "protocol" {
        argument = argument.short('p');
    }
    if flag.kind == Kind::Switch {
        argument = argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false");
    }
    argument = match flag.kind {
        Kind::List => argument.value_delimiter(','),
        // The last one counts, as in cloudflared.
        Kind::Value | Kind::Switch => argument.overrides_with(flag.name),
    };
    if flag.env.is_empty() { argument } else { argument.env(flag.env) }
}

/// What stands for the value in the help.
fn placeholder(name: &str) -> &'static str {
    match name.rsplit('-').next().unwrap_or_default() {
        "file" | "pidfile" | "logfile" | "cacert" | "pool" | "socket" => "FILE",
        "edge" => "HOST:PORT",
        "metrics" | "address" => "ADDRESS",
        "timeout" | "period" | "keepalive" => "DURATION",
        "url" => "URL",
        "connections" | "retries" | "port" => "NUMBER",
        "header" | "name" => "NAME",
        _ => "VALUE",
    }
}

impl FromArgMatches for ConnectorFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |flag: &Known| {
            let source = matches.value_source(flag.name);
            matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        };
        let flag = |flag: &Known| {
            let values = matches.get_many::<String>(flag.name).into_iter().flatten();
            // Of a flag that is no list, the last one counts.
            let values = values.filter(|value| !value.is_empty());
            let values = values.map(|value| spelled(flag.kind, value)).collect::<Vec<_>>();
            Flag { name: flag.name.to_owned(), values, list: flag.kind == Kind::List }
        };
        let flags = FLAGS.iter().filter(|flag| given(flag)).map(flag);
        // An empty variable counts as none, as in cloudflared.
        Ok(Self(flags.filter(|flag| !flag.values.is_empty()).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Go reads `1`, `t` and `TRUE` as true.
fn spelled(kind: Kind, value: &str) -> String {
    match (kind, value.to_ascii_lowercase().as_str()) {
        (Kind::Switch, "1" | "t" | "true") => "true".to_owned(),
        (Kind::Switch, "0" | "f" | "false") => "false".to_owned(),
        _ => value.to_owned(),
    }
}

impl ConnectorFlags {
    /// Sets a flag that is no list, if there is a value.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.0.retain(|flag| flag.name != name);
        self.0.push(Flag { name: name.to_owned(), values: vec![value.to_owned()], list: false });
    }

    /// The value of a flag that is no list.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|flag| flag.name == name)?.values.last().map(String::as_str)
    }
}
