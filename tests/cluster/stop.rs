//! Runs that are ended before their end.

use std::time::{Duration, Instant};

use anyhow::ensure;
use muster_proto::v1::{execution::State, step_result::State as Step};
use muster_tests::{run::step, site::Site};

const LONG: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: long
spec:
  container:
    image: alpine:3.22.0
  steps:
  - name: long
    shell: |
      echo ready
      sleep 600
  - name: later
    shell: echo never
  after:
  - name: after
    condition: always
    shell: echo after > /data/after
    artifacts:
      workingDir: /data
      paths: [after]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_the_step_and_after_still_runs() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site.start(LONG).await?;
    run.prints("ready\n").await?;
    run.cancel(false).await?;
    let execution = run.ends_as(State::Canceled).await?;
    ensure!(step(&execution, "long")?.state() == Step::Canceled);
    ensure!(step(&execution, "later")?.state() != Step::Passed);
    ensure!(step(&execution, "after")?.state() == Step::Passed);
    ensure!(run.artifact("after").await? == b"after\n");
    run.whole_log().await?;
    site.namespace.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_cancel_leaves_nothing() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site.start(LONG).await?;
    run.prints("ready\n").await?;
    run.cancel(true).await?;
    let execution = run.ends_as(State::Canceled).await?;
    ensure!(step(&execution, "after")?.state() != Step::Passed);
    site.namespace.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn step_past_its_timeout_is_ended_and_named() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let begin = Instant::now();
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: slow
spec:
  container:
    image: alpine:3.22.0
  steps:
  - name: slow
    timeout: 2s
    shell: |
      trap '' TERM
      sleep 600 & sleep 600
  after:
  - name: after
    condition: always
    shell: pgrep sleep && exit 1 || echo none left
"#,
        )
        .await?;
    let execution = run.ends_as(State::Failed).await?;
    ensure!(begin.elapsed() < Duration::from_secs(100));
    let slow = step(&execution, "slow")?;
    ensure!(slow.state() == Step::TimedOut, "{slow:?}");
    ensure!(slow.reason == "TIMEOUT", "{slow:?}");
    ensure!(slow.message.contains("2s"), "{slow:?}");
    ensure!(step(&execution, "after")?.state() == Step::Passed);
    run.whole_log().await?;
    site.namespace.expect_clean().await
}
