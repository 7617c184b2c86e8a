//! Repositories and archives that pods fetch: from a git server and a web server on this machine.

use std::path::Path;

use anyhow::{Context as _, ensure};
use muster_proto::v1::execution::State;
use muster_tests::{port, process::Process, site::Site, wait};

/// A repository with a tag, a branch and two folders.
const REPOSITORY: &str = "
    set -e
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com
    git init -q -b main work; cd work
    mkdir one two; echo first > one/file; echo kept > two/file
    git add .; git commit -q -m first; git rev-parse HEAD > ../commit
    git checkout -q -b next; echo second > one/file; git commit -q -a -m second
    git checkout -q main; cd ..
    git clone -q --bare work served/tests.git
    git -C served/tests.git config uploadpack.allowAnySHA1InWant true
    mkdir -p pages packed; echo packed > packed/file; tar -czf pages/packed.tar.gz -C packed file";

#[tokio::test(flavor = "multi_thread")]
async fn pods_fetch_branches_commits_folders_and_archives() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let made = std::process::Command::new("sh")
        .args(["-c", REPOSITORY])
        .current_dir(folder.path())
        .status()?;
    ensure!(made.success(), "the repository was not made");
    let commit = std::fs::read_to_string(folder.path().join("commit"))?;
    let host = site.clusters.host;
    let (git_port, web_port) = (port::free(host)?, port::free(host)?);
    let git = [
        "daemon".to_owned(),
        "--export-all".to_owned(),
        format!("--base-path={}", folder.path().join("served").display()),
        format!("--listen={host}"),
        format!("--port={git_port}"),
    ];
    let _git = Process::start("git", Path::new("git"), git, &[], folder.path())?;
    let pages = folder.path().join("pages").display().to_string();
    let web = [
        "httpd",
        "-f",
        "-p",
        &format!("{host}:{web_port}"),
        "-h",
        &pages,
    ];
    let _web = Process::start("web", Path::new("busybox"), web, &[], folder.path())?;
    for port in [git_port, web_port] {
        wait::until("the servers listen", async || {
            Ok(std::net::TcpStream::connect((host, port)).ok().map(drop))
        })
        .await?;
    }
    let manifest = format!(
        r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: content
spec:
  container:
    image: alpine:3.22.0
  content:
    git:
      uri: git://{host}:{git_port}/tests.git
      revision: next
    tarball:
    - url: http://{host}:{web_port}/packed.tar.gz
      path: /data/packed
  steps:
  - name: branch
    shell: |
      test "$(pwd)" = /data/repo
      test "$(cat one/file) $(cat two/file)" = "second kept"
      test "$(cat /data/packed/file)" = packed
  - name: commit
    content:
      git:
        uri: git://{host}:{git_port}/tests.git
        revision: {}
        mountPath: /elsewhere/repo
        paths: [one]
    shell: |
      test "$(cat /elsewhere/repo/one/file)" = first
      test ! -e /elsewhere/repo/two
"#,
        commit.trim()
    );
    let run = site.start(&manifest).await?;
    run.ends_as(State::Passed).await.context("content")?;
    run.whole_log().await?;
    site.namespace.expect_clean().await
}
