//! Deadlines of what executions do, lost agents by policy, and budgets of attempts.

use muster_core::{
    execution::{Cause, Effect, Outcome, Phase, State, Stop},
    id::AgentId,
    policy::{Interrupted, LostAgent, Policy},
};
use muster_storage::{
    execution::{Execution, StepState},
    work::{Assignment, Completion, Progress, Reported},
};

use crate::fixture::{Database, at, report, step};

on_every_database!(
    one_that_does_not_begin_in_time_goes_to_another_agent,
    one_that_runs_too_long_is_told_to_end_then_killed_then_taken_away,
    a_lost_agent_of_a_begun_attempt_is_waited_for_as_long_as_the_policy_says,
    a_cancel_ends_the_wait_for_a_lost_agent,
    what_an_agent_killed_because_it_was_cut_off_follows_the_policy_for_lost_agents,
    a_drained_attempt_follows_the_policy_for_interruptions,
    a_failed_attempt_is_tried_again_and_stays_visible,
    an_execution_that_takes_agents_with_it_ends_as_poison,
);

/// What the sweep does at this moment.
async fn sweep(db: &Database) -> Vec<(Execution, Vec<Effect>)> {
    let (queue, now) = (db.store.queue(), db.clock.now());
    let mut changed = Vec::new();
    for id in queue.overdue(now, 10).await.expect("a sweep") {
        let done = queue.pass_deadline(id, now).await.expect("a sweep");
        changed.extend(done.map(|done| (done.execution, done.effects)));
    }
    changed
}

/// Its first step has begun.
async fn begin(db: &Database, agent: AgentId, work: &Assignment) {
    let running = at(work.attempt.lease(), 1, Phase::Running);
    db.store
        .agent(agent)
        .report(running.clone())
        .await
        .expect("stored");
}

fn completion(outcome: Outcome) -> Progress {
    Progress::Completed(Completion {
        outcome,
        reason: "STEP_FAILED".to_owned(),
        message: "step 'Test' failed".to_owned(),
        log_size: 0,
        log_sha256: String::new(),
        finish_time: None,
    })
}

async fn one_that_does_not_begin_in_time_goes_to_another_agent(db: Database) {
    let policy = Policy {
        start_timeout_ms: Some(10_000),
        ..Policy::default()
    };
    let (agent, work) = db.running_under(policy).await;
    let mut pending = at(work.attempt.lease(), 1, Phase::Preparing);
    pending.message = "0/3 nodes are available".to_owned();
    db.store
        .agent(agent)
        .report(pending.clone())
        .await
        .expect("stored");
    assert_eq!(sweep(&db).await, []);
    db.advance(10);
    let changed = sweep(&db).await;
    let (execution, effects) = &changed[0];
    assert_eq!(execution.state(), State::Queued);
    assert_eq!(execution.reason, "START_TIMEOUT");
    assert!(
        execution.message.contains("0/3 nodes are available"),
        "{}",
        execution.message
    );
    assert!(effects.contains(&Effect::RevokeAttempt(work.attempt.lease())));
    assert_eq!(
        (execution.spent.infrastructure, execution.spent.tests),
        (1, 0)
    );
    assert_eq!(execution.avoid, [agent]);
    assert_eq!(sweep(&db).await, [], "once");
}

async fn one_that_runs_too_long_is_told_to_end_then_killed_then_taken_away(db: Database) {
    let policy = Policy {
        run_timeout_ms: Some(60_000),
        stop_grace_ms: Some(5_000),
        ..Policy::default()
    };
    let (agent, work) = db.running_under(policy).await;
    let lease = work.attempt.lease();
    begin(&db, agent, &work).await;
    db.advance(60);
    let (execution, effects) = sweep(&db).await.remove(0);
    assert_eq!(execution.reason, "RUN_TIMEOUT");
    assert_eq!(execution.lifecycle.cause, Cause::Deadline);
    assert_eq!(effects, [Effect::StopAttempt(lease, Stop::Orderly)]);
    db.advance(5);
    let (_, effects) = sweep(&db).await.remove(0);
    assert_eq!(effects, [Effect::StopAttempt(lease, Stop::Forced)]);
    db.advance(120);
    let (execution, effects) = sweep(&db).await.remove(0);
    assert_eq!(execution.state(), State::TimedOut);
    assert!(effects.contains(&Effect::RevokeAttempt(lease)));
    let late = report(lease, 2, completion(Outcome::Passed));
    let told = db
        .store
        .agent(agent)
        .report(late.clone())
        .await
        .expect("an answer");
    assert_eq!(told, Reported::LeaseLost);
}

async fn a_lost_agent_of_a_begun_attempt_is_waited_for_as_long_as_the_policy_says(db: Database) {
    let policy = Policy {
        lost_agent: Some(LostAgent::Wait),
        lost_agent_after_ms: Some(3_600_000),
        ..Policy::default()
    };
    let (agent, work) = db.running_under(policy).await;
    let lease = work.attempt.lease();
    begin(&db, agent, &work).await;
    db.advance(3600);
    let queue = db.store.queue();
    assert_eq!(queue.expired(db.clock.now(), 9).await.expect("a sweep"), []);
    // It comes back: nothing was lost, and the time begins anew.
    let until = db.in_seconds(30);
    let lost = db.store.agent(agent).renew(&[lease], until).await;
    assert_eq!(lost.expect("renewed"), []);
    db.advance(3629);
    assert_eq!(queue.expired(db.clock.now(), 9).await.expect("a sweep"), []);
    db.advance(1);
    let expired = queue.expired(db.clock.now(), 9).await.expect("a sweep");
    assert_eq!(expired.len(), 1);
    let ended = queue.expire(lease.attempt, db.clock.now()).await;
    let ended = ended.expect("a sweep").expect("it is lost");
    assert_eq!(ended.execution.state(), State::Aborted);
}

