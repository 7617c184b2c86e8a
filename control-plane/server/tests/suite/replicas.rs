//! Two servers of one PostgreSQL database, where one is given (`postgres`).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use muster_proto::v1::{
    CancelExecutionRequest, Credit, DrainAgentRequest, RenewLeases, UncordonAgentRequest,
    attempt_report::Phase, execution::State, link_request::Message, link_response, refusal::Reason,
};
use muster_storage::{Options, Store, work::Claim};

use super::{
    agent::Agent,
    fixture::{Fixture, WORKFLOW, run, run_text},
    postgres::{database, drop_database},
};

/// Two servers on one database; the second one has the first one's tokens.
async fn pair() -> Option<(String, Fixture, Fixture)> {
    let url = database().await?;
    let first = Fixture::start_with(|config| config.database = Some(url.clone())).await;
    let key = first.dir.path().join("credential-key");
    let second = Fixture::beside(&first, |config| {
        config.database = Some(url.clone());
        if key.exists() {
            config.credential_key_file = Some(key.clone());
        }
    })
    .await;
    Some((url, first, second))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_commits_another_one_gives_out_and_stops_at_once() {
    const ROUNDS: u32 = 10;
    let Some((url, one, two)) = pair().await else {
        return;
    };
    let mut admin = one.admin().await;
    let token = one.agent("east").await;
    let (mut agent, _) = Agent::connect(&two, &token, Vec::new()).await;
    let credit = Credit {
        slots: 4,
        exempt: 0,
    };
    let (mut assigned, mut stopped) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        agent.say(Message::Credit(credit)).await;
        let begun = Instant::now();
        let made = admin.create(run()).await;
        let work = loop {
            if let link_response::Message::Assignment(work) = agent.hear().await {
                break work;
            }
        };
        assigned += begun.elapsed();
        assert_eq!(work.execution, made.uid);
        agent.report(&work, Phase::Running).await;
        let cancel = CancelExecutionRequest {
            name: made.name.clone(),
            ..CancelExecutionRequest::default()
        };
        let begun = Instant::now();
        admin
            .executions
            .cancel_execution(cancel)
            .await
            .expect("asked");
        loop {
            if let link_response::Message::Cancel(cancel) = agent.hear().await {
                assert_eq!(cancel.attempt, work.attempt);
                break;
            }
        }
        stopped += begun.elapsed();
        agent.report(&work, Phase::Lost).await;
        assert_eq!(admin.get(&made.name).await.state(), State::Canceled);
    }
    // By sweeps alone: half a second for each assignment, and never an order without a renewal.
    let by_sweeps = Duration::from_millis(500) * ROUNDS;
    assert!(assigned < by_sweeps / 2, "{assigned:?} of {by_sweeps:?}");
    assert!(stopped < by_sweeps / 2, "{stopped:?} of {by_sweeps:?}");
    one.server.stop().await;
    two.server.stop().await;
    drop_database(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_takes_away_the_agent_of_another_one_hears() {
    let Some((url, one, two)) = pair().await else {
        return;
    };
    let mut admin = one.admin().await;
    let token = one.agent("east").await;
    let (mut agent, _) = Agent::connect(&two, &token, Vec::new()).await;
    let policy = "  execution: {recovery: {interrupted: rerun}}\n";
    let made = admin.create(run_text(&format!("{WORKFLOW}{policy}"))).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    let drain = DrainAgentRequest {
        name: "agents/east".to_owned(),
        ..DrainAgentRequest::default()
    };
    let drained = admin.agents.drain_agent(drain).await.expect("drained");
    assert_eq!(drained.into_inner().taken, 1);
    loop {
        if let link_response::Message::Refusal(refusal) = agent.hear().await {
            assert_eq!(refusal.reason(), Reason::LeaseLost);
            assert_eq!(refusal.attempt, work.attempt);
            break;
        }
    }
    // Another server's cordon is seen where the agent is, before anything is given to it.
    let credit = Credit {
        slots: 4,
        exempt: 0,
    };
    agent.say(Message::Credit(credit)).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(admin.get(&made.name).await.state(), State::Queued);
    // And that it takes work again, with its next renewal.
    let uncordon = UncordonAgentRequest {
        name: "agents/east".to_owned(),
        ..UncordonAgentRequest::default()
    };
    admin.agents.uncordon_agent(uncordon).await.expect("open");
    agent.say(Message::Renew(RenewLeases::default())).await;
    loop {
        if let link_response::Message::Assignment(again) = agent.hear().await {
            assert_eq!(again.execution, made.uid);
            break;
        }
    }
    one.server.stop().await;
    two.server.stop().await;
    drop_database(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_another_server_stored_and_nobody_told_is_told_within_two_renewals() {
    let Some((url, one, two)) = pair().await else {
        return;
    };
    let mut admin = one.admin().await;
    let token = one.agent("east").await;
    let (mut agent, _) = Agent::connect(&two, &token, Vec::new()).await;
    let made = admin.create(run()).await;
    // As by a server whose stream to the agent broke in that very moment.
    let store = Store::connect(&url, &Options::default()).await;
    let store = store.expect("a database");
    let named = store.agents().find("east").await.expect("it is there");
    let claim = Claim {
        labels: BTreeMap::new(),
        projects: Vec::new(),
        limit: 1,
        lease_expire_time: store.clock().now() + jiff::SignedDuration::from_secs(60),
    };
    let claimed = store.agent(named.id).claim(&claim).await.expect("a claim");
    assert_eq!(claimed.len(), 1);
    for sequence in 1..=2 {
        let renew = RenewLeases {
            sequence,
            ..RenewLeases::default()
        };
        agent.say(Message::Renew(renew)).await;
    }
    while agent.try_hear().await.is_some() {}
    let (_agent, welcome) = Agent::connect(&two, &token, Vec::new()).await;
    let order = welcome.orders.into_iter().next().expect("an order");
    let work = order.assignment.expect("the work");
    assert_eq!(work.execution, made.uid);
    store.close().await;
    one.server.stop().await;
    two.server.stop().await;
    drop_database(&url).await;
}
