//! cloudflared's commands that are not needed here, or done in another way: each says in one line what to do instead. Those
//! that scripts call on their way, and that leave nothing undone, succeed.

use std::fmt::Write as _;

use crate::VERSION;
use crate::cli::access::SshConfigArgs;
use crate::failure::Failure;

/// The release of cloudflared whose command line and protocol this program follows, as scripts expect to read it.
const CLOUDFLARED: &str = "2026.8.0";

/// The day of that release, in cloudflared's spelling.
const BUILT: &str = "2026-08-20-0000 UTC";

/// The line of `--version` under the name `cloudflared`; the number alone where it is asked for.
#[must_use]
pub fn version(short: bool) -> String {
    match short {
        true => format!("{CLOUDFLARED}\n"),
        false => format!("cloudflared version {CLOUDFLARED} (built {BUILT}; adit {VERSION})\n"),
    }
}

/// A command of cloudflared's that this program has no need for, or does otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// `update`.
    Update,
    /// `service install`.
    ServiceInstall,
    /// `service uninstall`.
    ServiceUninstall,
    /// `tail`.
    Tail,
    /// `tunnel login`.
    TunnelLogin,
    /// `tunnel route dns`.
    RouteDns,
    /// `tunnel route lb`.
    RouteLoadBalancer,
    /// `tunnel route ip`.
    RouteIp,
    /// `tunnel vnet`.
    VirtualNetwork,
    /// `tunnel cleanup`.
    Cleanup,
    /// `access login`.
    AccessLogin,
    /// `access token`.
    AccessToken,
    /// `access curl`.
    AccessCurl,
    /// `access ssh-gen`.
    SshGen,
}

impl Instead {
    /// What to do, and whether there is nothing left to do.
    fn word(self) -> (bool, &'static str) {
        match self {
            Self::Update => {
                (true, "no update: adit does not update itself; your package manager or image does")
            }
            Self::ServiceInstall => (
                false,
                "`service install` is not done here: run `adit connect --config FILE` (or `tunnel run --token-file FILE`) from a systemd unit; docs/operation.md has one",
            ),
            Self::ServiceUninstall => {
                (true, "no service was installed by this program: disable the unit that you wrote")
            }
            Self::Tail => (
                false,
                "`tail` is not done here: read the connector's log (`journalctl -u UNIT`, `--logfile`) or ask the edge with `adit status`",
            ),
            Self::TunnelLogin => (
                true,
                "nothing to log in to: `adit tunnel create NAME --hostname HOST --config edge.yml --credentials-file FILE` at the edge makes the credentials",
            ),
            Self::RouteDns => (
                true,
                "no route is stored: the edge serves a name once `tunnel create --hostname` grants it and a rule names it; its DNS record points at the edge",
            ),
            Self::RouteLoadBalancer => (
                true,
                "no load balancer is needed: run the connector several times, or list several `services` in a rule",
            ),
            Self::RouteIp => (
                false,
                "`tunnel route ip` is not done here: open addresses with `warp-routing.ipRules` in config.yml, and `ports` in edge.yml",
            ),
            Self::VirtualNetwork => (
                false,
                "`tunnel vnet` is not done here: each tunnel is a network of its own; `ports` in edge.yml name the tunnel",
            ),
            Self::Cleanup => {
                (true, "nothing to clean up: the edge drops a dead connection within five seconds")
            }
            Self::AccessLogin => (
                false,
                "`access login` is not done here: there is no login yet; `access tcp|ssh` take --service-token-id and --service-token-secret",
            ),
            Self::AccessToken => (
                false,
                "`access token` is not done here: there is no login yet, so there are no tokens of users",
            ),
            Self::AccessCurl => (
                false,
                "`access curl` is not done here: call curl itself, with -H 'Cf-Access-Client-Id: …' where a service token is asked for",
            ),
            Self::SshGen => (
                false,
                "`access ssh-gen` is not done here: there are no short-lived certificates; use ssh keys with `access ssh`",
            ),
        }
    }

    /// Says it.
    ///
    /// # Errors
    /// The same line, where something is left to do.
    pub fn say(self) -> Result<String, Failure> {
        match self.word() {
            (true, line) => Ok(format!("{line}\n")),
            (false, line) => Err(Failure::broke(line)),
        }
    }
}

/// `access ssh-config`: the lines for `~/.ssh/config`.
///
/// # Errors
/// For short-lived certificates, which are not made here.
pub fn ssh_config(args: &SshConfigArgs) -> Result<String, Failure> {
    if args.short_lived_cert {
        return Instead::SshGen.say();
    }
    let program = std::env::current_exe().map_err(Failure::broke)?;
    let host = args.hostname.as_deref().unwrap_or("[your hostname]");
    let mut text = "Add to your ~/.ssh/config:\n\n".to_owned();
    // Writing to a text cannot fail.
    write!(text, "Host {host}\n  ProxyCommand {} access ssh --hostname %h\n", program.display())
        .unwrap_or_default();
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_as_scripts_read_it() {
        let line = version(false);
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..4], ["cloudflared", "version", CLOUDFLARED, "(built"]);
        let numbers: Vec<u32> = version(true).trim().split('.').map(|part| part.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 3);
    }
}
