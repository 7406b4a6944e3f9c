//! The corpora: named cases, generated where a family has many members. docs/design/hostile.md says how to add one.

mod broken;
mod controls;
mod cves;
mod downgrade;
mod hosts;
mod identity;
mod keys;
mod legal;
mod paths;
mod smuggling;

use adit_testkit::issuer::Issuer;

use crate::case::Case;

/// All cases.
pub(crate) fn all(issuer: &Issuer) -> Vec<Case> {
    [
        smuggling::cases(),
        hosts::cases(),
        controls::cases(),
        downgrade::cases(),
        paths::cases(issuer),
        identity::cases(),
        keys::cases(),
        broken::cases(),
        cves::cases(),
        legal::cases(),
    ]
    .concat()
}
