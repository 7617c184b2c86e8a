//! Pods and conductors that are taken away, and an agent that never comes back.

use anyhow::{bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use muster_proto::v1::execution::State;
use muster_tests::{container, namespace::Namespace, wait};

use crate::{
    ground::{Ground, SHORT_LEASE, expect_one_attempt},
    workflow::counting,
};

/// Leaves so many files: the upload of a hundred takes seconds.
fn leaving(files: u32) -> String {
    format!(
        r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: leaving
spec:
  container:
    image: alpine:3.22.0
  steps:
  - name: leave
    shell: |
      mkdir /data/left
      for i in $(seq 1 {files}); do echo $i > /data/left/$i; done
      echo done
    artifacts:
      workingDir: /data/left
      paths: ["**"]
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_after_its_last_step_keeps_its_result_and_its_artifacts()
-> anyhow::Result<()> {
    let Some(ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    // On a quick machine all may be there before the deletion, which then proves nothing.
    for _ in 0..5 {
        if deleted_while_it_uploads(&ground).await? {
            return Ok(());
        }
    }
    bail!("no deletion came while artifacts were on their way")
}

/// Deletes a pod that uploads, and proves that it keeps its result; whether the deletion came before
/// the last upload.
async fn deleted_while_it_uploads(ground: &Ground) -> anyhow::Result<bool> {
    let files = ground.dice.number(120..=200);
    let run = ground.start(&leaving(files)).await?;
    let files = usize::try_from(files)?;
    run.prints("done\n").await?;
    wait::until("the first artifact", async || {
        Ok((!run.artifacts().await?.is_empty()).then_some(()))
    })
    .await?;
    let uploads = match delete(ground, &DeleteParams::default()).await {
        Ok(()) => run.artifacts().await?.len() < files,
        Err(error) if run.now().await?.finish_time.is_some() => {
            eprintln!("it has ended before it was deleted: {error:#}");
            false
        }
        Err(error) => return Err(error),
    };
    run.ends_as(State::Passed).await?;
    ensure!(run.artifacts().await?.len() == files);
    run.whole_log().await?;
    ground.agent.tests.expect_clean().await?;
    Ok(uploads)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_while_it_runs_is_aborted_and_says_so() -> anyhow::Result<()> {
    let Some(ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let run = ground.start(&counting(60, "")).await?;
    let line = ground.dice.moment(&run, 2..=20).await?;
    delete(&ground, &DeleteParams::default().grace_period(0)).await?;
    let execution = run.ends_as(State::Aborted).await?;
    ensure!(execution.reason == "POD_DELETED", "{execution:?}");
    ensure!(run.printed().await?.contains(&format!("line {line}\n")));
    expect_one_attempt(&run).await?;
    ground.agent.tests.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conductor_that_is_killed_is_the_infrastructure_and_what_was_printed_stays()
-> anyhow::Result<()> {
    let Some(ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let helpers = Namespace::create(&ground.cluster, "privileged").await?;
    let run = ground.start(&counting(60, "testRetries: 3")).await?;
    let line = ground.dice.moment(&run, 2..=20).await?;
    let conductor = container::running(&ground.agent.tests, "conductor").await?;
    container::kill_all_processes(&conductor, &helpers).await?;
    let execution = run.ends_as(State::Aborted).await?;
    ensure!(execution.reason == "CONDUCTOR_EXITED", "{execution:?}");
    ensure!(run.printed().await?.contains(&format!("line {line}\n")));
    expect_one_attempt(&run).await?;
    ground.agent.tests.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_an_agent_that_is_gone_end_by_themselves_and_the_next_one_removes_them()
-> anyhow::Result<()> {
    let Some(ground) = Ground::open(&SHORT_LEASE).await? else {
        return Ok(());
    };
    let manifest = counting(600, "lostAgentAfter: 5s").replace(
        "  container:\n",
        "  job: {activeDeadlineSeconds: 30}\n  container:\n",
    );
    let run = ground.start(&manifest).await?;
    ground.dice.moment(&run, 2..=8).await?;
    ground.agent.scale(0).await?;
    let execution = run.ends_as(State::Aborted).await?;
    ensure!(execution.reason == "AGENT_LOST", "{execution:?}");
    let pods = ground.agent.tests.api::<Pod>();
    wait::until("no pod that runs", async || {
        let list = pods.list(&ListParams::default()).await?;
        let runs = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|told| told.phase.as_deref());
            matches!(phase, Some("Running" | "Pending"))
        };
        Ok((!list.items.iter().any(runs)).then_some(()))
    })
    .await?;
    ensure!(!ground.agent.tests.objects().await?.is_empty());
    ground.agent.scale(1).await?;
    ground.agent.tests.expect_clean().await
}

/// Deletes the only pod of a test.
async fn delete(ground: &Ground, how: &DeleteParams) -> anyhow::Result<()> {
    let (pods, pod) = ground.only_pod().await?;
    pods.delete(&pod, how).await?;
    Ok(())
}
