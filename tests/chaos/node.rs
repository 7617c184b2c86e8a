//! Nodes and the API server: gone for a while, or drained.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{EvictParams, ListParams},
};
use muster_proto::v1::{execution::State, step_result::State as Step};
use muster_tests::{log::Log, wait};
use tokio::time::sleep;

use crate::{
    ground::{Ground, expect_one_attempt},
    workflow::{counting, expect_every_line},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_is_away_until_its_node_is_not_ready_ends_nothing() -> anyhow::Result<()> {
    let Some(ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let lines = ground.dice.number(70..=84);
    let run = ground.start(&counting(lines, "interrupted: rerun")).await?;
    ground.dice.moment(&run, 2..=8).await?;
    let gone = ground.chaos.kill(&ground.cluster, "kubelet")?;
    node_is(&ground, false).await?;
    gone.end()?;
    node_is(&ground, true).await?;
    run.ends_as(State::Passed).await?;
    expect_one_attempt(&run).await?;
    expect_every_line(&run, lines).await?;
    ground.agent.tests.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_evicted_while_its_kubelet_is_away_ends_before_the_next_attempt_begins()
-> anyhow::Result<()> {
    let Some(ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let lines = ground.dice.number(80..=90);
    let run = ground.start(&counting(lines, "interrupted: rerun")).await?;
    let line = ground.dice.moment(&run, 2..=8).await?;
    let gone = ground.chaos.kill(&ground.cluster, "kubelet")?;
    node_is(&ground, false).await?;
    // As the cluster does when the node stays away, where it has other nodes. Nobody on the node hears
    // of it; the conductor does, from its agent.
    evict(&ground).await?;
    let attempts = wait::until("another attempt", async || {
        let attempts = run.now().await?.attempts;
        Ok((attempts.len() == 2).then_some(attempts))
    })
    .await?;
    ensure!(attempts[0].reason == "EVICTED", "{attempts:?}");
    let step = attempts[0].steps.first().context("no step")?;
    ensure!(step.state() == Step::Aborted, "{step:?}");
    // Its last lines may be on their way.
    sleep(Duration::from_secs(5)).await;
    let before = Log::of_attempt(&ground.server.client, &run.name, 1).await?;
    let last = format!("line {line}\n");
    ensure!(before.text().contains(&last), "{}", before.text());
    gone.end()?;
    node_is(&ground, true).await?;
    let execution = run.ends_as(State::Passed).await?;
    ensure!(execution.attempts.len() == 2, "{:?}", execution.attempts);
    expect_every_line(&run, lines).await?;
    // What ran beside it, if anything did, has said nothing more.
    let after = Log::of_attempt(&ground.server.client, &run.name, 1).await?;
    ensure!(before.text() == after.text(), "{}", after.text());
    ground.agent.tests.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_ends_nothing_and_new_work_waits_for_it() -> anyhow::Result<()> {
    let Some(ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let lines = ground.dice.number(40..=50);
    let run = ground.start(&counting(lines, "")).await?;
    ground.dice.moment(&run, 2..=8).await?;
    let gone = ground.chaos.kill(&ground.cluster, "apiserver")?;
    let waiting = ground.start(&counting(3, "")).await?;
    // Longer than the agent waits before it looks for pods that it misses.
    ground.dice.moment(&run, 28..=34).await?;
    let state = waiting.now().await?.state();
    ensure!(
        matches!(state, State::Assigned | State::Preparing),
        "{state:?}"
    );
    gone.end()?;
    for (run, lines) in [(&run, lines), (&waiting, 3)] {
        run.ends_as(State::Passed).await?;
        expect_one_attempt(run).await?;
        expect_every_line(run, lines).await?;
    }
    ground.agent.tests.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_pod_is_tried_again_by_policy_and_both_attempts_can_be_seen()
-> anyhow::Result<()> {
    let Some(ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let lines = ground.dice.number(32..=42);
    let run = ground.start(&counting(lines, "interrupted: rerun")).await?;
    let line = ground.dice.moment(&run, 2..=12).await?;
    evict(&ground).await?;
    let execution = run.ends_as(State::Passed).await?;
    let [first, _] = &execution.attempts[..] else {
        anyhow::bail!("{:?}", execution.attempts);
    };
    ensure!(first.reason == "EVICTED", "{first:?}");
    let step = first
        .steps
        .first()
        .context("no step of the first attempt")?;
    ensure!(
        !matches!(step.state(), Step::Passed | Step::Failed),
        "{step:?}"
    );
    expect_every_line(&run, lines).await?;
    let earlier = Log::of_attempt(&ground.server.client, &run.name, 1).await?;
    let [there, missing] = [line, lines].map(|line| format!("line {line}\n"));
    ensure!(earlier.text().contains(&there), "{}", earlier.text());
    ensure!(!earlier.text().contains(&missing), "{}", earlier.text());
    ground.agent.tests.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_pod_is_never_a_failed_test() -> anyhow::Result<()> {
    let Some(ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let run = ground.start(&counting(32, "testRetries: 3")).await?;
    ground.dice.moment(&run, 2..=12).await?;
    evict(&ground).await?;
    let execution = run.ends_as(State::Aborted).await?;
    ensure!(execution.reason == "EVICTED", "{execution:?}");
    expect_one_attempt(&run).await?;
    ground.agent.tests.expect_clean().await
}

/// Evicts the only pod of a test, as a drain of its node does.
async fn evict(ground: &Ground) -> anyhow::Result<()> {
    let (pods, pod) = ground.only_pod().await?;
    pods.evict(&pod, &EvictParams::default()).await?;
    Ok(())
}

/// Waits until the only node is ready, or is not.
async fn node_is(ground: &Ground, ready: bool) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(ground.cluster.client().await?);
    wait::until("the node's condition", async || {
        let list = nodes.list(&ListParams::default()).await?;
        let node = list.items.first().context("no node")?;
        let status = node.status.clone().unwrap_or_default();
        let mut conditions = status.conditions.into_iter().flatten();
        let condition = conditions.find(|condition| condition.type_ == "Ready");
        let is = condition.is_some_and(|condition| condition.status == "True");
        Ok((is == ready).then_some(()))
    })
    .await
}
