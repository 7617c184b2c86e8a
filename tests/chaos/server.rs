//! Agent and server are killed while a cluster works for them.

use muster_proto::v1::execution::State;
use muster_tests::namespace::Namespace;

use crate::{
    ground::{Ground, expect_one_attempt},
    workflow::{counting, expect_every_line},
};

#[tokio::test(flavor = "multi_thread")]
async fn agent_and_server_that_are_killed_together_lose_no_line() -> anyhow::Result<()> {
    let Some(mut ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let helpers = Namespace::create(&ground.cluster, "privileged").await?;
    let lines = ground.dice.number(40..=50);
    let run = ground.start(&counting(lines, "")).await?;
    ground.dice.moment(&run, 2..=20).await?;
    ground.server.kill()?;
    ground.agent.kill_process(&helpers).await?;
    ground.server.restart().await?;
    run.ends_as(State::Passed).await?;
    expect_one_attempt(&run).await?;
    expect_every_line(&run, lines).await?;
    ground.agent.tests.expect_clean().await
}
