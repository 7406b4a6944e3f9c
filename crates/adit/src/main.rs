//! The program `adit`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command answers on the terminal")]

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use adit::cli::access::AccessCommand;
use adit::cli::spelling::{is_cloudflared, normalised};
use adit::cli::{
    Answer, BanCommand, CacheCommand, Cli, Command, EdgeCommand, IngressCommand, LogFormat, RouteCommand,
    SchemaOf, ServiceCommand, TunnelArgs, TunnelCommand, hours,
};
use adit::connect::LogFlags;
use adit::failure::Failure;
use adit::instead::{self, Instead};
use adit::{
    VERSION, access, ban, cache, check, connect, demo, edge, explain, ingress, shutoff, status, tunnel,
};
use adit_config::check::FileKind;
use adit_telemetry::logging;
use clap::{CommandFactory as _, Parser as _};

#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // A connection is a file. The usual limit of 1 024 is for programs that use `select`; what cannot be had is not needed.
    drop(rlimit::increase_nofile_limit(u64::MAX));
    // Memory goes back to the system also while nothing is allocated. Where there are no such threads, it goes back with the
    // next allocations.
    #[cfg(not(target_env = "msvc"))]
    let _without = tikv_jemalloc_ctl::background_thread::write(true);
    let cli = Cli::parse_from(normalised(std::env::args_os()));
    match run(&cli) {
        Ok(answer) => {
            // A reader that has heard enough, as `head` does, is no failure.
            drop(std::io::stdout().write_all(answer.as_bytes()));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: &Cli) -> Result<String, Failure> {
    let log = LogFlags { level: cli.loglevel.clone(), format: log_format(cli.log_format) };
    // A connector's file has a word in it; it starts the log by itself.
    match &cli.command {
        Command::Connect(line) if line.command.is_none() => return connect::run(&line.args, &log).map(done),
        Command::Tunnel(args) if args.runs() => return connect::run(&args.connect(), &log).map(done),
        _ => {}
    }
    // A demo is watched on a terminal: its own lines must not drown.
    let level = if matches!(cli.command, Command::Demo { .. }) { "error" } else { "info" };
    logging::init(&log.settings(level)).map_err(Failure::input)?;
    match &cli.command {
        Command::Demo { listen, origin } => {
            demo::run(*listen, origin.as_deref(), |line| println!("{line}")).map(done)
        }
        Command::Edge(EdgeCommand::Run { config }) => edge::run(config).map(done),
        Command::Edge(EdgeCommand::Init { dir, domain, email }) => {
            let path = edge::init(dir, domain, email.as_deref())?;
            let config = path.display();
            Ok(format!(
                "Wrote {config}\nNext: adit tunnel create NAME --config {config} --hostname HOST\n      adit edge run --config {config}\n"
            ))
        }
        Command::Connect(line) => connect::health(line.args.flags.value("metrics")),
        Command::Tunnel(args) => run_tunnel(args),
        Command::Access(command) => run_access(command),
        Command::Status { config, output } => status::status(config, *output == Answer::Json),
        Command::Cache(CacheCommand::Status { config, output }) => {
            cache::status(config, *output == Answer::Json)
        }
        Command::Cache(CacheCommand::Purge(args)) => cache::purge(args),
        Command::Ban(command) => run_ban(command),
        Command::Shutoff(args) => shutoff::off(args),
        Command::Resume(args) => shutoff::on(args),
        Command::Explain { url, config } => explain::explain(config, url),
        Command::Check { file, strict } => check::check(file, *strict),
        Command::Version { short } if is_cloudflared(std::env::args_os().next()) => {
            Ok(instead::version(*short))
        }
        Command::Version { short: true } => Ok(format!("{VERSION}\n")),
        Command::Version { .. } => Ok(format!("adit {VERSION}\n")),
        Command::Update(_) => Instead::Update.say(),
        Command::Service(ServiceCommand::Install(_)) => Instead::ServiceInstall.say(),
        Command::Service(ServiceCommand::Uninstall(_)) => Instead::ServiceUninstall.say(),
        Command::Tail(_) => Instead::Tail.say(),
        Command::Schema { file } => {
            let kind = if *file == SchemaOf::Edge { FileKind::Edge } else { FileKind::Connector };
            Ok(format!("{:#}\n", adit_config::schema::schema(kind)))
        }
        Command::Completion { shell } => Ok(completion(*shell)),
        Command::Man => manual().map(done),
    }
}

fn done((): ()) -> String {
    String::new()
}

fn run_ban(command: &BanCommand) -> Result<String, Failure> {
    match command {
        BanCommand::List { config, output } => ban::list(config, *output == Answer::Json),
        BanCommand::Add { network, time, name, reason, config } => {
            ban::add(config, network, time.as_deref(), name.as_deref(), reason.as_deref())
        }
        BanCommand::Remove { network, name, config } => ban::remove(config, network, name.as_deref()),
    }
}

fn run_access(command: &AccessCommand) -> Result<String, Failure> {
    match command {
        AccessCommand::Tcp(args)
        | AccessCommand::Ssh(args)
        | AccessCommand::Rdp(args)
        | AccessCommand::Smb(args) => access::run(args).map(done),
        AccessCommand::SshConfig(args) => instead::ssh_config(args),
        AccessCommand::Login(_) => Instead::AccessLogin.say(),
        AccessCommand::Token(_) => Instead::AccessToken.say(),
        AccessCommand::Curl(_) => Instead::AccessCurl.say(),
        AccessCommand::SshGen(_) => Instead::SshGen.say(),
    }
}

fn run_tunnel(args: &TunnelArgs) -> Result<String, Failure> {
    let config = args.edge_config();
    match &args.command {
        Some(TunnelCommand::Create { name, hostname, credentials_file }) => {
            tunnel::create(&config, name, hostname, credentials_file.as_deref().map(Path::new))
        }
        Some(TunnelCommand::List { output, name }) => tunnel::list(&config, name.as_deref(), *output),
        Some(TunnelCommand::Info { name, output }) => tunnel::info(&config, name, *output),
        Some(TunnelCommand::Login(_)) => Instead::TunnelLogin.say(),
        Some(TunnelCommand::Route(RouteCommand::Dns(_))) => Instead::RouteDns.say(),
        Some(TunnelCommand::Route(RouteCommand::Lb(_))) => Instead::RouteLoadBalancer.say(),
        Some(TunnelCommand::Route(RouteCommand::Ip(_))) => Instead::RouteIp.say(),
        Some(TunnelCommand::Vnet(_)) => Instead::VirtualNetwork.say(),
        Some(TunnelCommand::Cleanup(_)) => Instead::Cleanup.say(),
        Some(TunnelCommand::Token { name }) => tunnel::token(&config, name),
        Some(TunnelCommand::Rotate { name, keep_old, credentials_file }) => {
            let file = credentials_file.as_deref().map(Path::new);
            tunnel::rotate(&config, name, hours(*keep_old), file)
        }
        Some(TunnelCommand::Release { name, hostnames }) => tunnel::release(&config, name, hostnames),
        Some(TunnelCommand::Delete { name, .. }) => tunnel::delete(&config, name),
        Some(TunnelCommand::Ready) => connect::health(args.flags.value("metrics")),
        Some(TunnelCommand::Diag { file, without }) => {
            connect::diag(args.flags.value("metrics"), file.as_deref(), without)
        }
        Some(TunnelCommand::Ingress(IngressCommand::Validate { json })) => {
            ingress::validate(&args.connect(), json.as_deref())
        }
        Some(TunnelCommand::Ingress(IngressCommand::Rule { url })) => ingress::rule(&args.connect(), url),
        // `run` has started the log by itself.
        Some(TunnelCommand::Run { .. }) | None => Ok(String::new()),
    }
}

fn log_format(format: LogFormat) -> logging::Format {
    match format {
        LogFormat::Auto => logging::Format::Auto,
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    }
}

fn completion(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "adit", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn manual() -> Result<(), Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Failure::broke)?;
    std::io::stdout().write_all(&page).map_err(Failure::broke)
}
