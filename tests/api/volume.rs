//! Logs of many megabytes on the process backend, while agent and server die.

use std::time::Duration;

use anyhow::ensure;
use muster_proto::v1::execution::State;
use muster_tests::{
    agent::Agent, control_plane::ControlPlane, given::size, run::Run, volume::Volume,
};

const RECOVERY: &str = "  execution: {recovery: {lostAgent: wait}}\n";

/// A gigabyte takes its time on a machine that does other work.
fn patience() -> Duration {
    Duration::from_secs(size(120, 1800).into())
}

/// Kills and restarts both while a run goes on, so many times.
async fn kill(
    server: &mut ControlPlane,
    agent: &mut Agent,
    run: &Run,
    times: u32,
) -> anyhow::Result<()> {
    run.prints("block 1\n").await?;
    for _ in 0..times {
        agent.kill()?;
        tokio::time::sleep(Duration::from_millis(700)).await;
        agent.restart()?;
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.kill()?;
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.restart().await?;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_as_long_as_it_may_be_is_whole_after_kills_of_agent_and_server() -> anyhow::Result<()>
{
    let mut server = ControlPlane::start().await?;
    let mut agent = Agent::on_this_machine(&server, "here").await?;
    let volume = Volume {
        blocks: size(160, 1040),
        pause: 0,
    };
    let run = server
        .client
        .start(&volume.manifest(RECOVERY), None)
        .await?;
    kill(&mut server, &mut agent, &run, 2).await?;
    run.ends_within(patience(), State::Passed).await?;
    volume.expect(&run).await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logs_at_once_are_whole_after_kills_of_agent_and_server() -> anyhow::Result<()> {
    let mut server = ControlPlane::start().await?;
    let count = usize::try_from(size(12, 100))?;
    let slots = u32::try_from(count)?;
    let mut agent = Agent::with_slots_on_this_machine(&server, "here", slots).await?;
    let volume = Volume {
        blocks: 8,
        pause: 1,
    };
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(
            server
                .client
                .start(&volume.manifest(RECOVERY), None)
                .await?,
        );
    }
    kill(&mut server, &mut agent, &runs[0], 1).await?;
    for run in &runs {
        run.ends_within(patience(), State::Passed).await?;
        volume.expect(run).await?;
    }
    Ok(())
}

/// Prints three megabytes without a line feed, NULs and bytes that are no UTF-8 among them, and passes.
const ENDLESS: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: endless
spec:
  steps:
  - name: print
    shell: |
      printf 'begin\000\377\303\033[31m'
      head -c 3000000 /dev/zero | tr '\0' 'x'
      printf 'end'
"#;
const LIMIT: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_over_its_limit_passes_is_complete_and_shows_where_it_was_cut() -> anyhow::Result<()>
{
    let server = ControlPlane::start_with(&["--max-log", "1MiB"]).await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(ENDLESS, None).await?;
    let execution = run.ends_as(State::Passed).await?;
    let mut printed = b"begin\0\xff\xc3\x1b[31m".to_vec();
    printed.resize(printed.len() + 3_000_000, b'x');
    printed.extend(b"end");
    let (kept, left_out) = (&printed[..LIMIT], printed.len() - LIMIT);
    // Length and SHA-256 are those that the conductor counted.
    let log = run.whole_log().await?;
    ensure!(log.bytes.starts_with(kept), "the first bytes are others");
    let marks = String::from_utf8(log.bytes[LIMIT..].to_vec())?;
    let expected = format!(
        "\nthe log has reached its limit of {LIMIT} bytes: what the test prints from here on is not kept\n\
         {left_out} bytes of the log are not kept\n"
    );
    ensure!(marks == expected, "{marks:?}");
    // A byte is a byte, on standard output too.
    let name = execution.display_name.as_str();
    let (all, _) = server.muster(&["logs", name, "--raw"]).await?;
    ensure!(all == log.bytes, "{} bytes", all.len());
    let (of_step, _) = server
        .muster(&["logs", name, "--raw", "--stream", "stdout"])
        .await?;
    ensure!(of_step == kept, "{} bytes", of_step.len());
    Ok(())
}
