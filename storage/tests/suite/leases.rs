//! Leases: renewed in batches, ended by sweeps, extended after an outage; and queue deadlines.

use muster_core::{
    execution::{Lease, State},
    id::AttemptId,
};

use crate::fixture::{Database, once, request};

on_every_database!(
    renewals_are_batched_and_name_what_is_lost,
    a_lease_expires_only_when_it_was_not_renewed,
    an_outage_gives_every_lease_a_grace,
    a_queue_deadline_ends_only_what_still_waits,
    old_request_ids_are_forgotten,
);

async fn renewals_are_batched_and_name_what_is_lost(db: Database) {
    const HELD: usize = 40;
    for _ in 0..HELD {
        db.submit("busy").await;
    }
    let agent = db.new_agent("a").await;
    let work = db.store.agent(agent);
    let claimed = work.claim(&db.claim(100)).await.expect("a claim");
    assert_eq!(claimed.len(), HELD);
    let mut leases: Vec<Lease> = claimed.iter().map(|item| item.attempt.lease()).collect();
    // One that is not known, one with an old epoch, one that was given back.
    let unknown = Lease {
        attempt: AttemptId::generate(),
        epoch: 1,
    };
    leases[0].epoch = 0;
    work.decline(leases[1], "", "").await.expect("declined");
    leases.push(unknown);
    // More than one statement holds.
    let strangers = (0..2500).map(|_| Lease {
        attempt: AttemptId::generate(),
        epoch: 1,
    });
    leases.extend(strangers);
    db.advance(20);
    let until = db.in_seconds(30);
    let lost = work.renew(&leases, until).await.expect("renewed");
    assert_eq!(lost.len(), 3 + 2500);
    assert!(lost.contains(&unknown) && lost.contains(&leases[0]) && lost.contains(&leases[1]));
    let attempt = work.attempt(leases[2].attempt).await.expect("it");
    assert_eq!(attempt.lease_expire_time, until);
    let other = db.new_agent("other").await;
    let lost = db.store.agent(other).renew(&leases[2..3], until).await;
    assert_eq!(lost.expect("an answer"), leases[2..3]);
}

async fn a_lease_expires_only_when_it_was_not_renewed(db: Database) {
    let (agent, assignment) = db.running_under(once()).await;
    let queue = db.store.queue();
    let lease = assignment.attempt.lease();
    db.advance(31);
    let before = db.clock.now();
    let expired = queue.expired(before, 10).await.expect("a sweep");
    assert_eq!(expired.len(), 1);
    // Renewed between the look and the deed.
    let until = db.in_seconds(30);
    let lost = db.store.agent(agent).renew(&[lease], until).await;
    assert_eq!(lost.expect("renewed"), []);
    let ended = queue.expire(lease.attempt, before).await;
    assert_eq!(ended.expect("a sweep"), None);
    assert_eq!(queue.expired(before, 10).await.expect("a sweep"), []);
    db.advance(31);
    let ended = queue.expire(lease.attempt, db.clock.now()).await;
    let ended = ended.expect("a sweep").expect("it is expired");
    assert_eq!(ended.execution.state(), State::Aborted);
    assert_eq!(ended.execution.reason, "AGENT_LOST");
    assert!(ended.execution.message.contains("runner"));
    let again = queue.expire(lease.attempt, db.clock.now()).await;
    assert_eq!(again.expect("a sweep"), None);
}

async fn an_outage_gives_every_lease_a_grace(db: Database) {
    let (agent, assignment) = db.running().await;
    db.advance(3600);
    let queue = db.store.queue();
    assert_eq!(
        queue.grant_grace(db.in_seconds(60)).await.expect("granted"),
        1
    );
    assert_eq!(
        queue.grant_grace(db.in_seconds(30)).await.expect("granted"),
        0
    );
    assert_eq!(
        queue.expired(db.clock.now(), 10).await.expect("a sweep"),
        []
    );
    let attempt = db.store.agent(agent).attempt(assignment.attempt.id).await;
    assert_eq!(attempt.expect("it").lease_expire_time, db.in_seconds(60));
}

async fn a_queue_deadline_ends_only_what_still_waits(db: Database) {
    let deadline = db.in_seconds(10);
    let waits = db
        .submit_with("a", |new| new.queue_deadline = Some(deadline))
        .await;
    db.submit("patient").await;
    let taken = db
        .submit_with("b", |new| {
            new.queue_deadline = Some(deadline);
            new.priority = 1;
        })
        .await;
    let agent = db.new_agent("a").await;
    assert_eq!(db.claim_one(agent).await.execution.id, taken.id);
    let queue = db.store.queue();
    assert_eq!(
        queue
            .expire_queued(db.clock.now(), 10)
            .await
            .expect("a sweep"),
        []
    );
    db.advance(10);
    let ended = queue
        .expire_queued(db.clock.now(), 10)
        .await
        .expect("a sweep");
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].execution.id, waits.id);
    assert_eq!(ended[0].execution.state(), State::Aborted);
    assert_eq!(ended[0].execution.reason, "QUEUE_DEADLINE");
    assert_eq!(
        queue
            .expire_queued(db.clock.now(), 10)
            .await
            .expect("a sweep"),
        []
    );
}

async fn old_request_ids_are_forgotten(db: Database) {
    let project = muster_storage::project::NewProject {
        name: "p".to_owned(),
        display_name: String::new(),
    };
    let request = request("CreateProject", 1);
    let made = db.store.projects().create(&project, Some(&request)).await;
    made.expect("made");
    let queue = db.store.queue();
    assert_eq!(
        queue.prune_requests(db.clock.now()).await.expect("pruned"),
        0
    );
    db.advance(1);
    assert_eq!(
        queue.prune_requests(db.clock.now()).await.expect("pruned"),
        1
    );
}
