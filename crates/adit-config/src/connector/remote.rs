//! A configuration that the edge pushes to a connector (`updateConfiguration`): the same keys as in the file, in JSON,
//! with durations in whole seconds. Unknown members are ignored.

use std::path::Path;

use adit_policy::ingress::{Ingress, OriginRequest};
use adit_wire::configuration::Configuration;
use serde_json::json;

use super::{Form, origin_request, rules, settings};
use crate::diagnostic::Findings;
use crate::source::Source;
use crate::yaml::{Kind, Node, json_node, json_table};

/// Checks a configuration from the wire. Without rules, everything gets a 503.
///
/// # Errors
/// Everything that is wrong with it, in one line.
pub fn ingress(configuration: &Configuration) -> Result<Ingress, String> {
    let source = Source::new(Path::new("remote configuration"), "").map_err(|report| report.in_one_line())?;
    let mut findings = Findings::new(&source);
    let defaults =
        origin_request::decode(&json_table(&configuration.origin_request), Form::Wire, &mut findings);
    let defaults = defaults.unwrap_or_default().apply(&OriginRequest::default());
    let warp_routing =
        settings::decode_warp(&json_table(&configuration.warp_routing), Form::Wire, &mut findings);
    let ingress = match configuration.ingress.is_empty() {
        true => Some(Ingress::default_503()),
        false => rules::decode(&rules_node(configuration), &defaults, Form::Wire, &mut findings),
    };
    let (ingress, _) = findings.finish(ingress).map_err(|report| report.in_one_line())?;
    Ok(ingress.with_warp(warp_routing))
}

fn rules_node(configuration: &Configuration) -> Node {
    let rules = configuration.ingress.iter().map(|rule| {
        let mut members = json!({
            "hostname": rule.hostname,
            "path": rule.path,
            "service": rule.service,
            "originRequest": rule.origin_request,
        });
        if let (false, Some(members)) = (rule.services.is_empty(), members.as_object_mut()) {
            members.insert("services".to_owned(), rule.services.clone().into());
        }
        json_node(&members)
    });
    Node::nowhere(Kind::List(rules.collect()))
}
