//! Workflows on an agent that runs steps as processes.

use anyhow::ensure;
use muster_proto::v1::{execution::State, step_result::State as Step};
use muster_tests::{
    agent::{Agent, LABEL},
    control_plane::ControlPlane,
    run::step,
};

/// One step that prints one line.
pub(crate) const HELLO: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: hello
spec:
  steps:
  - name: hello
    shell: echo hello
"#;

const EVERYTHING: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: everything
spec:
  config:
    greeting:
      type: string
      default: good morning
  content:
    files:
    - path: /data/input.txt
      content: "{{ config.greeting }}"
  container:
    env:
    - name: WHO
      value: everybody
  setup:
  - name: prepare
    shell: mkdir -p /data/out
  steps:
  - name: greet
    shell: echo "$(cat /data/input.txt), $WHO"
  - name: may fail
    optional: true
    shell: exit 3
  - name: must fail
    negative: true
    shell: exit 4
  - name: only after a failure
    condition: failed
    shell: echo never
  - name: third time
    retry:
      count: 3
      until: passed
    shell: |
      echo x >> /data/tries
      test "$(wc -l < /data/tries)" -ge 3
  - name: slow
    optional: true
    timeout: 1s
    shell: sleep 60
  after:
  - name: report
    condition: always
    shell: echo reported > /data/out/report.txt
    artifacts:
      workingDir: /data/out
      paths: ["**/*"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn steps_log_and_artifacts_come_back() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(EVERYTHING, None).await?;
    let execution = run.ends_as(State::Passed).await?;
    for (name, state) in [
        ("prepare", Step::Passed),
        ("greet", Step::Passed),
        ("may fail", Step::Failed),
        ("must fail", Step::Passed),
        ("only after a failure", Step::Skipped),
        ("third time", Step::Passed),
        ("slow", Step::TimedOut),
        ("report", Step::Passed),
    ] {
        let step = step(&execution, name)?;
        ensure!(step.state() == state, "{step:?}");
    }
    ensure!(step(&execution, "may fail")?.exit_code == Some(3));
    ensure!(step(&execution, "third time")?.tries == 3);
    let log = run.whole_log().await?;
    let greeting = log.of_step(&step(&execution, "greet")?.reference);
    ensure!(greeting == "good morning, everybody\n", "{greeting}");
    ensure!(run.artifact("report.txt").await? == b"reported\n");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn large_log_arrives_whole() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let manifest = HELLO.replace("echo hello", "seq 1 2000000");
    let run = server.client.start(&manifest, None).await?;
    let execution = run.ends_as(State::Passed).await?;
    let log = run.whole_log().await?;
    let printed = log.of_step(&step(&execution, "hello")?.reference);
    let mut expected = String::new();
    for line in 1..=2_000_000 {
        expected.push_str(&format!("{line}\n"));
    }
    ensure!(printed == expected, "{} bytes", printed.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn execution_waits_for_an_agent_with_its_label() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let _wrong = Agent::on_this_machine(&server, "wrong").await?;
    let run = server.client.start(HELLO, Some((LABEL, "right"))).await?;
    ensure!(run.now().await?.state() == State::Queued);
    let _right = Agent::on_this_machine(&server, "right").await?;
    let execution = run.ends_as(State::Passed).await?;
    ensure!(execution.attempts.len() == 1);
    ensure!(execution.attempts[0].agent.ends_with("right"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_runs_after_and_ends_as_canceled() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let manifest = format!(
        "{}  after:\n  - name: after\n    condition: always\n    shell: echo after\n",
        HELLO.replace("echo hello", "echo ready; sleep 600")
    );
    let run = server.client.start(&manifest, None).await?;
    run.prints("ready\n").await?;
    run.cancel(false).await?;
    let execution = run.ends_as(State::Canceled).await?;
    ensure!(step(&execution, "hello")?.state() == Step::Canceled);
    ensure!(step(&execution, "after")?.state() == Step::Passed);
    run.whole_log().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_execution_is_canceled_at_once() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let run = server.client.start(HELLO, None).await?;
    run.cancel(false).await?;
    let execution = run.ends_as(State::Canceled).await?;
    ensure!(execution.attempts.is_empty());
    Ok(())
}
