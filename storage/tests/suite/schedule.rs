//! Who is served, and who is not: projects, quotas, groups, lanes, cordoned agents.

use std::collections::BTreeSet;

use muster_core::{
    execution::{Outcome, Phase},
    id::{AgentId, ProjectId},
    schedule::{self, Grant, Taker},
};
use muster_storage::{
    Error,
    agent::Cordon,
    execution::{Concurrency, Execution},
    project::Settings,
    queue::Claimed,
    work::{Completion, Progress},
};

use crate::fixture::{Database, at, map, new_execution, report};

on_every_database!(
    a_small_project_is_served_before_the_rest_of_a_large_one,
    a_paused_project_keeps_what_it_has_and_begins_nothing,
    a_quota_of_running_executions_is_exact_for_claimers_side_by_side,
    a_parent_that_waits_for_its_children_does_not_count_for_the_quota,
    a_full_queue_and_a_high_rate_are_refused_with_their_cure,
    a_concurrency_group_is_exact_for_claimers_side_by_side,
    what_waits_in_a_full_group_holds_nobody_up,
    more_lanes_than_one_look_takes_are_all_served,
    a_lane_that_can_not_be_read_holds_up_no_other,
    a_cordoned_agent_keeps_what_it_has_and_gets_nothing,
    an_agent_where_it_did_not_begin_is_the_last_choice,
);

/// Plans and claims for one agent with room for `room`.
async fn claim(db: &Database, agent: AgentId, room: u32) -> Claimed {
    let queue = db.store.queue();
    let picture = queue.picture(room).await.expect("a picture");
    let labels = map(&[]);
    let taker = Taker {
        agent,
        labels: &labels,
        projects: &[],
        room,
    };
    let grants = schedule::plan(&[taker], &picture.shares, &picture.lanes, 256);
    let claimed = queue.claim(&grants, db.in_seconds(30)).await;
    claimed.expect("a claim")
}

async fn set(db: &Database, project: ProjectId, settings: Settings) {
    let projects = db.store.projects();
    projects.set(project, &settings, None).await.expect("set");
}

async fn pass(db: &Database, agent: AgentId, claimed: &Claimed) {
    for work in &claimed.assignments {
        let completion = Completion {
            outcome: Outcome::Passed,
            reason: String::new(),
            message: String::new(),
            log_size: 0,
            log_sha256: String::new(),
            finish_time: None,
        };
        let told = report(work.attempt.lease(), 9, Progress::Completed(completion));
        db.store
            .agent(agent)
            .report(told.clone())
            .await
            .expect("stored");
    }
}

async fn a_small_project_is_served_before_the_rest_of_a_large_one(db: Database) {
    let small = db.new_project("small").await;
    for _ in 0..20 {
        db.submit("flood").await;
    }
    let agent = db.new_agent("a").await;
    assert_eq!(claim(&db, agent, 5).await.assignments.len(), 5);
    let late = db.submit_to(small, "one").await;
    let next = claim(&db, agent, 1).await;
    assert_eq!(next.assignments[0].execution.id, late.id);
    assert_eq!(next.assignments[0].project_name, "small");
}

async fn a_paused_project_keeps_what_it_has_and_begins_nothing(db: Database) {
    let (agent, running) = db.running().await;
    db.submit("later").await;
    let pause = Some("an incident".to_owned());
    let settings = Settings {
        pause,
        ..Settings::default()
    };
    set(&db, db.project, settings).await;
    assert_eq!(claim(&db, agent, 5).await, Claimed::default());
    let going = at(running.attempt.lease(), 1, Phase::Running);
    db.store
        .agent(agent)
        .report(going.clone())
        .await
        .expect("it goes on");
    set(&db, db.project, Settings::default()).await;
    assert_eq!(claim(&db, agent, 5).await.assignments.len(), 1);
}

