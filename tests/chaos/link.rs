//! The link of a cluster is cut: nothing gets in or out.

use std::time::Duration;

use anyhow::ensure;
use muster_proto::v1::execution::State;
use muster_tests::{agent::Agent, wait};
use tokio::time::sleep;

use crate::{
    ground::{Ground, SHORT_LEASE, expect_one_attempt},
    workflow::{counting, expect_every_line},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_link_cut_for_less_than_a_lease_changes_nothing() -> anyhow::Result<()> {
    let Some(ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let lines = ground.dice.number(44..=60);
    let run = ground.start(&counting(lines, "")).await?;
    ground.dice.moment(&run, 2..=8).await?;
    let cut = ground.chaos.partition(&ground.cluster)?;
    // What is on its way may still be stored; after that nothing can come.
    sleep(Duration::from_secs(4)).await;
    let before = run.printed().await?;
    sleep(ground.dice.millis(3000..=9000)).await;
    let after = run.printed().await?;
    ensure!(before == after, "something came through: {after}");
    ensure!(run.now().await?.state() == State::Running);
    cut.end()?;
    run.ends_as(State::Passed).await?;
    expect_one_attempt(&run).await?;
    expect_every_line(&run, lines).await?;
    ground.agent.tests.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_cut_for_longer_than_a_lease_moves_the_work_and_nothing_of_the_old_attempt_stays()
-> anyhow::Result<()> {
    let Some(ground) = Ground::open(&SHORT_LEASE).await? else {
        return Ok(());
    };
    let recovery = "lostAgent: rerun, lostAgentAfter: 11s";
    let lines = ground.dice.number(60..=80);
    let run = ground.start(&counting(lines, recovery)).await?;
    ground.dice.moment(&run, 2..=8).await?;
    let _elsewhere = Agent::on_this_machine(&ground.server, "elsewhere").await?;
    let cut = ground.chaos.partition(&ground.cluster)?;
    wait::until("another attempt", async || {
        Ok((run.now().await?.attempts.len() == 2).then_some(()))
    })
    .await?;
    cut.end()?;
    // While the new one runs on, the old one is removed by the agent that is back.
    ground.agent.tests.expect_clean().await?;
    let execution = run.ends_as(State::Passed).await?;
    let [first, second] = &execution.attempts[..] else {
        anyhow::bail!("{:?}", execution.attempts);
    };
    ensure!(first.reason == "AGENT_LOST", "{first:?}");
    ensure!(second.agent.ends_with("elsewhere"), "{second:?}");
    expect_every_line(&run, lines).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_comes_after_its_lease_is_kept_and_does_not_count() -> anyhow::Result<()> {
    let Some(ground) = Ground::open(&SHORT_LEASE).await? else {
        return Ok(());
    };
    // It ends behind the cut, before its agent has to kill it.
    let recovery = "lostAgent: fail, lostAgentAfter: 20s";
    let run = ground.start(&counting(18, recovery)).await?;
    ground.dice.moment(&run, 2..=5).await?;
    let cut = ground.chaos.partition(&ground.cluster)?;
    let execution = run.ends_as(State::Aborted).await?;
    ensure!(execution.reason == "AGENT_LOST", "{execution:?}");
    cut.end()?;
    let late = wait::until("a late result in the history", async || {
        let history = ground.history(&run).await?;
        Ok(history
            .into_iter()
            .find(|event| event.r#type == "LATE_RESULT"))
    })
    .await?;
    ensure!(late.message.contains("passed"), "{late:?}");
    ensure!(run.now().await?.state() == State::Aborted);
    expect_one_attempt(&run).await?;
    ground.agent.tests.expect_clean().await
}
