//! The kernel kills for memory.

use anyhow::{Context as _, ensure};
use muster_proto::v1::{execution::State, step_result::State as Step};
use muster_tests::{container, namespace::Namespace, run::step, site::Site};

#[tokio::test(flavor = "multi_thread")]
async fn step_killed_for_memory_is_named_and_after_still_runs() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: memory
spec:
  container:
    image: alpine:3.22.0
    resources:
      limits:
        memory: 48Mi
  steps:
  - name: greedy
    shell: |
      echo begin
      dd if=/dev/zero of=/dev/null bs=256M count=1
  - name: later
    shell: echo never
  after:
  - name: after
    condition: always
    shell: echo after > /data/after
    artifacts:
      workingDir: /data
      paths: [after]
"#,
        )
        .await?;
    let execution = run.ends_as(State::Failed).await?;
    let greedy = step(&execution, "greedy")?;
    ensure!(greedy.state() == Step::Failed, "{greedy:?}");
    ensure!(greedy.reason == "OUT_OF_MEMORY", "{greedy:?}");
    ensure!(
        greedy.message.contains("48"),
        "the limit is not named: {greedy:?}"
    );
    ensure!(step(&execution, "later")?.state() == Step::Skipped);
    ensure!(step(&execution, "after")?.state() == Step::Passed);
    ensure!(run.artifact("after").await? == b"after\n");
    run.whole_log().await?;
    site.namespace.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn container_whose_processes_all_die_at_once_fails_its_step_and_after_still_runs()
-> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let helpers = Namespace::create(&site.namespace.cluster, "privileged").await?;
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: all-at-once
spec:
  container:
    image: alpine:3.22.0
  steps:
  - name: victim
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
"#,
        )
        .await?;
    run.prints("ready\n").await?;
    let names = container::names(&site.namespace).await?;
    let victim = names.first().context("no container")?;
    let victim = container::running(&site.namespace, victim).await?;
    container::kill_all_processes(&victim, &helpers).await?;
    let execution = run.ends_as(State::Failed).await?;
    let victim = step(&execution, "victim")?;
    ensure!(victim.state() == Step::Failed, "{victim:?}");
    let reasons = ["CONTAINER_LOST", "OUT_OF_MEMORY"];
    ensure!(reasons.contains(&victim.reason.as_str()), "{victim:?}");
    ensure!(!victim.message.is_empty(), "{victim:?}");
    ensure!(step(&execution, "later")?.state() == Step::Skipped);
    ensure!(step(&execution, "after")?.state() == Step::Passed);
    ensure!(run.artifact("after").await? == b"after\n");
    run.whole_log().await?;
    site.namespace.expect_clean().await
}
