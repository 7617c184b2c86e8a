//! Pauses on an agent that runs steps as processes: asked for, told again after a crash, and those
//! with which workers begin.

use anyhow::{Context as _, ensure};
use muster_proto::v1::{ListExecutionEventsRequest, execution::State, step_result::State as Step};
use muster_tests::{
    agent::Agent,
    control_plane::ControlPlane,
    run::{Client, Run, step},
};

const TICKING: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: ticking
spec:
  steps:
  - name: tick
    timeout: 30s
    shell: |
      i=0
      while [ ! -e /data/stop ]; do i=$((i+1)); echo "tick $i"; sleep 0.1; [ $i -lt 40 ] || touch /data/stop; done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_agent_and_server() -> anyhow::Result<()> {
    let mut server = ControlPlane::start().await?;
    let mut agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(TICKING, None).await?;
    run.prints("tick 3\n").await?;
    run.pause().await?;
    run.becomes(State::Paused).await?;
    agent.kill()?;
    server.kill()?;
    server.restart().await?;
    agent.restart()?;
    let execution = run.now().await?;
    ensure!(execution.pause_requested);
    ensure!(step(&execution, "tick")?.state() == Step::Paused);
    run.resume().await?;
    let execution = run.ends_as(State::Passed).await?;
    ensure!(!execution.pause_requested);
    let paused = step(&execution, "tick")?.paused_duration;
    ensure!(paused.is_some_and(|paused| paused.seconds > 0 || paused.nanos > 0));
    run.whole_log().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_begins_paused_and_what_has_ended_can_not_be_paused() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let run = server.client.start(crate::workflow::HELLO, None).await?;
    ensure!(run.resume().await.is_err(), "it is not paused");
    run.pause().await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let paused = run.becomes(State::Paused).await?;
    ensure!(step(&paused, "hello")?.state() == Step::Queued);
    run.resume().await?;
    run.ends_as(State::Passed).await?;
    for refused in [run.pause().await, run.resume().await] {
        let error = format!("{:#}", refused.expect_err("it has ended"));
        ensure!(error.contains("passed"), "{error}");
    }
    Ok(())
}

const TOGETHER: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: together
spec:
  steps:
  - name: load
    parallel:
      count: 5
      paused: true
      shell: 'echo "worker {{ index }} of {{ count }}"'
"#;

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_begin_paused_go_on_together_also_where_slots_are_few() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    // Fewer slots than workers: one that waits for the others takes none.
    let _agent = Agent::with_slots_on_this_machine(&server, "here", 2).await?;
    let run = server.client.start(TOGETHER, None).await?;
    let execution = run.ends_as(State::Passed).await?;
    ensure!(execution.children.len() == 5);
    let mut last_pause = None;
    let mut first_resume = None;
    for child in &execution.children {
        let child = Run::of(&server.client, child.name.clone());
        let paused = time_of(&server.client, &child, "PAUSED").await?;
        let resumed = time_of(&server.client, &child, "RESUME_REQUESTED").await?;
        last_pause = last_pause.max(Some(paused));
        first_resume = Some(first_resume.map_or(resumed, |first: (i64, i32)| first.min(resumed)));
    }
    ensure!(
        first_resume >= last_pause,
        "one went on at {first_resume:?}, the last one was ready at {last_pause:?}"
    );
    Ok(())
}

/// Seconds and nanoseconds of an event.
async fn time_of(client: &Client, run: &Run, kind: &str) -> anyhow::Result<(i64, i32)> {
    let request = ListExecutionEventsRequest {
        parent: run.name.clone(),
        ..ListExecutionEventsRequest::default()
    };
    let events = client.executions().list_execution_events(request).await?;
    let events = events.into_inner().events;
    let event = events.iter().find(|event| event.r#type == kind);
    let time = event
        .and_then(|event| event.time)
        .context("no such event")?;
    Ok((time.seconds, time.nanos))
}

const NESTED: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: nested
spec:
  steps:
  - name: load
    parallel:
      count: 2
      shell: |
        echo begun
        i=0; while [ $i -lt 30 ]; do i=$((i+1)); sleep 0.1; done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_reaches_the_workers() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(NESTED, None).await?;
    let children = run.children(2).await?;
    for child in &children {
        child.prints("begun\n").await?;
    }
    run.pause().await?;
    for child in children.iter().chain([&run]) {
        child.becomes(State::Paused).await?;
    }
    run.resume().await?;
    run.ends_as(State::Passed).await?;
    Ok(())
}
