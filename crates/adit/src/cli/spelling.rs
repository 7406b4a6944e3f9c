//! cloudflared's spellings of a command line: long flags with one dash, a tunnel's flags before the word `tunnel`, in any
//! order, and its own words for the version.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::flags;

/// Flags of the whole program that have a value.
const GLOBAL: [&str; 3] = ["config", "loglevel", "log-format"];

/// cloudflared's ways to ask for the version.
const VERSION: [&str; 4] = ["--version", "-version", "-v", "-V"];

/// Whether the program was started under the name `cloudflared`.
#[must_use]
pub fn is_cloudflared(program: Option<impl AsRef<OsStr>>) -> bool {
    program.is_some_and(|program| {
        Path::new(program.as_ref()).file_stem().is_some_and(|name| name == "cloudflared")
    })
}

/// The same command line as this program spells it.
#[must_use]
pub fn normalised(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let Some(program) = arguments.first().cloned() else { return arguments };
    let mut rest = arguments.split_off(1);
    let (cloudflared, forwarded) = (is_cloudflared(Some(&program)), forwarded(&rest));
    for argument in rest.iter_mut().take(forwarded) {
        two_dashes(argument, cloudflared);
    }
    let before = leading_flags(&rest);
    let command = rest.get(before).and_then(|word| word.to_str());
    if cloudflared && wants_version(&rest, command) {
        return vec![program, "version".into()];
    }
    let after = rest.split_off(before);
    let (word, after) = after.split_at(after.len().min(1));
    let ordered = match word.first().and_then(|word| word.to_str()) {
        Some("tunnel") => [word, rest.as_slice(), after].concat(),
        // Flags and no command: a tunnel is to be run.
        None if cloudflared && !rest.is_empty() && !asks_for_help(&rest) => {
            std::iter::once("tunnel".into()).chain(rest).collect()
        }
        // What a tunnel's flags say does not concern other commands.
        Some(_) if cloudflared => [of_everybody(&rest).as_slice(), word, after].concat(),
        _ => [rest.as_slice(), word, after].concat(),
    };
    std::iter::once(program).chain(ordered).collect()
}

/// How many arguments are ours: `access curl` hands the others on as they are.
fn forwarded(arguments: &[OsString]) -> usize {
    arguments.iter().position(|argument| argument == "curl").unwrap_or(arguments.len())
}

/// How many arguments stand before the command.
fn leading_flags(arguments: &[OsString]) -> usize {
    let mut at = 0;
    while let Some(name) = arguments.get(at).and_then(|argument| flag_name(argument)) {
        at += if takes_next(name) { 2 } else { 1 };
    }
    at.min(arguments.len())
}

/// A flag without its dashes.
fn flag_name(argument: &OsStr) -> Option<&str> {
    let name = argument.to_str()?.strip_prefix('-')?;
    let name = name.strip_prefix('-').unwrap_or(name);
    (!name.is_empty()).then_some(name)
}

fn takes_next(name: &str) -> bool {
    !name.contains('=') && (GLOBAL.contains(&name) || matches!(name, "c" | "p") || flags::takes_next(name))
}

/// Those of the flags before a command that count for every command.
fn of_everybody(flags: &[OsString]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut at = 0;
    while let Some(argument) = flags.get(at) {
        let name = flag_name(argument).unwrap_or_default();
        let width = if takes_next(name) { 2 } else { 1 };
        if !flags::is_known(name) && name.split('=').next() != Some("config") {
            kept.extend(flags.iter().skip(at).take(width).cloned());
        }
        at += width;
    }
    kept
}

fn asks_for_help(flags: &[OsString]) -> bool {
    flags.iter().any(|flag| flag == "--help" || flag == "-h")
}

/// `update` has a flag of that name.
fn wants_version(arguments: &[OsString], command: Option<&str>) -> bool {
    let asked =
        arguments.iter().any(|argument| argument.to_str().is_some_and(|text| VERSION.contains(&text)));
    asked && matches!(command, None | Some("tunnel"))
}

/// Go's flags have one dash or two.
fn two_dashes(argument: &mut OsString, cloudflared: bool) {
    let long = argument.to_str().and_then(|text| text.strip_prefix('-')).filter(|name| name.len() > 1);
    let Some(name) = long.filter(|name| name.starts_with(|first: char| first.is_ascii_alphabetic())) else {
        return;
    };
    let bare = name.split('=').next().unwrap_or_default();
    let is_ours = flags::is_known(name) || GLOBAL.contains(&bare);
    if is_ours || (cloudflared && bare.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')) {
        *argument = format!("--{name}").into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(line: &str) -> String {
        let words = normalised(line.split(' ').map(OsString::from));
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn both_ways_to_write_a_command_are_one() {
        for (written, meant) in [
            ("cloudflared tunnel run x", "cloudflared tunnel run x"),
            ("cloudflared --config c.yml tunnel run", "cloudflared tunnel --config c.yml run"),
            (
                "cloudflared --no-autoupdate --edge a:1 tunnel run",
                "cloudflared tunnel --no-autoupdate --edge a:1 run",
            ),
            (
                "cloudflared tunnel -config c.yml -edge a:1 run",
                "cloudflared tunnel --config c.yml --edge a:1 run",
            ),
            ("adit tunnel -p quic run", "adit tunnel -p quic run"),
            ("adit edge run --config tunnel", "adit edge run --config tunnel"),
            ("adit --loglevel debug tunnel list", "adit tunnel --loglevel debug list"),
            ("adit --loglevel debug edge run", "adit --loglevel debug edge run"),
            ("cloudflared access ssh -hostname h", "cloudflared access ssh --hostname h"),
            ("cloudflared access curl -v -XPOST u", "cloudflared access curl -v -XPOST u"),
            ("cloudflared --loglevel debug --no-autoupdate update", "cloudflared --loglevel debug update"),
            ("cloudflared --url localhost:80", "cloudflared tunnel --url localhost:80"),
            ("cloudflared --help", "cloudflared --help"),
            ("cloudflared --config tunnel tunnel run", "cloudflared tunnel --config tunnel run"),
            ("/usr/bin/cloudflared --version", "/usr/bin/cloudflared version"),
            ("cloudflared -v", "cloudflared version"),
            ("cloudflared -version", "cloudflared version"),
            ("cloudflared tunnel --version", "cloudflared version"),
            ("cloudflared version --short", "cloudflared version --short"),
            ("cloudflared update --version 2026.1.0", "cloudflared update --version 2026.1.0"),
            ("adit --version", "adit --version"),
        ] {
            assert_eq!(spelled(written), meant, "{written}");
        }
    }

    #[test]
    fn flags_come_in_any_order_before_the_command() {
        let flags = ["--loglevel=info", "--config=F", "-no-autoupdate", "--metrics m:1", "-log-format json"];
        for first in flags {
            for second in flags.into_iter().filter(|second| *second != first) {
                let moved = |flag: &str| flag.trim_start_matches('-').to_owned();
                assert_eq!(
                    spelled(&format!("cloudflared {first} {second} tunnel run t")),
                    format!("cloudflared tunnel --{} --{} run t", moved(first), moved(second))
                );
            }
        }
    }
}
