//! `adit tunnel ingress validate|rule`: the rules of a configuration, checked and asked.

use std::path::PathBuf;

use adit_config::connector::remote;
use adit_policy::host::Authority;
use adit_policy::ingress::{Ingress, Rule, RuleHost};
use adit_policy::path::RequestPath;
use adit_wire::configuration::Configuration;
use http::Uri;

use crate::cli::ConnectArgs;
use crate::connect::rules;
use crate::failure::Failure;

/// Checks the rules of the file, or of a text in JSON.
///
/// # Errors
/// Everything that is wrong with them.
pub fn validate(args: &ConnectArgs, json: Option<&str>) -> Result<String, Failure> {
    match json {
        Some(json) => {
            let configuration = Configuration::from_json(json.as_bytes()).map_err(Failure::input)?;
            remote::ingress(&configuration).map_err(Failure::input)?;
            Ok("Validating rules from the command line\nOK\n".to_owned())
        }
        None => {
            let (path, _) = of_file(args)?;
            Ok(format!("Validating rules from {}\nOK\n", path.display()))
        }
    }
}

/// The rule that a URL meets, as the connector finds it. Rules are counted from 0, as cloudflared does here.
///
/// # Errors
/// When there are no rules, or the text is no URL.
pub fn rule(args: &ConnectArgs, url: &str) -> Result<String, Failure> {
    let (path, ingress) = of_file(args)?;
    let uri: Uri = url.parse().map_err(|_| Failure::input(format!("`{url}` is no URL")))?;
    let authority = uri.authority().ok_or_else(|| {
        Failure::input(format!("`{url}` has no host; write it whole, as in https://app.home.example/path"))
    })?;
    let authority = Authority::parse(authority.as_str().as_bytes())
        .map_err(|error| Failure::input(format!("`{url}` names no host: {error}")))?;
    let found = ingress.find(authority.host(), &RequestPath::of(uri.path())).map_err(Failure::input)?;
    let (index, rule) = found.ok_or_else(|| Failure::input("no rule matches"))?;
    Ok(format!("Using rules from {}\nMatched rule #{}\n{}", path.display(), index, shown(rule)))
}

fn of_file(args: &ConnectArgs) -> Result<(PathBuf, Ingress), Failure> {
    let (path, ingress) = rules(args)?;
    let path = path.ok_or_else(|| Failure::input("no configuration; name one with --config"))?;
    let ingress = ingress.ok_or_else(|| Failure::input(format!("{}: there are no rules", path.display())))?;
    Ok((path, ingress))
}

fn shown(rule: &Rule) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text += &format!("\t{name}: {value}\n");
    if let Some(hostname) = &rule.hostname {
        line("hostname", RuleHost::text(hostname));
    }
    if let Some(path) = &rule.path {
        line("path", path.as_str());
    }
    for service in rule.services() {
        line("service", &service.to_string());
    }
    text
}
