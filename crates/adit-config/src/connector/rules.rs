//! `ingress`: the ordered rules, with cloudflared's validation (`ingress/ingress.go`).

use std::sync::Arc;

use adit_policy::ingress::{
    EdgeWord, Ingress, OriginRequest, Regex, Rule, RuleHost, RuleHostError, Service, path_regex,
};

use adit_policy::policy::Layer;

use super::{Form, origin_request};
use crate::diagnostic::Findings;
use crate::policy;
use crate::yaml::{self, Node, Span, Table};

/// Keys of a rule that only we have.
const OURS: [&str; 2] = ["services", "edge"];

/// Said of a file without rules.
pub(crate) const NO_RULES: &str = "there are no ingress rules: every request gets a 503";

/// Reads the rules. `None` if there are none, or if one is wrong.
pub(super) fn decode(
    node: &Node,
    defaults: &OriginRequest,
    form: Form,
    findings: &mut Findings,
) -> Option<Ingress> {
    let nodes = yaml::list(node, findings)?;
    if nodes.is_empty() {
        findings.warning(node.span, NO_RULES);
        return None;
    }
    let mut decoder = RuleDecoder { defaults, form, total: nodes.len(), findings };
    let rules: Vec<Option<Rule>> =
        nodes.iter().enumerate().map(|(index, node)| decoder.rule(index + 1, node)).collect();
    let rules = rules.into_iter().collect::<Option<Vec<_>>>()?;
    Ingress::new(rules).ok()
}

struct RuleDecoder<'a> {
    defaults: &'a OriginRequest,
    form: Form,
    total: usize,
    findings: &'a mut Findings,
}

/// The filters of a rule, before they are understood.
struct Filters<'n> {
    hostname: Option<&'n Node>,
    path: Option<&'n Node>,
}

