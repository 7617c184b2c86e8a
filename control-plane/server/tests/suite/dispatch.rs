//! Who gets which work, and what becomes of work that is not done.

use std::time::Duration;

use jiff::Timestamp;
use muster_core::clock::Clock;
use muster_proto::v1::{
    AttemptReport, Credit, DeclineAttempt, attempt_report::Phase, execution::State,
    link_request::Message, link_response, refusal::Reason,
};

use super::{
    agent::Agent,
    fixture::{Fixture, run},
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
    agent.say(Message::Credit(Credit { slots: 100 })).await;
    let mut works = Vec::new();
    for _ in 0..4 {
        match agent.hear().await {
            link_response::Message::Assignment(work) => works.push(work),
            other => panic!("no work: {other:?}"),
        }
    }
    agent.complete(&works[0], b"").await;
    let link_response::Message::Assignment(_) = agent.hear().await else {
        panic!("a free place gets work");
    };
    let listed = admin.list_states().await;
    let waiting = listed.iter().filter(|state| **state == State::Queued);
    assert_eq!(waiting.count(), 1, "{listed:?}");
}

#[tokio::test]
async fn work_is_spread_over_agents_that_have_room() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let (east, west) = (fixture.agent("east").await, fixture.agent("west").await);
    let (mut east, _) = Agent::connect(&fixture, &east, Vec::new()).await;
    let (mut west, _) = Agent::connect(&fixture, &west, Vec::new()).await;
    east.say(Message::Credit(Credit { slots: 4 })).await;
    west.say(Message::Credit(Credit { slots: 4 })).await;
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
