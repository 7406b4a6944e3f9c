//! cloudflared's spellings of a command line: long flags with one dash, and a tunnel's flags before the word `tunnel`.

use std::ffi::OsString;

use super::flags;

/// The same command line as this program spells it.
#[must_use]
pub fn normalised(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let arguments: Vec<OsString> = arguments.into_iter().map(two_dashes).collect();
    let Some(tunnel) = arguments.iter().position(|argument| argument == "tunnel") else { return arguments };
    let moves = arguments.get(1).and_then(|first| first.to_str()).is_some_and(is_tunnel_flag);
    if !moves {
        return arguments;
    }
    let (program, rest) = arguments.split_at(1);
    let (before, after) = rest.split_at(tunnel - 1);
    let (word, after) = after.split_at(1);
    [program, word, before, after].concat()
}

/// A flag that stands before `tunnel` in cloudflared's way: `cloudflared --config FILE tunnel run`.
fn is_tunnel_flag(argument: &str) -> bool {
    let name = argument.strip_prefix("--").unwrap_or_default();
    name == "config" || name.starts_with("config=") || flags::is_known(name)
}

/// Go's flags have one dash or two.
fn two_dashes(argument: OsString) -> OsString {
    let long = argument.to_str().and_then(|text| text.strip_prefix('-')).filter(|name| name.len() > 1);
    match long {
        Some(name) if name != "config" && flags::is_known(name) => format!("--{name}").into(),
        Some("config") => "--config".into(),
        _ => argument,
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
            ("adit --loglevel debug tunnel list", "adit --loglevel debug tunnel list"),
        ] {
            assert_eq!(spelled(written), meant);
        }
    }
}