/// Two servers with the same picture claim the same, or each a part.
async fn claim_side_by_side(db: &Database, room: u32) -> Vec<Execution> {
    let queue = db.store.queue();
    let picture = queue.picture(room).await.expect("a picture");
    let labels = map(&[]);
    let mut claimers = tokio::task::JoinSet::new();
    for (number, name) in ["one", "two", "three"].into_iter().enumerate() {
        let agent = db.new_agent(name).await;
        let taker = Taker {
            agent,
            labels: &labels,
            projects: &[],
            room,
        };
        let mut grants = schedule::plan(&[taker], &picture.shares, &picture.lanes, 256);
        grants.rotate_left(number);
        let (store, until) = (db.another_store().await, db.in_seconds(30));
        claimers.spawn(async move { store.queue().claim(&grants, until).await });
    }
    let claimed = claimers.join_all().await.into_iter();
    let claimed = claimed.flat_map(|claimed| claimed.expect("a claim").assignments);
    claimed.map(|work| work.execution).collect()
}

async fn a_quota_of_running_executions_is_exact_for_claimers_side_by_side(db: Database) {
    for _ in 0..12 {
        db.submit("busy").await;
    }
    let settings = Settings {
        max_running: Some(3),
        ..Settings::default()
    };
    set(&db, db.project, settings).await;
    assert_eq!(claim_side_by_side(&db, 12).await.len(), 3);
    let agent = db.new_agent("late").await;
    assert_eq!(claim(&db, agent, 5).await, Claimed::default());
}

async fn a_parent_that_waits_for_its_children_does_not_count_for_the_quota(db: Database) {
    let settings = Settings {
        max_running: Some(1),
        ..Settings::default()
    };
    set(&db, db.project, settings).await;
    let (agent, parent) = db.running().await;
    db.submit("other").await;
    assert_eq!(claim(&db, agent, 5).await, Claimed::default());
    let child = child_of(&db, &parent, 0).await;
    let next = claim(&db, agent, 5).await;
    let ids: Vec<_> = next.assignments.iter().map(|it| it.execution.id).collect();
    assert_eq!(ids, [child.id], "the child takes the place of its parent");
    assert_eq!(claim(&db, agent, 5).await, Claimed::default());
}

async fn child_of(
    db: &Database,
    parent: &muster_storage::work::Assignment,
    index: i64,
) -> Execution {
    let origin = muster_storage::execution::Origin {
        parent: parent.execution.id,
        attempt: parent.attempt.id,
        group: "g".to_owned(),
        index,
        step: "s1".to_owned(),
        role: muster_storage::execution::Role::Worker,
        description: String::new(),
        inputs: None,
        taken_over: false,
    };
    db.submit_with("child", |new| {
        new.origin = Some(origin);
        new.priority = 1;
    })
    .await
}

async fn a_full_queue_and_a_high_rate_are_refused_with_their_cure(db: Database) {
    let settings = Settings {
        max_queued: Some(2),
        ..Settings::default()
    };
    set(&db, db.project, settings).await;
    let executions = db.store.executions(db.project);
    let make = || async {
        let identity = executions.reserve("w").await.expect("a number");
        executions.create(new_execution(identity), None).await
    };
    make().await.expect("the first");
    make().await.expect("the second");
    let refused = make().await.expect_err("the third");
    assert!(
        matches!(&refused, Error::QuotaExceeded(text) if text.contains("max_queued")),
        "{refused}"
    );
    let settings = Settings {
        max_per_minute: Some(2),
        ..Settings::default()
    };
    set(&db, db.project, settings).await;
    let refused = make().await.expect_err("two were made a moment ago");
    assert!(
        matches!(&refused, Error::QuotaExceeded(text) if text.contains("max_per_minute")),
        "{refused}"
    );
    db.advance(61);
    make().await.expect("a minute later");
}

async fn a_concurrency_group_is_exact_for_claimers_side_by_side(db: Database) {
    for _ in 0..9 {
        db.submit_with("deploy", |new| {
            new.concurrency = Some(Concurrency {
                group: "staging".to_owned(),
                most: 2,
            });
        })
        .await;
    }
    // As three servers would that all saw the group empty.
    assert_eq!(claim_side_by_side(&db, 9).await.len(), 2);
}

