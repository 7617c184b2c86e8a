//! Files that a run leaves behind.

use anyhow::ensure;
use muster_proto::v1::{execution::State, step_result::State as Step};
use muster_tests::{run::step, site::Site};

const WORKFLOW: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: artifacts
spec:
  container:
    image: alpine:3.22.0
    workingDir: /data
  steps:
  - name: make
    shell: |
      mkdir -p out/logs
      echo one > out/one.txt
      echo two > out/logs/two.log
      echo no > out/logs/secret.key
      dd if=/dev/urandom of=out/large.bin bs=1M count=20 2>/dev/null
      sha256sum out/large.bin | cut -d' ' -f1 > out/large.sha256
  - name: single files
    artifacts:
      workingDir: /data/out
      paths: ["**/*", "!**/*.key"]
  - name: archive
    artifacts:
      workingDir: /data/out
      compress:
        name: logs.tar.gz
      paths: ["logs/*.log"]
  - name: fail
    shell: exit 1
  - name: late
    artifacts:
      workingDir: /data/out
      paths: ["one.txt"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_come_back_whole_also_after_a_failure() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site.start(WORKFLOW).await?;
    let execution = run.ends_as(State::Failed).await?;
    ensure!(step(&execution, "late")?.state() == Step::Passed);

    ensure!(run.artifact("one.txt").await? == b"one\n");
    ensure!(run.artifact("logs/two.log").await? == b"two\n");
    let large = run.artifact("large.bin").await?;
    ensure!(large.len() == 20 << 20);
    let digest = String::from_utf8(run.artifact("large.sha256").await?)?;
    let described = run.artifacts().await?;
    let described = described
        .iter()
        .find(|artifact| artifact.path == "large.bin");
    ensure!(described.is_some_and(|artifact| artifact.sha256 == digest.trim()));
    let archive = run.artifact("logs.tar.gz").await?;
    ensure!(archive.starts_with(&[0x1f, 0x8b]), "not gzip");
    let paths: Vec<_> = run.artifacts().await?.into_iter().map(|a| a.path).collect();
    ensure!(
        !paths.iter().any(|path| path.ends_with(".key")),
        "{paths:?}"
    );
    site.namespace.expect_clean().await
}
