//! `error-page`: a folder, a file, or the pages themselves.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use adit_policy::policy::pages::Pages;

use super::{Decoder, Files};
use crate::yaml::{self, Kind, Node};

/// Bytes of one template.
const TEMPLATE_MAX: u64 = 256 * 1024;
/// The page for every status that has none of its own.
const OTHER: &str = "error";

impl Decoder<'_> {
    pub(super) fn pages(&mut self, node: &Node) -> Option<Option<Arc<Pages>>> {
        self.unless_off(node, |decoder, node| {
            let pages = match &node.kind {
                Kind::Map(entries) => decoder.table_of_pages(entries),
                _ => decoder.folder_or_file(node),
            };
            pages.map(Arc::new)
        })
    }

    /// Statuses with their pages: files, or HTML that begins with `<`.
    fn table_of_pages(&mut self, entries: &[(Node, Node)]) -> Option<Pages> {
        let mut pages = Pages::default();
        for (key, node) in entries {
            let text = yaml::text(node, self.findings)?;
            let is_page = self.files == Files::Inline || text.trim_start().starts_with('<');
            let template = if is_page { Some(text.into()) } else { self.file(node) };
            let name = yaml::text(key, self.findings)?;
            let status = name.parse::<u16>().ok().filter(|status| (400..600).contains(status));
            match (template, status) {
                (Some(template), Some(status)) => pages.by_status.push((status, template)),
                (Some(template), None) if name == OTHER => pages.other = Some(template),
                (Some(_), None) => {
                    let message = format!("`{name}` is no status of an error");
                    self.findings
                        .error(key.span, message)
                        .help("for example `503`, or `error` for all others");
                }
                (None, _) => {}
            }
        }
        Some(pages)
    }

    fn folder_or_file(&mut self, node: &Node) -> Option<Pages> {
        let text = yaml::path_text(node, self.findings)?;
        if self.files == Files::Inline {
            self.findings.error(node.span, "`error-page` holds no pages");
            return None;
        }
        if text.ends_with(".html") {
            return Some(Pages { by_status: Vec::new(), other: Some(self.file(node)?) });
        }
        if self.files == Files::Leave {
            return Some(Pages::default());
        }
        match read_folder(&self.findings.source().resolve(text)) {
            Ok(pages) => Some(pages),
            Err(what) => {
                self.findings
                    .error(node.span, what)
                    .help("a folder holds `503.html`, `404.html`, …, or `error.html` for all");
                None
            }
        }
    }

    fn file(&mut self, node: &Node) -> Option<Arc<str>> {
        let text = yaml::path_text(node, self.findings)?;
        if self.files == Files::Leave {
            return Some("".into());
        }
        match template(&self.findings.source().resolve(text)) {
            Ok(template) => Some(template.into()),
            Err(what) => {
                self.findings.error(node.span, what);
                None
            }
        }
    }
}

fn read_folder(folder: &Path) -> Result<Pages, String> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("`{}` cannot be read: {error}", folder.display()))?;
    let mut pages = Pages::default();
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "html")) {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let status = stem.parse::<u16>().ok().filter(|status| (400..600).contains(status));
        if status.is_none() && stem != OTHER {
            continue;
        }
        let template: Arc<str> = template(path)?.into();
        match status {
            Some(status) => pages.by_status.push((status, template)),
            None => pages.other = Some(template),
        }
    }
    if pages == Pages::default() {
        return Err(format!("there is no page in `{}`", folder.display()));
    }
    Ok(pages)
}

fn template(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map(|metadata| metadata.len()).unwrap_or_default();
    if size > TEMPLATE_MAX {
        return Err(format!("`{}` is larger than {} KiB", path.display(), TEMPLATE_MAX / 1024));
    }
    fs::read_to_string(path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
}
