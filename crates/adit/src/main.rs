//! The program `adit`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command answers on the terminal")]

use std::io::Write as _;
use std::process::ExitCode;

use adit::cli::{Answer, Cli, Command, EdgeCommand, LogFormat, TunnelArgs, TunnelCommand, hours};
use adit::failure::Failure;
use adit::{access, check, connect, demo, edge, tunnel};
use adit_telemetry::logging;
use clap::{CommandFactory as _, Parser as _};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(answer) => {
            print!("{answer}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: &Cli) -> Result<String, Failure> {
    // A demo is watched on a terminal: its own lines must not drown.
    let level = match (&cli.command, cli.loglevel.as_str()) {
        (Command::Demo { .. }, "info") => "error",
        (_, level) => level,
    };
    logging::init(log_format(cli.log_format), level).map_err(Failure::input)?;
    let done = |()| String::new();
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
        Command::Connect(args) => connect::run(args).map(done),
        Command::Tunnel(args) => run_tunnel(args),
        Command::Access(command) => access::run(command.args()).map(done),
        Command::Check { file } => check::check(file),
        Command::Completion { shell } => Ok(completion(*shell)),
        Command::Man => manual().map(done),
    }
}

fn run_tunnel(args: &TunnelArgs) -> Result<String, Failure> {
    let config = args.edge_config();
    match &args.command {
        TunnelCommand::Create { name, hostname, credentials_file } => {
            tunnel::create(&config, name, hostname, credentials_file.as_deref())
        }
        TunnelCommand::List { output } => tunnel::list(&config, *output == Answer::Json),
        TunnelCommand::Info { name, output } => tunnel::info(&config, name, *output == Answer::Json),
        TunnelCommand::Token { name } => tunnel::token(&config, name),
        TunnelCommand::Rotate { name, keep_old, credentials_file } => {
            tunnel::rotate(&config, name, hours(*keep_old), credentials_file.as_deref())
        }
        TunnelCommand::Delete { name } => tunnel::delete(&config, name),
        TunnelCommand::Run { .. } => {
            let args = args.connect().unwrap_or_default();
            connect::run(&args).map(|()| String::new())
        }
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
