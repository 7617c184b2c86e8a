//! Claiming from the queue.

use std::collections::BTreeSet;

use muster_core::execution::State;

use crate::fixture::{Database, map};

on_every_database!(
    the_greatest_priority_comes_first_then_the_oldest,
    only_executions_whose_target_fits_are_claimed,
    a_suitable_execution_behind_many_others_is_found,
    an_agent_for_some_projects_gets_nothing_of_others,
    two_claimers_never_get_the_same_execution,
    an_assignment_carries_all_that_is_needed,
    what_was_claimed_is_delivered_again,
);

async fn the_greatest_priority_comes_first_then_the_oldest(db: Database) {
    db.submit_with("low", |new| new.priority = -1).await;
    db.submit_with("normal", |_| {}).await;
    db.submit_with("high", |new| new.priority = 5).await;
    db.submit_with("normal", |_| {}).await;
    let agent = db.new_agent("a").await;
    let claimed = db
        .store
        .agent(agent)
        .claim(&db.claim(3))
        .await
        .expect("a claim");
    let names: Vec<_> = claimed
        .iter()
        .map(|item| item.execution.display_name.as_str())
        .collect();
    assert_eq!(names, ["high-1", "normal-1", "normal-2"]);
    assert_eq!(db.claim_one(agent).await.execution.display_name, "low-1");
}

async fn only_executions_whose_target_fits_are_claimed(db: Database) {
    db.submit_with("arm", |new| {
        let values = vec!["arm64".to_owned()];
        new.target.matches.insert("arch".to_owned(), values);
    })
    .await;
    let agent = db.new_agent("a").await;
    let mut claim = db.claim(5);
    claim.labels = map(&[("arch", "amd64")]);
    let claimed = db.store.agent(agent).claim(&claim).await.expect("a claim");
    assert_eq!(claimed, []);
    claim.labels = map(&[("arch", "arm64")]);
    let claimed = db.store.agent(agent).claim(&claim).await.expect("a claim");
    assert_eq!(claimed.len(), 1);
}

async fn a_suitable_execution_behind_many_others_is_found(db: Database) {
    for _ in 0..230 {
        db.submit_with("elsewhere", |new| {
            let values = vec!["other".to_owned()];
            new.target.matches.insert("zone".to_owned(), values);
        })
        .await;
    }
    let wanted = db.submit("here").await;
    let agent = db.new_agent("a").await;
    assert_eq!(db.claim_one(agent).await.execution.id, wanted.id);
}

async fn an_agent_for_some_projects_gets_nothing_of_others(db: Database) {
    db.submit("smoke").await;
    let other = db.new_project("other").await;
    let agent = db.new_agent("a").await;
    let mut claim = db.claim(5);
    claim.projects = vec![other];
    let claimed = db.store.agent(agent).claim(&claim).await.expect("a claim");
    assert_eq!(claimed, []);
    claim.projects = vec![other, db.project];
    let claimed = db.store.agent(agent).claim(&claim).await.expect("a claim");
    assert_eq!(claimed.len(), 1);
}

async fn two_claimers_never_get_the_same_execution(db: Database) {
    const WAITING: usize = 60;
    for _ in 0..WAITING {
        db.submit("busy").await;
    }
    let mut claimers = tokio::task::JoinSet::new();
    for name in ["a", "b", "c", "d"] {
        let agent = db.new_agent(name).await;
        // Servers of their own, as replicas have.
        let (store, claim) = (db.another_store().await, db.claim(3));
        claimers.spawn(async move {
            let mut claimed = Vec::new();
            loop {
                let more = store.agent(agent).claim(&claim).await.expect("a claim");
                if more.is_empty() {
                    return claimed;
                }
                claimed.extend(more.into_iter().map(|item| item.execution.id));
            }
        });
    }
    let claimed: Vec<_> = claimers.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<_> = claimed.iter().copied().collect();
    assert_eq!((claimed.len(), distinct.len()), (WAITING, WAITING));
}

async fn an_assignment_carries_all_that_is_needed(db: Database) {
    let (agent, assignment) = db.running().await;
    assert_eq!(assignment.project_name, "default");
    assert_eq!(&assignment.plan[..], b"{\"version\":1}");
    assert_eq!(assignment.execution.state(), State::Assigned);
    assert_eq!(assignment.execution.assign_time, Some(db.clock.now()));
    let lease = assignment.attempt.lease();
    assert_eq!(assignment.execution.lifecycle.lease, Some(lease));
    assert_eq!((lease.epoch, assignment.attempt.agent), (1, agent));
    assert_eq!(assignment.attempt.lease_expire_time, db.in_seconds(30));
}

async fn what_was_claimed_is_delivered_again(db: Database) {
    let (agent, assignment) = db.running().await;
    let work = db.store.agent(agent);
    let live = work.live().await.expect("what it holds");
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].attempt, assignment.attempt);
    assert_eq!(live[0].execution, assignment.execution);
    let ids = [assignment.attempt.id];
    let again = work.assignments(&ids).await.expect("again");
    assert_eq!(again, std::slice::from_ref(&assignment));
    assert_eq!(work.attempts(&ids).await.expect("it"), [assignment.attempt]);
    let other = db.new_agent("other").await;
    let other = db.store.agent(other);
    assert_eq!(other.live().await.expect("nothing"), []);
    assert_eq!(other.assignments(&ids).await.expect("nothing"), []);
    assert_eq!(other.attempts(&ids).await.expect("nothing"), []);
    assert!(
        other
            .attempt(ids[0])
            .await
            .expect_err("not its own")
            .is_not_found()
    );
}
