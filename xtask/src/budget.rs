//! Sizes: a file that outgrew its room, a function that outgrew a reader's eye, a file that does not say what it is for.

use std::path::Path;

use anyhow::{Result, bail};
use proc_macro2::Span;
use syn::visit::{self, Visit};

use crate::sources::{self, Source};

/// Lines of a file.
const FILE_MAX: usize = 800;
/// Lines that nine of ten files stay under.
const FILE_P90: usize = 500;
/// Lines of a function.
const FUNCTION_MAX: usize = 100;
/// Lines of the function in the middle.
const FUNCTION_MEDIAN: usize = 8;

/// Checks every file that a person wrote.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut problems = Vec::new();
    let (mut files, mut functions) = (Vec::new(), Vec::new());
    for source in sources::all(root)?.iter().filter(|source| !source.is_generated()) {
        let lines = source.text.lines().count();
        files.push(lines);
        if lines > FILE_MAX {
            problems.push(format!("{}: {lines} lines, at most {FILE_MAX}", source.path));
        }
        if !opens_with_its_purpose(source) {
            problems.push(format!("{}: does not open with `//!` and what it is for", source.path));
        }
        measure(source, &mut functions, &mut problems)?;
    }
    let (p90, median) = (at(&mut files, 90), at(&mut functions, 50));
    if p90 > FILE_P90 {
        problems.push(format!("nine of ten files have {p90} lines, at most {FILE_P90}"));
    }
    if median > FUNCTION_MEDIAN {
        problems.push(format!("the median function has {median} lines, at most {FUNCTION_MEDIAN}"));
    }
    println!("{} files, p90 {p90} lines; {} functions, median {median} lines", files.len(), functions.len());
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n")) }
}

fn opens_with_its_purpose(source: &Source) -> bool {
    source.text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//!"))
}

fn measure(source: &Source, functions: &mut Vec<usize>, problems: &mut Vec<String>) -> Result<()> {
    let file = syn::parse_file(&source.text)?;
    let mut found = Functions::default();
    found.visit_file(&file);
    for (name, lines) in found.0 {
        if lines > FUNCTION_MAX {
            problems.push(format!("{}: `{name}` has {lines} lines, at most {FUNCTION_MAX}", source.path));
        }
        functions.push(lines);
    }
    Ok(())
}

/// Names and body lines of functions.
#[derive(Default)]
struct Functions(Vec<(String, usize)>);

impl Functions {
    fn add(&mut self, name: &syn::Ident, body: &syn::Block) {
        let line = |span: Span| span.start().line;
        let lines =
            line(body.brace_token.span.close()).saturating_sub(line(body.brace_token.span.open()) + 1);
        self.0.push((name.to_string(), lines));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }
}

fn at(values: &mut [usize], percent: usize) -> usize {
    values.sort_unstable();
    values.get(values.len() * percent / 100).copied().unwrap_or_default()
}
