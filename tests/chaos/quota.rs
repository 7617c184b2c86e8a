//! A cluster without room: work waits for it, or goes elsewhere.

use anyhow::ensure;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{DeleteParams, PostParams};
use muster_proto::v1::execution::State;
use muster_tests::{agent::Agent, run::Run, wait};
use serde_json::json;

use crate::{
    ground::{Ground, expect_one_attempt},
    workflow::{counting, expect_every_line},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_quota_is_waited_for_in_the_words_of_the_cluster() -> anyhow::Result<()> {
    let Some(ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let quotas = no_pods(&ground).await?;
    let run = ground.start(&counting(3, "")).await?;
    says(&run, "exceeded quota").await?;
    quotas.delete("none", &DeleteParams::default()).await?;
    run.ends_as(State::Passed).await?;
    expect_one_attempt(&run).await?;
    expect_every_line(&run, 3).await?;
    ground.agent.tests.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_does_not_begin_in_time_goes_to_another_agent_and_costs_no_test_retry()
-> anyhow::Result<()> {
    let Some(ground) = Ground::open(&[]).await? else {
        return Ok(());
    };
    let _quotas = no_pods(&ground).await?;
    let manifest = counting(3, "testRetries: 0")
        .replace("spec:\n", "spec:\n  timeouts: {initialization: 8s}\n");
    let run = ground.start(&manifest).await?;
    says(&run, "exceeded quota").await?;
    let _elsewhere = Agent::on_this_machine(&ground.server, "elsewhere").await?;
    let execution = run.ends_as(State::Passed).await?;
    let [first, second] = &execution.attempts[..] else {
        anyhow::bail!("{:?}", execution.attempts);
    };
    ensure!(first.reason == "START_TIMEOUT", "{first:?}");
    ensure!(second.agent.ends_with("elsewhere"), "{second:?}");
    expect_every_line(&run, 3).await?;
    ground.agent.tests.expect_clean().await
}

/// Forbids every pod in the namespace of the tests.
async fn no_pods(ground: &Ground) -> anyhow::Result<kube::Api<ResourceQuota>> {
    let quotas = ground.agent.tests.api::<ResourceQuota>();
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    let quota: ResourceQuota = serde_json::from_value(quota)?;
    quotas.create(&PostParams::default(), &quota).await?;
    wait::until("the quota holds", async || {
        let status = quotas.get("none").await?.status;
        Ok(status.and_then(|status| status.hard).map(drop))
    })
    .await?;
    Ok(quotas)
}

/// Waits until an execution that has not begun says why.
async fn says(run: &Run, words: &str) -> anyhow::Result<()> {
    wait::until("it says what it waits for", async || {
        let now = run.now().await?;
        ensure!(now.finish_time.is_none(), "{now:?}");
        let said = now.state() == State::Preparing && now.message.contains(words);
        Ok(said.then_some(()))
    })
    .await
}
