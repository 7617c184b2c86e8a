//! An agent that dies.

use anyhow::ensure;
use muster_proto::v1::execution::State;
use muster_tests::{run::Run, site::Site};

/// Prints numbered lines for about twelve seconds.
pub(crate) const COUNTING: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: counting
spec:
  container:
    image: alpine:3.22.0
  steps:
  - name: count
    shell: |
      i=0
      while [ $i -lt 60 ]; do echo "line $i"; sleep 0.2; i=$((i+1)); done
  - name: bulk
    shell: seq 1 200000
  - name: leave
    shell: echo left > /data/left
    artifacts:
      workingDir: /data
      paths: [left]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn agent_killed_and_restarted_in_mid_run_brings_the_whole_log() -> anyhow::Result<()> {
    let Some(mut site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site.start(COUNTING).await?;
    run.prints("line 3\n").await?;
    site.agent.kill()?;
    // The test goes on without it; the lease outlives the gap.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    site.agent.restart()?;
    let execution = run.ends_as(State::Passed).await?;
    ensure!(execution.attempts.len() == 1, "{:?}", execution.attempts);
    expect_every_line(&run).await?;
    ensure!(run.artifact("left").await? == b"left\n");
    site.namespace.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_killed_before_the_pod_runs_makes_no_second_one() -> anyhow::Result<()> {
    let Some(mut site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site.start(COUNTING).await?;
    muster_tests::wait::until("an object of the attempt", async || {
        let objects = site.namespace.objects().await?;
        Ok((!objects.is_empty()).then_some(()))
    })
    .await?;
    site.agent.kill()?;
    site.agent.restart()?;
    let execution = run.ends_as(State::Passed).await?;
    ensure!(execution.attempts.len() == 1, "{:?}", execution.attempts);
    expect_every_line(&run).await?;
    site.namespace.expect_clean().await
}

/// Proves that the log of [`COUNTING`] is there to the last byte.
pub(crate) async fn expect_every_line(run: &Run) -> anyhow::Result<()> {
    let log = run.whole_log().await?;
    let execution = run.now().await?;
    let counted = log.of_step(&muster_tests::run::step(&execution, "count")?.reference);
    let expected: String = (0..60).map(|line| format!("line {line}\n")).collect();
    ensure!(counted == expected, "{counted}");
    let bulk = log.of_step(&muster_tests::run::step(&execution, "bulk")?.reference);
    let expected: String = (1..=200_000).map(|line| format!("{line}\n")).collect();
    ensure!(
        bulk == expected,
        "{} bytes are not {}",
        bulk.len(),
        expected.len()
    );
    Ok(())
}
