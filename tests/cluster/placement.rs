//! One control plane, several clusters: where a run goes and what comes back.

use anyhow::ensure;
use muster_proto::v1::{execution::State, step_result::State as Step};
use muster_tests::{
    agent::{Agent, LABEL},
    cluster::Clusters,
    control_plane::ControlPlane,
    installation::Installation,
    namespace::Namespace,
    run::{Run, step},
};

const WORKFLOW: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: many-steps
spec:
  container:
    image: alpine:3.22.0
    env:
    - name: WHO
      value: everybody
  setup:
  - name: prepare
    shell: echo "prepared for $WHO" > /data/prepared
  steps:
  - name: build
    shell: |
      cat /data/prepared
      mkdir -p /data/out/deep
      echo built > /data/out/deep/build.txt
  - name: other image
    run:
      image: busybox:1.37
      shell: |
        cat /data/out/deep/build.txt
        echo to-standard-error >&2
  - name: group
    steps:
    - name: inner
      shell: echo inner
  - name: may fail
    optional: true
    shell: exit 3
  - name: must fail
    negative: true
    shell: exit 4
  after:
  - name: report
    condition: always
    shell: echo reported > /data/out/report.txt
    artifacts:
      workingDir: /data/out
      paths: ["**/*.txt"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn label_chooses_the_cluster_and_results_of_both_come_back() -> anyhow::Result<()> {
    let Some(clusters) = Clusters::from_environment()? else {
        return Ok(());
    };
    let server = ControlPlane::start_at(clusters.host).await?;
    let (first, last) = (&clusters.all[0], &clusters.all[clusters.all.len() - 1]);
    let inside = Installation::apply(&server, "inside", first).await?;
    let namespace = Namespace::create(last, "baseline").await?;
    let _outside = Agent::of_cluster(&server, "outside", &clusters, &namespace).await?;

    let first = server
        .client
        .start(WORKFLOW, Some((LABEL, "inside")))
        .await?;
    let second = server
        .client
        .start(WORKFLOW, Some((LABEL, "outside")))
        .await?;
    expect_everything(&first, "inside").await?;
    expect_everything(&second, "outside").await?;

    inside.tests.expect_clean().await?;
    namespace.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_of_the_agent_may_be_killed_in_mid_run() -> anyhow::Result<()> {
    let Some(clusters) = Clusters::from_environment()? else {
        return Ok(());
    };
    let server = ControlPlane::start_at(clusters.host).await?;
    let last = &clusters.all[clusters.all.len() - 1];
    let inside = Installation::apply(&server, "inside", last).await?;
    inside.ready().await?;

    let run = server.client.start(crate::agent::COUNTING, None).await?;
    run.prints("line 3\n").await?;
    inside.kill_pod().await?;
    run.ends_as(State::Passed).await?;
    crate::agent::expect_every_line(&run).await?;
    inside.tests.expect_clean().await
}

async fn expect_everything(run: &Run, agent: &str) -> anyhow::Result<()> {
    let execution = run.ends_as(State::Passed).await?;
    ensure!(execution.attempts.len() == 1);
    ensure!(
        execution.attempts[0].agent.ends_with(agent),
        "{:?}",
        execution.attempts
    );
    ensure!(step(&execution, "may fail")?.state() == Step::Failed);
    ensure!(step(&execution, "may fail")?.exit_code == Some(3));
    ensure!(step(&execution, "must fail")?.state() == Step::Passed);
    ensure!(step(&execution, "report")?.state() == Step::Passed);

    let log = run.whole_log().await?;
    let build = &step(&execution, "build")?.reference;
    ensure!(
        log.of_step(build) == "prepared for everybody\n",
        "{}",
        log.text()
    );
    let other = log.of_step(&step(&execution, "other image")?.reference);
    ensure!(other.contains("built\n") && other.contains("to-standard-error\n"));

    ensure!(run.artifact("deep/build.txt").await? == b"built\n");
    ensure!(run.artifact("report.txt").await? == b"reported\n");
    ensure!(run.artifacts().await?.len() == 2);
    Ok(())
}
