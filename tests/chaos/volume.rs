//! Logs of many megabytes from pods, while agent and server die.

use std::time::Duration;

use muster_proto::v1::execution::State;
use muster_tests::{given::size, namespace::Namespace, run::Run, volume::Volume};

use crate::ground::{Ground, expect_one_attempt};

const SPEC: &str = "  container: {image: 'alpine:3.22.0'}\n";

/// A gigabyte takes its time on a machine that does other work.
fn patience() -> Duration {
    Duration::from_secs(size(120, 1800).into())
}

async fn kill_both(ground: &mut Ground, run: &Run) -> anyhow::Result<()> {
    let helpers = Namespace::create(&ground.cluster, "privileged").await?;
    run.prints("block 1\n").await?;
    ground.agent.kill_process(&helpers).await?;
    let pause = ground.dice.millis(500..=3000);
    tokio::time::sleep(pause).await;
    ground.server.kill()?;
    let pause = ground.dice.millis(500..=3000);
    tokio::time::sleep(pause.max(Duration::from_millis(500))).await;
    ground.server.restart().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_of_a_pod_is_whole_after_kills_of_agent_and_server() -> anyhow::Result<()> {
    let Some(mut ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let volume = Volume {
        blocks: size(120, 1040),
        pause: 0,
    };
    let run = ground.start(&volume.manifest(SPEC)).await?;
    kill_both(&mut ground, &run).await?;
    run.ends_within(patience(), State::Passed).await?;
    expect_one_attempt(&run).await?;
    volume.expect(&run).await?;
    ground.agent.tests.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_many_pods_at_once_are_whole_after_kills_of_agent_and_server() -> anyhow::Result<()>
{
    let Some(mut ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let volume = Volume {
        blocks: size(8, 20),
        pause: 1,
    };
    let mut runs = Vec::new();
    for _ in 0..size(12, 100) {
        runs.push(ground.start(&volume.manifest(SPEC)).await?);
    }
    kill_both(&mut ground, &runs[0]).await?;
    for run in &runs {
        run.ends_within(patience(), State::Passed).await?;
        expect_one_attempt(run).await?;
        volume.expect(run).await?;
    }
    ground.agent.tests.expect_clean().await
}
