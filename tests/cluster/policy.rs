//! What a cluster forbids.

use anyhow::ensure;
use k8s_openapi::api::core::v1::LimitRange;
use kube::api::PostParams;
use muster_proto::v1::execution::State;
use muster_tests::{run::step, site::Site};

#[tokio::test(flavor = "multi_thread")]
async fn careful_workflow_runs_where_the_restricted_standard_is_enforced() -> anyhow::Result<()> {
    let Some(site) = Site::open("restricted").await? else {
        return Ok(());
    };
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: careful
spec:
  container:
    image: alpine:3.22.0
    securityContext:
      runAsNonRoot: true
      runAsUser: 4321
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
      seccompProfile:
        type: RuntimeDefault
  steps:
  - name: read-only root
    shell: |
      id -u
      ! touch /here 2>/dev/null
      echo kept > /data/kept
    artifacts:
      workingDir: /data
      paths: [kept]
  - name: shell-less
    run:
      image: muster/scratch:1
      shell: id -u
"#,
        )
        .await?;
    let execution = run.ends_as(State::Passed).await?;
    let log = run.whole_log().await?;
    for name in ["read-only root", "shell-less"] {
        let printed = log.of_step(&step(&execution, name)?.reference);
        ensure!(printed == "4321\n", "{name} printed {printed}");
    }
    ensure!(run.artifact("kept").await? == b"kept\n");
    site.namespace.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_denied_by_admission_ends_in_the_words_of_the_cluster() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let limits: LimitRange = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "256Mi"}}]},
    }))?;
    let api = site.namespace.api::<LimitRange>();
    api.create(&PostParams::default(), &limits).await?;
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: greedy
spec:
  steps:
  - name: too large
    run:
      image: alpine:3.22.0
      shell: echo never
      resources:
        limits:
          memory: 1Gi
"#,
        )
        .await?;
    let execution = run.end().await?;
    let described = muster_tests::run::describe(&execution);
    ensure!(execution.state() == State::Aborted, "{described}");
    let reasons = ["ADMISSION_DENIED", "QUOTA"];
    ensure!(reasons.contains(&execution.reason.as_str()), "{described}");
    ensure!(
        described.contains("maximum memory usage per Container is 256Mi"),
        "{described}"
    );
    site.namespace.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn careless_workflow_is_denied_where_the_restricted_standard_is_enforced()
-> anyhow::Result<()> {
    let Some(site) = Site::open("restricted").await? else {
        return Ok(());
    };
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: careless
spec:
  steps:
  - name: as root
    run:
      image: alpine:3.22.0
      shell: echo never
      securityContext:
        runAsUser: 0
"#,
        )
        .await?;
    let execution = run.end().await?;
    let described = muster_tests::run::describe(&execution);
    ensure!(execution.state() == State::Aborted, "{described}");
    ensure!(execution.reason == "POLICY_DENIED", "{described}");
    ensure!(described.contains("runAsUser"), "{described}");
    ensure!(site.namespace.objects().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_container_is_denied_by_the_agent_before_anything_is_made() -> anyhow::Result<()>
{
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: privileged
spec:
  steps:
  - name: mighty
    run:
      image: alpine:3.22.0
      shell: echo never
      securityContext:
        privileged: true
"#,
        )
        .await?;
    let execution = run.end().await?;
    let described = muster_tests::run::describe(&execution);
    ensure!(execution.state() == State::Aborted, "{described}");
    ensure!(execution.reason == "POLICY_DENIED", "{described}");
    ensure!(
        described.contains("securityContext.privileged"),
        "{described}"
    );
    ensure!(site.namespace.objects().await?.is_empty());
    Ok(())
}
