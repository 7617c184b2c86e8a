//! Agents as the administrator sees them.

use std::collections::BTreeMap;

use muster_core::id::{AgentId, ProjectId, SessionId};
use muster_storage::{
    Error,
    agent::{NewAgent, Told},
};

use crate::fixture::{Database, map};

on_every_database!(
    an_agent_is_found_by_its_newest_token,
    what_an_agent_tells_is_kept_and_the_administrator_wins,
    a_deleted_agent_is_gone_but_its_attempts_stay,
    agents_are_listed_by_name_with_what_they_run,
    an_agent_is_made_only_for_projects_that_exist,
);

fn new_agent(name: &str) -> NewAgent {
    NewAgent {
        id: AgentId::generate(),
        name: name.to_owned(),
        token_hash: [1; 32],
        labels: map(&[("zone", "a")]),
        projects: Vec::new(),
    }
}

async fn an_agent_is_found_by_its_newest_token(db: Database) {
    let agents = db.store.agents();
    let made = agents
        .create(&new_agent("one"), None)
        .await
        .expect("made")
        .value;
    let found = agents.find_by_token_hash(&[1; 32]).await.expect("a look");
    assert_eq!(found.as_ref(), Some(&made));
    agents
        .rotate_token(made.id, &[2; 32], None)
        .await
        .expect("rotated");
    assert_eq!(
        agents.find_by_token_hash(&[1; 32]).await.expect("a look"),
        None
    );
    let found = agents.find_by_token_hash(&[2; 32]).await.expect("a look");
    assert_eq!(found.expect("by the new token").id, made.id);
    let again = agents
        .create(
            &NewAgent {
                token_hash: [3; 32],
                ..new_agent("one")
            },
            None,
        )
        .await;
    assert!(
        matches!(again, Err(Error::AlreadyExists { .. })),
        "{again:?}"
    );
}

async fn what_an_agent_tells_is_kept_and_the_administrator_wins(db: Database) {
    let agents = db.store.agents();
    let made = agents
        .create(&new_agent("one"), None)
        .await
        .expect("made")
        .value;
    assert_eq!(made.last_seen_time, None);
    let told = Told {
        session: Some(SessionId::generate()),
        labels: map(&[("zone", "z"), ("arch", "arm64")]),
        version: "0.1.0".to_owned(),
        backend: "process".to_owned(),
        capacity: 4,
        capabilities: vec!["restricted".to_owned()],
    };
    let connected = agents.connected(made.id, &told).await;
    assert!(connected.expect("told").is_some());
    let agent = agents.get(made.id).await.expect("the agent");
    assert_eq!(agent.told, told);
    assert_eq!(agent.last_seen_time, Some(db.clock.now()));
    let labels = agent.effective_labels();
    assert_eq!(labels, map(&[("zone", "a"), ("arch", "arm64")]));
    db.advance(5);
    agents.seen(&[made.id]).await.expect("seen");
    let agent = agents.get(made.id).await.expect("the agent");
    assert_eq!(agent.last_seen_time, Some(db.clock.now()));
}

async fn a_deleted_agent_is_gone_but_its_attempts_stay(db: Database) {
    let (agent, assignment) = db.running().await;
    db.store
        .agents()
        .delete(agent, None)
        .await
        .expect("deleted");
    assert!(
        db.store
            .agents()
            .get(agent)
            .await
            .expect_err("gone")
            .is_not_found()
    );
    let claim = db.store.agent(agent).claim(&db.claim(1)).await;
    assert_eq!(claim.expect("nothing waits"), []);
    db.submit("more").await;
    let claim = db.store.agent(agent).claim(&db.claim(1)).await;
    assert!(claim.expect_err("no such agent").is_not_found());
    let details = db
        .store
        .executions(db.project)
        .details(assignment.execution.id)
        .await;
    assert_eq!(details.expect("details").attempts[0].agent_name, "runner");
}

async fn agents_are_listed_by_name_with_what_they_run(db: Database) {
    let busy = db.new_agent("b").await;
    db.new_agent("a").await;
    db.submit("smoke").await;
    db.submit("smoke").await;
    let claimed = db
        .store
        .agent(busy)
        .claim(&db.claim(5))
        .await
        .expect("a claim");
    assert_eq!(claimed.len(), 2);
    let first = db.store.agents().list(None, 1).await.expect("a page");
    assert_eq!(
        (first.items[0].name.as_str(), first.items[0].running),
        ("a", 0)
    );
    let rest = db
        .store
        .agents()
        .list(first.next.as_deref(), 9)
        .await
        .expect("the rest");
    assert_eq!(
        (rest.items[0].name.as_str(), rest.items[0].running),
        ("b", 2)
    );
    assert_eq!(rest.next, None);
}

async fn an_agent_is_made_only_for_projects_that_exist(db: Database) {
    let new = NewAgent {
        projects: vec![ProjectId::generate()],
        labels: BTreeMap::new(),
        ..new_agent("one")
    };
    let refused = db.store.agents().create(&new, None).await;
    assert!(refused.expect_err("no such project").is_not_found());
}