async fn what_waits_in_a_full_group_holds_nobody_up(db: Database) {
    for _ in 0..5 {
        db.submit_with("deploy", |new| {
            new.priority = 9;
            new.concurrency = Some(Concurrency {
                group: "staging".to_owned(),
                most: 1,
            });
        })
        .await;
    }
    let free = db.submit("free").await;
    let agent = db.new_agent("a").await;
    let first = claim(&db, agent, 9).await;
    assert_eq!(first.assignments.len(), 2);
    assert!(
        first
            .assignments
            .iter()
            .any(|it| it.execution.id == free.id)
    );
    assert_eq!(claim(&db, agent, 9).await, Claimed::default());
    pass(&db, agent, &first).await;
    assert_eq!(
        claim(&db, agent, 9).await.assignments.len(),
        1,
        "the next one's turn"
    );
}

async fn more_lanes_than_one_look_takes_are_all_served(db: Database) {
    const LANES: usize = 230;
    for number in 0..LANES {
        db.submit_with("odd", |new| {
            // A target of its own, which every agent fits.
            new.target.not = [(format!("x{number}"), vec!["y".to_owned()])].into();
        })
        .await;
    }
    let agent = db.new_agent("a").await;
    let mut seen = BTreeSet::new();
    for _ in 0..12 {
        let claimed = claim(&db, agent, 40).await;
        seen.extend(claimed.assignments.iter().map(|it| it.execution.id));
    }
    assert_eq!(seen.len(), LANES);
}

async fn a_lane_that_can_not_be_read_holds_up_no_other(db: Database) {
    db.submit_with("broken", |new| {
        new.target.not = [("x".to_owned(), vec!["y".to_owned()])].into();
    })
    .await;
    let whole = db.submit("whole").await;
    db.execute("UPDATE executions SET target_json = '{' WHERE workflow = 'broken'")
        .await;
    let picture = db.store.queue().picture(9).await.expect("a picture");
    assert_eq!(picture.lanes.len(), 1);
    assert_eq!(picture.lanes[0].waiting.len(), 1);
    assert_eq!(picture.lanes[0].waiting[0].execution, whole.id);
}

async fn a_cordoned_agent_keeps_what_it_has_and_gets_nothing(db: Database) {
    let (agent, _) = db.running().await;
    db.submit("later").await;
    let agents = db.store.agents();
    let cordon = Cordon {
        message: "upgrade of the cluster".to_owned(),
    };
    agents
        .set_cordon(agent, Some(&cordon), None)
        .await
        .expect("set");
    let claimed = claim(&db, agent, 5).await;
    assert_eq!(claimed.assignments, []);
    assert_eq!(claimed.cordoned, [agent]);
    assert_eq!(db.store.agent(agent).live().await.expect("it").len(), 1);
    agents.set_cordon(agent, None, None).await.expect("set");
    assert_eq!(claim(&db, agent, 5).await.assignments.len(), 1);
}

async fn an_agent_where_it_did_not_begin_is_the_last_choice(db: Database) {
    let (agent, work) = db.running().await;
    db.submit("fresh").await;
    let mut lost = report(work.attempt.lease(), 1, Progress::Lost);
    lost.reason = "EVICTED".to_owned();
    db.store
        .agent(agent)
        .report(lost.clone())
        .await
        .expect("stored");
    let picture = db.store.queue().picture(9).await.expect("a picture");
    assert_eq!(picture.lanes.len(), 2, "it waits for another one now");
    let other = db.new_agent("other").await;
    let labels = map(&[]);
    let takers = [agent, other].map(|agent| Taker {
        agent,
        labels: &labels,
        projects: &[],
        room: 9,
    });
    let grants = schedule::plan(&takers, &picture.shares, &picture.lanes, 9);
    let of = |grants: &[Grant]| {
        let mut grants = grants.iter();
        grants
            .find(|grant| grant.execution == work.execution.id)
            .map(|it| it.agent)
    };
    assert_eq!(of(&grants), Some(other));
    let alone = schedule::plan(&takers[..1], &picture.shares, &picture.lanes, 9);
    assert_eq!(of(&alone), Some(agent), "better there than nowhere");
}
