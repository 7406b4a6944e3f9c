//! Programs under test: started, heard, signalled, and never left behind.

use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a program may take to say or do what a test waits for. Far above what it takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The program `adit`: `ADIT_BIN`, or built once for this run.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn adit() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("ADIT_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The whole workspace and one of its tests are named so that features are those of `cargo test --workspace`: then only
    // the program is left to be linked. Built alone, it would have all of its dependencies compiled a second time.
    let built = Command::new(cargo)
        .args(["build", "--workspace", "--bin", "adit", "--test", "golden", "--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo");
    assert!(built.status.success(), "the program does not build");
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let paths = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs = paths.filter(|message| message["target"]["kind"][0] == "bin");
    let path =
        programs.filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from)).next_back();
    path.expect("cargo names the program")
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Everything that it wrote to standard output.
    pub stdout: String,
    /// Everything that it wrote to standard error.
    pub stderr: String,
}

/// Runs `adit` with arguments to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ended {
    let output = Command::new(adit()).args(arguments).stdin(Stdio::null()).output().expect("adit starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

#[derive(Debug, Default)]
struct Heard {
    lines: Vec<String>,
    /// Streams that have ended.
    silent: usize,
}

type Ear = Arc<(Mutex<Heard>, Condvar)>;

/// What was heard, also after a test's panic.
fn lock(ear: &Ear) -> MutexGuard<'_, Heard> {
    ear.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    child: Child,
    heard: Ear,
}

impl Program {
    /// Starts a program and listens to both of its streams.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let heard = Ear::default();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let heard = heard.clone();
            std::thread::spawn(move || listen(stream, &heard));
        }
        Self { child, heard }
    }

    /// The first line that contains a text, now or soon.
    ///
    /// # Panics
    /// When it is not said in time; shows what was said.
    #[must_use]
    pub fn says(&self, text: &str) -> String {
        self.says_times(text, 1)
    }

    /// The `times`-th line that contains a text, now or soon.
    ///
    /// # Panics
    /// When it is not said in time; shows what was said.
    #[must_use]
    pub fn says_times(&self, text: &str, times: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = lock(&self.heard);
        loop {
            if let Some(line) = heard.lines.iter().filter(|line| line.contains(text)).nth(times - 1) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && heard.silent < 2,
                "nobody said {text:?}; heard:\n{}",
                heard.lines.join("\n")
            );
            heard = self.heard.1.wait_timeout(heard, left).unwrap().0;
        }
    }

    /// Everything that was said so far.
    ///
    /// # Panics
    /// Never, unless a listener did.
    #[must_use]
    pub fn said(&self) -> String {
        lock(&self.heard).lines.join("\n")
    }

    /// Sends a signal by name: `TERM`, `KILL`, `STOP`, `CONT`, `HUP`.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
        assert!(sent.expect("kill").success(), "signal {name}");
    }

    /// Bytes of memory that it holds now.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; the exit code, or `None` after a signal.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn ends(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = lock(&self.heard);
        while heard.silent < 2 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it does not end; heard:\n{}", heard.lines.join("\n"));
            heard = self.heard.1.wait_timeout(heard, left).unwrap().0;
        }
        drop(heard);
        self.child.wait().expect("its end").code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- said by process {}:\n{}", self.id(), self.said());
        }
    }
}

fn listen(stream: Box<dyn Read + Send>, heard: &Ear) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        lock(heard).lines.push(line);
        heard.1.notify_all();
    }
    lock(heard).silent += 1;
    heard.1.notify_all();
}
