//! Who gets which work, and what becomes of work that is not done.

use std::time::Duration;

use jiff::Timestamp;
use muster_core::clock::Clock;
use muster_proto::v1::{
    AttemptRef, AttemptReport, Credit, DeclineAttempt, RenewLeases, attempt_report::Phase,
    execution::State, link_request::Message, link_response, refusal::Reason,
};

use super::{
    agent::Agent,
    fixture::{Fixture, WORKFLOW, run, run_text},
};

#[tokio::test]
async fn no_agent_gets_more_than_it_can_hold_whatever_it_asks_for() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    for _ in 0..6 {
        admin.create(run()).await;
    }
    agent
        .say(Message::Credit(Credit {
            slots: 100,
            exempt: 0,
        }))
        .await;
    let mut works = Vec::new();
    for _ in 0..4 {
        match agent.hear().await {
            link_response::Message::Assignment(work) => works.push(work),
            other => panic!("no work: {other:?}"),
        }
    }
    assert_eq!(admin.queued().await, 2);
    agent.complete(&works[0], b"").await;
    let link_response::Message::Assignment(_) = agent.hear().await else {
        panic!("a free place gets work");
    };
    assert_eq!(admin.queued().await, 1);
}

#[tokio::test]
async fn work_is_spread_over_agents_that_have_room() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let (east, west) = (fixture.agent("east").await, fixture.agent("west").await);
    let (mut east, _) = Agent::connect(&fixture, &east, Vec::new()).await;
    let (mut west, _) = Agent::connect(&fixture, &west, Vec::new()).await;
    east.say(Message::Credit(Credit {
        slots: 4,
        exempt: 0,
    }))
    .await;
    west.say(Message::Credit(Credit {
        slots: 4,
        exempt: 0,
    }))
    .await;
    for _ in 0..8 {
        admin.create(run()).await;
    }
    for agent in [&mut east, &mut west] {
        for _ in 0..4 {
            let link_response::Message::Assignment(_) = agent.hear().await else {
                panic!("no work");
            };
        }
    }
}

#[tokio::test]
async fn work_that_is_given_back_is_queued_again_and_says_why() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let made = admin.create(run()).await;
    let work = agent.work().await;
    let decline = DeclineAttempt {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        reason: "NO_CAPACITY".to_owned(),
        message: "all places are taken".to_owned(),
    };
    agent.say(Message::Decline(decline)).await;
    let again = agent.work().await;
    assert_eq!(again.execution, made.uid);
    assert_eq!(again.epoch, work.epoch + 1);
    let attempts = admin.get(&made.name).await.attempts;
    assert_eq!(attempts[0].reason, "NO_CAPACITY");
}

#[tokio::test]
async fn a_message_that_can_not_be_read_is_refused_with_the_reason() {
    let fixture = Fixture::start().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let large = AttemptReport {
        message: "x".repeat(5 << 20),
        ..AttemptReport::default()
    };
    agent.say(Message::Report(large)).await;
    let link_response::Message::Refusal(refusal) = agent.hear().await else {
        panic!("it was not refused");
    };
    assert_eq!(refusal.reason(), Reason::Invalid);
    assert!(refusal.message.contains("4194304"), "{refusal:?}");
    assert!(agent.try_hear().await.is_none(), "its stream ends");
}

#[tokio::test]
async fn after_an_outage_of_the_server_no_lease_ends_before_a_grace_period() {
    let clock = Clock::manual(Timestamp::now());
    let fixture = Fixture::start_at(clock.clone(), |_| {}).await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let made = admin.create(run()).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    // The machine slept, say; agents had no chance to renew.
    clock.advance(Duration::from_secs(3600));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(admin.get(&made.name).await.state(), State::Running);
    agent.report(&work, Phase::Finishing).await;
}

#[tokio::test]
async fn work_whose_agent_is_gone_is_queued_again_before_it_runs_and_aborted_after() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let first = admin.create(run()).await;
    let assigned = agent.work().await;
    let patience = "  execution: {recovery: {lostAgentAfter: 1s}}\n";
    let impatient = run_text(&format!("{WORKFLOW}{patience}"));
    let second = admin.create(impatient).await;
    let running = agent.work().await;
    agent.report(&running, Phase::Running).await;
    drop(agent);
    let wanted = [(&first.name, State::Queued), (&second.name, State::Aborted)];
    for (name, state) in wanted {
        let begun = std::time::Instant::now();
        while admin.get(name).await.state() != state {
            assert!(
                begun.elapsed().as_secs() < 60,
                "{:?}",
                admin.get(name).await
            );
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }
    assert_eq!(admin.get(&second.name).await.reason, "AGENT_LOST");
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let again = agent.work().await;
    assert_eq!(again.execution, first.uid);
    assert_eq!(again.epoch, assigned.epoch + 1);
}

#[tokio::test]
async fn renewals_keep_leases_and_name_the_lost_ones() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    admin.create(run()).await;
    let work = agent.work().await;
    let lease = |epoch| AttemptRef {
        attempt: work.attempt.clone(),
        epoch,
    };
    let renew = RenewLeases {
        sequence: 1,
        attempts: vec![lease(work.epoch), lease(work.epoch + 7)],
    };
    agent.say(Message::Renew(renew)).await;
    let link_response::Message::Renewed(renewed) = agent.hear().await else {
        panic!("it was not renewed");
    };
    assert_eq!(renewed.lost, [lease(work.epoch + 7)]);
}

#[tokio::test]
async fn an_agent_without_credit_or_with_other_labels_gets_no_work() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let (east, west) = (fixture.agent("east").await, fixture.agent("west").await);
    let (east, _) = Agent::connect(&fixture, &east, Vec::new()).await;
    let (mut west, _) = Agent::connect(&fixture, &west, Vec::new()).await;
    east.say(Message::Credit(Credit {
        slots: 1,
        exempt: 0,
    }))
    .await;
    let mut request = run();
    let values = muster_proto::v1::LabelValues {
        values: vec!["west".to_owned()],
    };
    request.target = Some(muster_proto::v1::Target {
        r#match: [("region".to_owned(), values)].into(),
        ..muster_proto::v1::Target::default()
    });
    let made = admin.create(request).await;
    assert_eq!(west.work().await.execution, made.uid);
    assert_eq!(admin.get(&made.name).await.attempts[0].agent, "west");
}
