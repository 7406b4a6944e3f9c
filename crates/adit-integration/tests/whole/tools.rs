//! Tools that people use through a tunnel: git over HTTPS and over SSH, ssh, rsync.

use std::path::Path;
use std::process::{Command, Output};

use adit_testkit::access::Access;
use adit_testkit::home::APP;
use adit_testkit::ssh::Sshd;
use adit_testkit::{Connector, Edge, Way, git};

/// Bytes of a large push.
pub(crate) const LARGE: usize = 100_000_000;

pub(crate) async fn run(command: &mut Command) -> Output {
    let mut command = tokio::process::Command::from(std::mem::replace(command, Command::new("true")));
    let output = command.output().await.unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {words}");
    output
}

async fn serving(way: Way, service: &str) -> (Edge, Connector) {
    let edge = Edge::plan().tunnel("home", &["*.example.test"]).start();
    let rules = format!("  - hostname: {APP}\n    service: {service}\n  - service: http_status:404");
    let connector = Connector::start(way, &edge, "home", &rules);
    edge.has_connections(if way.is_ours() { 4 } else { edge.tunnel.len() }).await;
    (edge, connector)
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes
}

/// A repository with a large file in it.
pub(crate) async fn repository(folder: &Path, bytes: usize) -> Command {
    let work = folder.join("work");
    std::fs::create_dir_all(&work).unwrap();
    std::fs::write(work.join("large"), noise(bytes)).unwrap();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&work).args(["-c", "user.name=a", "-c", "user.email=a@example.test"]);
        command.args(arguments);
        command
    };
    run(&mut git(&["init", "-q"])).await;
    run(&mut git(&["add", "-A"])).await;
    run(&mut git(&["commit", "-q", "-m", "large"])).await;
    run(Command::new("git").args(["init", "-q", "--bare"]).arg(folder.join("remote.git"))).await;
    git(&[])
}

pub(crate) async fn same_head(folder: &Path, other: &Path) -> bool {
    let head = async |at: &Path, name: &str| {
        run(Command::new("git").arg("-C").arg(at).args(["rev-parse", name])).await.stdout
    };
    head(&folder.join("work"), "HEAD").await == head(other, "main").await
}

#[tokio::test]
async fn git_pushes_and_clones_a_large_repository_over_https() {
    for way in Way::all() {
        let folder = tempfile::tempdir().unwrap();
        let mut push = repository(folder.path(), LARGE).await;
        let origin = git::serve(folder.path()).await;
        let (edge, _connector) = serving(way, &format!("http://{origin}")).await;
        let port = edge.https.port();
        let url = format!("https://{APP}:{port}/remote.git");
        let resolve = format!("http.curloptResolve={APP}:{port}:127.0.0.1");
        let authority = edge.file("data/tunnel-ca.pem");
        push.env("GIT_SSL_CAINFO", &authority);
        push.args(["-c", &resolve, "push", "-q", &url, "HEAD:refs/heads/main"]);
        run(&mut push).await;
        assert!(same_head(folder.path(), &folder.path().join("remote.git")).await, "{way:?}");
        let copy = folder.path().join("copy");
        let mut clone = Command::new("git");
        clone.env("GIT_SSL_CAINFO", &authority);
        clone.args(["-c", &resolve, "clone", "-q", "-b", "main", &url]).arg(&copy);
        run(&mut clone).await;
        assert!(same_head(folder.path(), &copy).await, "{way:?}");
    }
}

#[tokio::test]
async fn ssh_rsync_and_git_go_through_access() {
    for way in Way::all() {
        let server = Sshd::start().await;
        let (edge, _connector) = serving(way, &format!("ssh://{}", server.address)).await;
        let client = server.client(APP, &Access::command(&edge, APP));
        let ssh = format!("ssh -F {}", client.display());
        let said = run(Command::new("ssh").arg("-F").arg(&client).args(["home", "echo from home"])).await;
        assert_eq!(said.stdout, b"from home\n", "{way:?}");

        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        std::fs::create_dir(&source).unwrap();
        for number in 0..200 {
            std::fs::write(source.join(number.to_string()), noise(number * 100)).unwrap();
        }
        std::fs::write(source.join("large"), noise(LARGE / 4)).unwrap();
        let mut rsync = Command::new("rsync");
        rsync.args(["-a", "-e", &ssh]).arg(format!("{}/", source.display()));
        run(rsync.arg(format!("home:{}/", target.display()))).await;
        run(Command::new("diff").arg("-r").arg(&source).arg(&target)).await;

        let mut push = repository(folder.path(), LARGE / 4).await;
        let url = format!("home:{}", folder.path().join("remote.git").display());
        push.args(["push", "-q", &url, "HEAD:refs/heads/main"]).env("GIT_SSH_COMMAND", &ssh);
        run(&mut push).await;
        assert!(same_head(folder.path(), &folder.path().join("remote.git")).await, "{way:?}");
    }
}
