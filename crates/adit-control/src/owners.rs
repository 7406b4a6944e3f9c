//! Who owns which names: a file beside the edge's state, so that an owner keeps its names while the edge restarts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use adit_policy::host::HostPattern;
use adit_policy::route::{Owner, Owners};
use adit_policy::snapshot::TunnelId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::files::{self, Access};

/// The form of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    owners: Vec<WrittenOwner>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOwner {
    name: String,
    tunnel: Uuid,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    mixed: bool,
}

/// The file.
#[must_use]
pub fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("owners.json")
}

/// The owners that are remembered; nobody where there is no file.
///
/// # Errors
/// When the file is there and cannot be read as a whole: names could go to another tunnel then.
pub fn read(data_dir: &Path) -> io::Result<Owners> {
    let text = match fs::read(file(data_dir)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Owners::default()),
        Err(error) => return Err(error),
    };
    let invalid = |cause: String| {
        let advice = "restore the file, or remove it: then each name goes to the tunnel that claims it first";
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it does not say who owns which names ({cause}); {advice}"),
        )
    };
    let written: Written = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
    let owner = |owner: WrittenOwner| {
        let pattern = HostPattern::parse(&owner.name)
            .map_err(|error| invalid(format!("`{}` is not a valid host pattern: {error}", owner.name)))?;
        Ok((pattern, Owner::new(TunnelId(owner.tunnel), owner.mixed)))
    };
    Ok(Owners::of(written.owners.into_iter().map(owner).collect::<io::Result<Vec<_>>>()?))
}

/// Writes them down.
///
/// # Errors
/// When the file cannot be written.
pub fn write(data_dir: &Path, owners: &Owners) -> io::Result<()> {
    let owners = owners.list().into_iter().map(|(pattern, owner)| WrittenOwner {
        name: pattern.to_string(),
        tunnel: owner.tunnel.0,
        mixed: owner.mixed,
    });
    let mut text = serde_json::to_vec_pretty(&Written { owners: owners.collect() })?;
    text.push(b'\n');
    files::write(&file(data_dir), &text, Access::Owner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn owners_are_remembered_and_what_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), Owners::default());
        let tunnel = TunnelId(Uuid::from_u128(7));
        let owner = |text: &str, mixed| (HostPattern::parse(text).unwrap(), Owner::new(tunnel, mixed));
        let owners = Owners::of([owner("a.x", false), owner("*.b.x", true), owner("*", false)]);
        write(folder.path(), &owners).unwrap();
        assert_eq!(read(folder.path()).unwrap(), owners);
        let mode = fs::metadata(file(folder.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let good = fs::read_to_string(file(folder.path())).unwrap();
        for bad in [
            "",
            "{}",
            "[]",
            good.split_at(good.len() / 2).0,
            &good.replace("a.x", "no name!"),
            &good.replace("\"mixed\"", "\"other\""),
            "{\"owners\":[{\"name\":\"a.x\",\"tunnel\":\"7\"}]}",
        ] {
            fs::write(file(folder.path()), bad).unwrap();
            let error = read(folder.path()).unwrap_err().to_string();
            assert!(error.contains("restore the file"), "{bad}: {error}");
        }
    }
}