async fn a_cancel_ends_the_wait_for_a_lost_agent(db: Database) {
    let policy = Policy {
        lost_agent: Some(LostAgent::Wait),
        ..Policy::default()
    };
    let (agent, work) = db.running_under(policy).await;
    begin(&db, agent, &work).await;
    db.advance(100);
    let executions = db.store.executions(db.project);
    let id = work.execution.id;
    executions
        .cancel(id, Stop::Orderly, "", None)
        .await
        .expect("asked");
    let queue = db.store.queue();
    let expired = queue.expired(db.clock.now(), 9).await.expect("a sweep");
    assert_eq!(expired.len(), 1);
    let ended = queue.expire(work.attempt.id, db.clock.now()).await;
    let ended = ended.expect("a sweep").expect("it is lost");
    assert_eq!(ended.execution.state(), State::Canceled);
}

async fn what_an_agent_killed_because_it_was_cut_off_follows_the_policy_for_lost_agents(
    db: Database,
) {
    let policy = Policy {
        lost_agent: Some(LostAgent::Rerun),
        ..Policy::default()
    };
    let (agent, work) = db.running_under(policy).await;
    let lease = work.attempt.lease();
    begin(&db, agent, &work).await;
    let mut killed = report(lease, 2, Progress::Lost);
    killed.reason = "DISCONNECTED".to_owned();
    let Reported::Applied { changed, .. } = db
        .store
        .agent(agent)
        .report(killed.clone())
        .await
        .expect("stored")
    else {
        panic!("a loss is applied");
    };
    assert_eq!(changed.execution.state(), State::Queued);
    assert_eq!(changed.execution.spent.lost_agents, 1);
}

async fn a_drained_attempt_follows_the_policy_for_interruptions(db: Database) {
    for (interrupted, expected) in [
        (Interrupted::Rerun, State::Queued),
        (Interrupted::Fail, State::Aborted),
    ] {
        let policy = Policy {
            interrupted: Some(interrupted),
            ..Policy::default()
        };
        db.submit_with("smoke", |new| new.policy = policy).await;
        let agent = db.new_agent(&format!("a-{}", expected.as_str())).await;
        let work = db.claim_one(agent).await;
        begin(&db, agent, &work).await;
        let queue = db.store.queue();
        let revoked = queue
            .revoke(work.attempt.id, "DRAINED", "the cluster is drained")
            .await;
        let revoked = revoked.expect("an answer").expect("it lived");
        assert_eq!(revoked.execution.state(), expected);
        assert_eq!(revoked.execution.reason, "DRAINED");
        let again = queue.revoke(work.attempt.id, "DRAINED", "").await;
        assert_eq!(again.expect("an answer"), None);
        if expected == State::Queued {
            let other = db.new_agent("other").await;
            assert_eq!(db.claim_one(other).await.attempt.epoch, 2);
        }
    }
}

async fn a_failed_attempt_is_tried_again_and_stays_visible(db: Database) {
    let policy = Policy {
        test_retries: Some(1),
        ..Policy::default()
    };
    let (agent, first) = db.running_under(policy).await;
    let work = db.store.agent(agent);
    let mut failed = report(first.attempt.lease(), 1, completion(Outcome::Failed));
    failed.steps = vec![
        step("s1", StepState::Failed),
        step("s2", StepState::Skipped),
    ];
    let Reported::Applied { changed, .. } = work.report(failed.clone()).await.expect("stored")
    else {
        panic!("a failure is applied");
    };
    assert_eq!(changed.execution.state(), State::Queued);
    assert_eq!(changed.execution.spent.tests, 1);
    assert!(
        changed.execution.message.contains("tried again"),
        "{}",
        changed.execution.message
    );
    // The same word again is acknowledged and changes nothing.
    let again = work.report(failed.clone()).await.expect("acknowledged");
    assert_eq!(again, Reported::AlreadyEnded { sequence: 1 });
    let second = db.claim_one(agent).await;
    let mut passed = report(second.attempt.lease(), 1, completion(Outcome::Passed));
    passed.steps = vec![step("s1", StepState::Passed), step("s2", StepState::Passed)];
    work.report(passed.clone()).await.expect("stored");
    let executions = db.store.executions(db.project);
    let details = executions.details(first.execution.id).await.expect("it");
    assert_eq!(details.execution.state(), State::Passed);
    assert_eq!(details.steps[0].state, StepState::Passed);
    assert_eq!(details.attempts.len(), 2);
    assert_eq!(details.attempts[0].reason, "STEP_FAILED");
    assert_eq!(details.attempts[0].steps[0].state, StepState::Failed);
}

async fn an_execution_that_takes_agents_with_it_ends_as_poison(db: Database) {
    let policy = Policy {
        infrastructure_retries: Some(50),
        lost_agent: Some(LostAgent::Rerun),
        ..Policy::default()
    };
    let (_, mut work) = db.running_under(policy).await;
    for round in 1..=3 {
        db.advance(31);
        let ended = db
            .store
            .queue()
            .expire(work.attempt.id, db.clock.now())
            .await;
        let ended = ended.expect("a sweep").expect("it is lost").execution;
        if round < 3 {
            assert_eq!(ended.state(), State::Queued);
            let agent = db.new_agent(&format!("next-{round}")).await;
            work = db.claim_one(agent).await;
        } else {
            assert_eq!(
                (ended.state(), ended.reason.as_str()),
                (State::Aborted, "POISON")
            );
        }
    }
}
