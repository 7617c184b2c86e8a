//! Logs of many megabytes on the process backend, while agent and server die.

use std::time::Duration;

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