impl RuleDecoder<'_> {
    fn rule(&mut self, number: usize, node: &Node) -> Option<Rule> {
        let mut table = Table::open(node, &format!("rule #{number}"), self.findings)?;
        let filters = Filters { hostname: table.take("hostname"), path: table.take("path") };
        let patch = table.take("originRequest");
        let patch = patch.map(|node| origin_request::decode(node, self.form, self.findings));
        let mut origin = patch.flatten().unwrap_or_default().apply(self.defaults);
        let services = self.services(number, &mut table, &mut origin);
        let hostname = filters.hostname.map(|node| self.hostname(node));
        let path = filters.path.map(|node| self.path(number, node));
        self.check_position(number, &filters, table.span());
        let edge = table.take("edge").filter(|_| self.form != Form::Wire);
        let edge = edge.and_then(|node| {
            let word = self.edge(node, filters.path.is_some())?;
            if origin.tls_end.is_some() {
                self.warn_of_unread(node, &word.layer);
            }
            Some(word)
        });
        self.form.finish(table, &OURS, self.findings);
        let (service, more) = services?;
        Some(Rule {
            hostname: hostname.unwrap_or(Some(None))?,
            path: path.unwrap_or(Some(None))?,
            service,
            more,
            origin,
            edge,
        })
    }

    /// What the edge is told. It is checked here, where its author reads the errors.
    fn edge(&mut self, node: &Node, has_path: bool) -> Option<Arc<EdgeWord>> {
        let mut decoder = policy::Decoder { files: policy::Files::Read, findings: self.findings };
        let layer = decoder.edge(node, has_path)?;
        Some(Arc::new(EdgeWord { json: policy::said(node, &layer).to_string(), layer }))
    }

    /// A rule that ends TLS is mostly one for a name that the edge passes through, and cannot read.
    fn warn_of_unread(&mut self, node: &Node, layer: &Layer) {
        let keys: Vec<String> = layer.keys_for_requests().into_iter().map(|key| format!("`{key}`")).collect();
        if keys.is_empty() {
            return;
        }
        let message = format!(
            "this rule ends TLS: where the edge passes its name through, {} cannot hold, and the edge closes the name",
            keys.join(", ")
        );
        let help = "`allow`, `deny`, `rate-limit` and `concurrency` hold there";
        self.findings.warning(node.span, message).help(help);
    }

    /// One `service`, or several `services`. On the wire both stand there, for those who read only one.
    fn services(
        &mut self,
        number: usize,
        table: &mut Table<'_>,
        origin: &mut OriginRequest,
    ) -> Option<(Service, Vec<Service>)> {
        let (one, several) = (table.take("service"), table.take("services"));
        let Some(several) = several else {
            return Some((self.service(number, one, table.span(), origin)?, Vec::new()));
        };
        if one.is_some() && self.form != Form::Wire {
            let message = format!("rule #{number} has `service` and `services`");
            self.findings.error(table.key_span("services"), message).help("write one of them");
            return None;
        }
        let nodes = yaml::list(several, self.findings)?;
        let services: Vec<Option<Service>> =
            nodes.iter().map(|node| self.one_of_several(number, node, origin)).collect();
        let mut services = services.into_iter().collect::<Option<Vec<_>>>()?.into_iter();
        let Some(first) = services.next() else {
            self.findings.error(several.span, format!("rule #{number} has no service in `services`"));
            return None;
        };
        Some((first, services.collect()))
    }

    /// Requests are spread over origins with an address; the others are not asked for anything.
    fn one_of_several(&mut self, number: usize, node: &Node, origin: &mut OriginRequest) -> Option<Service> {
        let service = self.service(number, Some(node), node.span, origin)?;
        if service.has_address() {
            return Some(service);
        }
        let message = format!("`{service}` cannot be one of several services: it has no address");
        self.findings.error(node.span, message).help("for example `http://10.0.0.2:8080`");
        None
    }

    /// In bastion mode any text leads to the bastion.
    fn service(
        &mut self,
        number: usize,
        node: Option<&Node>,
        rule: Span,
        origin: &mut OriginRequest,
    ) -> Option<Service> {
        let text = match node {
            Some(node) => yaml::text(node, self.findings)?,
            None => "",
        };
        let parsed = Service::parse(text);
        let is_address = !matches!(
            parsed,
            Ok(Service::Unix { .. } | Service::Status(_) | Service::HelloWorld | Service::SocksProxy)
        );
        if (origin.bastion_mode && is_address) || parsed == Ok(Service::Bastion) {
            origin.bastion_mode = true;
            return Some(Service::Bastion);
        }
        match (parsed, node) {
            (Ok(service), _) => Some(service),
            (Err(error), Some(node)) => {
                let diagnostic = self.findings.error(node.span, error.to_string());
                if let Some(meant) = meant_service(text) {
                    diagnostic.help(format!("did you mean `{meant}`?"));
                }
                None
            }
            (Err(_), None) => {
                let message = format!("rule #{number} has no `service`");
                self.findings.error(rule, message).help("for example `service: http://localhost:8080`");
                None
            }
        }
    }

    /// The outer `None` is an error, the inner one means every host.
    fn hostname(&mut self, node: &Node) -> Option<Option<RuleHost>> {
        let text = yaml::text(node, self.findings)?;
        match RuleHost::parse(text) {
            Ok(host) => {
                if host.as_ref().is_some_and(|host| host.pattern().is_none()) {
                    let message = format!(
                        "no request can match `{text}`: a wildcard is the whole first part of a name"
                    );
                    let help = format!("did you mean `*.{}`?", text.trim_start_matches(['*', '.']));
                    self.findings.warning(node.span, message).help(help);
                }
                Some(host)
            }
            Err(error) => {
                let help = hostname_help(text, error);
                let diagnostic = self.findings.error(node.span, format!("`{text}`: {error}"));
                if let Some(help) = help {
                    diagnostic.help(help);
                }
                None
            }
        }
    }

    /// The outer `None` is an error, the inner one means every path.
    fn path(&mut self, number: usize, node: &Node) -> Option<Option<Regex>> {
        let text = yaml::text(node, self.findings)?;
        if text.is_empty() {
            return Some(None);
        }
        match path_regex(text) {
            Ok(regex) => Some(Some(regex)),
            Err(error) => {
                let help = "a path is a regular expression: `\\.png$`, not `*.png`";
                self.findings.error(node.span, format!("rule #{number} has an {error}")).help(help);
                None
            }
        }
    }

    /// The last rule, and no other, matches everything.
    fn check_position(&mut self, number: usize, filters: &Filters<'_>, span: Span) {
        let everything = filters.match_everything();
        if number == self.total && !everything {
            let message = "the last ingress rule must match all URLs (it cannot have a hostname or a path)";
            let help = "add `- service: http_status:404` as the last rule";
            self.findings.error(filters.span(span), message).help(help);
        }
        if number < self.total && everything {
            let hostname = filters.hostname.and_then(Node::as_text).unwrap_or_default();
            let message = format!(
                "rule #{number} is matching the hostname `{hostname}`, but this will match every hostname, \
                 so the rules which follow it will never be used"
            );
            let help = "give it a hostname or a path, or move it to the end";
            self.findings.error(filters.span(span), message).help(help);
        }
    }
}

impl Filters<'_> {
    fn match_everything(&self) -> bool {
        let is_one_of = |node: Option<&Node>, words: &[&str]| {
            node.is_none_or(|node| node.as_text().is_some_and(|text| words.contains(&text)))
        };
        is_one_of(self.hostname, &["", "*"]) && is_one_of(self.path, &[""])
    }

    /// Where the filters stand, or else the rule.
    fn span(&self, rule: Span) -> Span {
        self.hostname.or(self.path).map_or(rule, |node| node.span)
    }
}

fn meant_service(text: &str) -> Option<String> {
    let words = ["hello_world", "bastion", "socks-proxy", "http_status:404"];
    yaml::did_you_mean(text, words).map(str::to_owned).or_else(|| Service::suggest(text))
}

fn hostname_help(text: &str, error: RuleHostError) -> Option<String> {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split(['/', ':']).next().unwrap_or_default();
    match error {
        RuleHostError::Wildcard => Some("write `*.example.com`, and add a `path` to narrow it".to_owned()),
        _ if bare != text && !bare.is_empty() => Some(format!("did you mean `{bare}`?")),
        _ => None,
    }
}
