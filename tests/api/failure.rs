//! Processes that die.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use muster_proto::v1::execution::State;
use muster_tests::{
    agent::Agent,
    control_plane::ControlPlane,
    run::{Run, step},
    wait::until,
};
use rustix::process::{Pid, Signal, kill_process};

/// Prints numbered lines for about ten seconds.
const COUNTING: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: counting
spec:
  steps:
  - name: count
    shell: |
      i=0
      while [ $i -lt 50 ]; do echo "line $i"; sleep 0.2; i=$((i+1)); done
  - name: leave
    shell: echo left > /data/left
    artifacts:
      workingDir: /data
      paths: [left]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn server_killed_and_restarted_in_mid_run_loses_nothing() -> anyhow::Result<()> {
    let mut server = ControlPlane::start().await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(COUNTING, None).await?;
    run.prints("line 3\n").await?;
    server.kill()?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.restart().await?;
    expect_everything(&run).await
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_killed_and_restarted_in_mid_run_brings_the_whole_log() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let mut agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(COUNTING, None).await?;
    run.prints("line 3\n").await?;
    agent.kill()?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    agent.restart()?;
    expect_everything(&run).await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_killed_at_once_lose_nothing() -> anyhow::Result<()> {
    let mut server = ControlPlane::start().await?;
    let mut agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(COUNTING, None).await?;
    run.prints("line 3\n").await?;
    server.kill()?;
    agent.kill()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    agent.restart()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.restart().await?;
    expect_everything(&run).await
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_execution_outlives_a_killed_server() -> anyhow::Result<()> {
    let mut server = ControlPlane::start().await?;
    let run = server.client.start(crate::workflow::HELLO, None).await?;
    server.kill()?;
    server.restart().await?;
    ensure!(run.now().await?.state() == State::Queued);
    let _agent = Agent::on_this_machine(&server, "here").await?;
    run.ends_as(State::Passed).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn server_stops_in_an_orderly_way_on_sigterm() -> anyhow::Result<()> {
    let mut server = ControlPlane::start().await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(COUNTING, None).await?;
    run.prints("line 3\n").await?;
    ensure!(server.terminate()?.success());
    server.restart().await?;
    expect_everything(&run).await
}

/// Runs for long and prints nothing.
const SILENT: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: silent
spec:
  steps:
  - run:
      command: [sleep, "600"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn attempt_that_went_while_its_agent_was_dead_is_lost_and_not_run_again() -> anyhow::Result<()>
{
    let server = ControlPlane::start().await?;
    let mut agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(SILENT, None).await?;
    let running = until("the step runs", async || {
        let execution = run.now().await?;
        Ok((execution.state() == State::Running).then_some(execution))
    });
    let execution = running.await?;
    let attempt = execution.attempts.first().context("an attempt")?;
    agent.kill()?;
    let directory = server.folder().join("here/agent").join(&attempt.uid);
    let conductor = std::fs::read(directory.join("conductor.json"))?;
    let conductor: serde_json::Value = serde_json::from_slice(&conductor)?;
    let conductor = conductor["pid"].as_i64().context("an id")?;
    let conductor = Pid::from_raw(conductor.try_into()?).context("an id")?;
    kill_process(conductor, Signal::KILL)?;
    // The step may write there until it has seen that its conductor is dead.
    until("its folder is taken away", async || {
        Ok(std::fs::remove_dir_all(&directory).is_ok().then_some(()))
    })
    .await?;
    agent.restart()?;
    let over = until("the attempt is over", async || {
        let attempt = run.now().await?.attempts.into_iter().next();
        Ok(attempt.filter(|attempt| !attempt.reason.is_empty()))
    });
    let attempt = over.await?;
    ensure!(attempt.reason == "POD_GONE", "{attempt:?}");
    ensure!(!directory.exists(), "it was begun again");
    Ok(())
}

async fn expect_everything(run: &Run) -> anyhow::Result<()> {
    let execution = run.ends_as(State::Passed).await?;
    ensure!(execution.attempts.len() == 1, "{:?}", execution.attempts);
    let log = run.whole_log().await?;
    let counted = log.of_step(&step(&execution, "count")?.reference);
    let expected: String = (0..50).map(|line| format!("line {line}\n")).collect();
    ensure!(counted == expected, "{counted}");
    ensure!(run.artifact("left").await? == b"left\n");
    Ok(())
}
