//! `adit shutoff` and `adit resume`: names that answer 503 until further notice. It works while no edge runs, too.

use std::io;
use std::path::Path;

use adit_config::edge::EdgeFile;
use adit_control::shutoff::{self, file};
use adit_policy::host::HostPattern;

use crate::cli::NamesArgs;
use crate::failure::Failure;

/// Switches names off.
///
/// # Errors
/// When a name is none, or the edge's folder cannot be written.
pub fn off(args: &NamesArgs) -> Result<String, Failure> {
    let (data_dir, names) = read(args)?;
    let added = shutoff::add(&data_dir, &names).map_err(|error| broke(&data_dir, &error))?;
    let before = names.len() - added.len();
    let mut text = said("switched off", &added);
    if before > 0 {
        text.push_str("The others were off before.\n");
    }
    Ok(text + "`adit resume` takes them back into service.\n")
}

/// Takes names back into service.
///
/// # Errors
/// The same; also when none of them was off.
pub fn on(args: &NamesArgs) -> Result<String, Failure> {
    let (data_dir, names) = read(args)?;
    let meant = (!args.all).then_some(names.as_slice());
    let gone = shutoff::remove(&data_dir, meant).map_err(|error| broke(&data_dir, &error))?;
    if gone.is_empty() {
        return Err(Failure::input("nothing of that is switched off; `adit status` shows what is"));
    }
    Ok(said("back in service", &gone))
}

fn said(what: &str, names: &[HostPattern]) -> String {
    names
        .iter()
        .map(|name| match name {
            HostPattern::Any => format!("Everything is {what}.\n"),
            name => format!("{name} is {what}.\n"),
        })
        .collect()
}

fn read(args: &NamesArgs) -> Result<(std::path::PathBuf, Vec<HostPattern>), Failure> {
    let (edge, _) = EdgeFile::load(&args.config).map_err(Failure::input)?;
    if args.all {
        return Ok((edge.data_dir, vec![HostPattern::Any]));
    }
    let parse = |name: &String| {
        HostPattern::parse(name).map_err(|error| Failure::input(format!("`{name}` is no host name: {error}")))
    };
    Ok((edge.data_dir, args.names.iter().map(parse).collect::<Result<_, _>>()?))
}

fn broke(data_dir: &Path, error: &io::Error) -> Failure {
    Failure::broke(format!("{}: {error}", file(data_dir).display()))
}
