//! `cargo xtask suite`: the public HTTP cache test suite (cache-tests.fyi) against the edge. The suite is not part of this house: name the
//! folder of a clone with its packages installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::Value;

use super::parts::{Stage, free_port};
use super::process::Process;

/// Prints each test as JSON: its id, its kind, what it depends on. Those for browsers only are left out.
const LIST: &str = "import tests from './tests/index.mjs'; console.log(JSON.stringify(tests.flatMap(s => s.tests).filter(t => !t.browser_only).map(t => [t.id, t.kind || 'required', t.depends_on || []])))";

/// Where the suite is.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Folder of the suite: a clone of http-tests/cache-tests, after `npm install`
    #[arg(long, value_name = "FOLDER")]
    path: PathBuf,
}

/// Runs the suite and prints the score, and the tests that failed.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let program = super::build(root)?;
    let stage = Stage::set(&program, &root.join("target/bench-tools"))?;
    let port = free_port()?;
    let mut server = Command::new("node");
    server.arg("test-engine/server/server.mjs").env("npm_config_port", port.to_string());
    server.env("npm_config_protocol", "http").env("npm_config_pidfile", stage.log("pid"));
    server.current_dir(&options.path);
    let _server = Process::start("suite", &mut server, &stage.log("suite"))?;
    let edge = stage.for_suite(port)?;
    let results = client(&options.path, edge.port)?;
    let tests = node(&options.path, &["--input-type=module", "-e", LIST])?;
    for kind in ["required", "optimal"] {
        let of_kind: Vec<&Value> =
            list(&tests).filter(|test| test.get(1).is_some_and(|k| k == kind)).collect();
        let failed: Vec<&str> = of_kind
            .iter()
            .filter(|test| !passes(test, &results))
            .filter_map(|test| test.get(0)?.as_str())
            .collect();
        println!("{kind}: {} of {}; not: {}", of_kind.len() - failed.len(), of_kind.len(), failed.join(", "));
    }
    Ok(())
}

fn client(path: &Path, port: u16) -> Result<Value> {
    let mut command = Command::new("node");
    command.args(["--no-warnings", "test-engine/cli.mjs"]).current_dir(path);
    command.env("npm_config_base", format!("http://localhost:{port}")).env("npm_package_config_id", "");
    let output = command.output().context("starting the suite's client; is node installed?")?;
    ensure!(output.status.success(), "the client failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the client's results")
}

fn node(path: &Path, arguments: &[&str]) -> Result<Value> {
    let output = Command::new("node").args(arguments).current_dir(path).output()?;
    ensure!(output.status.success(), "node: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A test passes with those that it depends on, as the suite's own page counts.
fn passes(test: &Value, results: &Value) -> bool {
    let ok = |id: &Value| id.as_str().and_then(|id| results.get(id)).is_some_and(|result| result == true);
    test.get(0).is_some_and(ok) && test.get(2).is_some_and(|needed| list(needed).all(ok))
}
