//! `redirect`, `rewrite`, `respond`.

use std::sync::Arc;

use adit_policy::policy::act::{Redirect, Respond, Rewrite, Template};
use http::{HeaderValue, StatusCode};

use super::Decoder;
use crate::yaml::{self, Kind, Node, Table};

/// Bytes of a fixed answer.
const BODY_MAX: usize = 64 * 1024;

impl Decoder<'_> {
    pub(super) fn redirect(&mut self, node: &Node) -> Option<Option<Arc<[Redirect]>>> {
        self.unless_off(node, |decoder, node| {
            let nodes = yaml::one_or_many(node);
            Some(nodes.iter().filter_map(|node| decoder.one_redirect(node)).collect())
        })
    }

    fn one_redirect(&mut self, node: &Node) -> Option<Redirect> {
        let Kind::Map(_) = &node.kind else {
            return Some(Redirect { from: None, to: self.template(node)?, status: StatusCode::FOUND });
        };
        let mut table = Table::open(node, "`redirect`", self.findings)?;
        let from = table.take("from").map(|node| self.expression(node));
        let to = table.require("to", "https://new.home.example{uri}", self.findings);
        let to = to.and_then(|node| self.template(node));
        let statuses = [
            ("301", StatusCode::MOVED_PERMANENTLY),
            ("302", StatusCode::FOUND),
            ("303", StatusCode::SEE_OTHER),
            ("307", StatusCode::TEMPORARY_REDIRECT),
            ("308", StatusCode::PERMANENT_REDIRECT),
        ];
        let status = table.take("status").and_then(|node| yaml::word(node, &statuses, self.findings));
        table.finish(self.findings);
        let from = match from {
            Some(from) => Some(from?),
            None => None,
        };
        Some(Redirect { from, to: to?, status: status.unwrap_or(StatusCode::FOUND) })
    }

    fn template(&mut self, node: &Node) -> Option<Template> {
        let text = yaml::text(node, self.findings)?;
        if !text.starts_with(['/', '{']) && !text.starts_with("https://") && !text.starts_with("http://") {
            self.findings
                .error(node.span, format!("`{text}` is no place to go to"))
                .help("it begins with `https://`, or with `/` for the same name");
            return None;
        }
        match Template::parse(text) {
            Ok(template) => Some(template),
            Err(error) => {
                self.findings.error(node.span, error.to_string());
                None
            }
        }
    }

    pub(super) fn rewrite(&mut self, node: &Node) -> Option<Option<Arc<[Rewrite]>>> {
        self.unless_off(node, |decoder, node| {
            let nodes = yaml::one_or_many(node);
            Some(nodes.iter().filter_map(|node| decoder.one_rewrite(node)).collect())
        })
    }

    fn one_rewrite(&mut self, node: &Node) -> Option<Rewrite> {
        let mut table = Table::open(node, "`rewrite`", self.findings)?;
        let from = table.require("from", "^/api/(.*)", self.findings);
        let from = from.and_then(|node| self.expression(node));
        let to = table.require("to", "/$1", self.findings);
        let to = to.and_then(|node| yaml::text(node, self.findings).map(|text| (node, text)));
        table.finish(self.findings);
        let (node, to) = to?;
        if !to.starts_with('/') {
            self.findings
                .error(node.span, format!("`{to}` is no path"))
                .help(format!("did you mean `/{to}`?"));
            return None;
        }
        Some(Rewrite { from: from?, to: to.into() })
    }

    pub(super) fn respond(&mut self, node: &Node) -> Option<Option<Respond>> {
        self.unless_off(node, |decoder, node| {
            let Kind::Map(_) = &node.kind else {
                return decoder.status(node).map(|status| respond(status, "", None));
            };
            let mut table = Table::open(node, "`respond`", decoder.findings)?;
            let status = table.take("status").map(|node| decoder.status(node));
            let body = yaml::optional_text(table.take("body"), decoder.findings).unwrap_or_default();
            let kind = table.take("type").map(|node| decoder.content_type(node));
            if body.len() > BODY_MAX {
                let message = format!("`body` is longer than {} KiB", BODY_MAX / 1024);
                decoder.findings.error(table.key_span("body"), message);
            }
            table.finish(decoder.findings);
            Some(respond(status.unwrap_or(Some(StatusCode::OK))?, &body, kind.unwrap_or(Some(None))?))
        })
    }

    fn content_type(&mut self, node: &Node) -> Option<Option<HeaderValue>> {
        let text = yaml::text(node, self.findings)?;
        match HeaderValue::try_from(text) {
            Ok(value) if text.contains('/') => Some(Some(value)),
            _ => {
                self.findings
                    .error(node.span, format!("`{text}` is no type"))
                    .help("for example `text/html`");
                None
            }
        }
    }

    fn status(&mut self, node: &Node) -> Option<StatusCode> {
        let number = yaml::integer(node, 200..=599, self.findings)?;
        StatusCode::from_u16(number).ok()
    }
}

fn respond(status: StatusCode, body: &str, kind: Option<HeaderValue>) -> Respond {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    Respond { status, body: body.into(), content_type: kind.unwrap_or(plain) }
}
