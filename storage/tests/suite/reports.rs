//! Reports of agents: progress, completion, loss, decline, and everything that comes too late.

use muster_core::{
    execution::{Effect, IllegalTransition, Lease, Outcome, Phase, State, Stop},
    id::AttemptId,
};
use muster_storage::{
    Error,
    attempt::Status,
    execution::{StepOutput, StepState},
    work::{Completion, Progress, Reported},
};

use crate::fixture::{Database, at, report, step};

on_every_database!(
    progress_moves_the_execution_and_its_steps,
    a_repeated_report_is_acknowledged_and_changes_nothing,
    a_completion_is_accepted_once_and_acknowledged_for_ever,
    a_stale_epoch_is_refused,
    a_late_completion_can_not_overwrite_a_newer_attempt,
    another_agent_can_not_report,
    a_declined_attempt_is_queued_again,
    a_started_attempt_can_not_be_declined,
    a_lost_attempt_is_tried_again_only_when_the_policy_says_so,
    a_lost_attempt_of_a_canceled_execution_is_canceled,
    words_of_an_agent_are_made_fit,
);

fn completion(outcome: Outcome) -> Progress {
    Progress::Completed(Completion {
        outcome,
        reason: "DONE".to_owned(),
        message: "all is well".to_owned(),
        log_size: 12,
        log_sha256: "ab".repeat(32),
        finish_time: None,
    })
}

async fn progress_moves_the_execution_and_its_steps(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    let executions = db.store.executions(db.project);
    let mut preparing = at(lease, 1, Phase::Preparing);
    preparing.reason = "IMAGE_PULL".to_owned();
    work.report(preparing.clone()).await.expect("stored");
    let execution = executions.get(assignment.execution.id).await.expect("it");
    assert_eq!(execution.state(), State::Preparing);
    assert_eq!(execution.reason, "IMAGE_PULL");
    assert_eq!(execution.start_time, None);
    let mut running = at(lease, 2, Phase::Running);
    running.steps = vec![
        step("s1", StepState::Running),
        step("s2", StepState::Queued),
    ];
    running.steps[0]
        .outputs
        .insert("version".to_owned(), "1".to_owned());
    running.outputs = vec![StepOutput {
        step: "s1".to_owned(),
        name: "url".to_owned(),
        json: "\"x\"".to_owned(),
    }];
    running.start_time = Some(db.clock.now());
    work.report(running.clone()).await.expect("stored");
    let details = executions
        .details(assignment.execution.id)
        .await
        .expect("it");
    assert_eq!(details.execution.state(), State::Running);
    assert_eq!(details.execution.reason, "");
    assert_eq!(details.execution.start_time, Some(db.clock.now()));
    assert_eq!(details.steps, running.steps);
    assert_eq!(details.outputs, running.outputs);
    assert_eq!(details.attempts[0].phase, Some(Phase::Running));
    assert_eq!(details.attempts[0].sequence, 2);
}

async fn a_repeated_report_is_acknowledged_and_changes_nothing(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    let running = at(lease, 5, Phase::Running);
    let applied = work.report(running.clone()).await.expect("stored");
    assert!(matches!(applied, Reported::Applied { .. }), "{applied:?}");
    let before = db
        .store
        .executions(db.project)
        .details(assignment.execution.id)
        .await;
    for sequence in [5, 3] {
        let again = work.report(at(lease, sequence, Phase::Finishing)).await;
        assert_eq!(
            again.expect("acknowledged"),
            Reported::Repeat { sequence: 5 }
        );
    }
    let after = db
        .store
        .executions(db.project)
        .details(assignment.execution.id)
        .await;
    assert_eq!(before.expect("before"), after.expect("after"));
}

async fn a_completion_is_accepted_once_and_acknowledged_for_ever(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    work.report(at(lease, 1, Phase::Running))
        .await
        .expect("stored");
    db.advance(7);
    let done = report(lease, 2, completion(Outcome::Passed));
    let Reported::Applied { changed, .. } = work.report(done.clone()).await.expect("stored") else {
        panic!("the first completion is applied");
    };
    assert_eq!(changed.execution.state(), State::Passed);
    assert_eq!(changed.execution.finish_time, Some(db.clock.now()));
    assert_eq!(
        changed.effects,
        [Effect::CloseAttempt(lease), Effect::FreePlace]
    );
    let again = work.report(done.clone()).await.expect("acknowledged");
    assert_eq!(again, Reported::AlreadyEnded { sequence: 2 });
    // Not even with another outcome and a newer sequence.
    let other = report(lease, 9, completion(Outcome::Failed));
    let again = work.report(other.clone()).await.expect("acknowledged");
    assert_eq!(again, Reported::AlreadyEnded { sequence: 9 });
    let details = db
        .store
        .executions(db.project)
        .details(assignment.execution.id)
        .await;
    let details = details.expect("details");
    assert_eq!(details.execution.state(), State::Passed);
    assert_eq!(details.attempts[0].status, Status::Completed);
    let told = details.attempts[0]
        .told_log
        .as_ref()
        .expect("it told of its log");
    assert_eq!(told.size, 12);
    assert_eq!(work.live().await.expect("nothing"), []);
}

async fn a_stale_epoch_is_refused(db: Database) {
    let (agent, assignment) = db.running().await;
    let work = db.store.agent(agent);
    let stale = Lease {
        attempt: assignment.attempt.id,
        epoch: 0,
    };
    let refused = work
        .report(at(stale, 1, Phase::Running))
        .await
        .expect("an answer");
    assert_eq!(refused, Reported::LeaseLost);
    let refused = work.decline(stale, "", "").await;
    assert!(
        matches!(
            refused,
            Err(Error::IllegalTransition(
                IllegalTransition::LeaseLost { .. }
            ))
        ),
        "{refused:?}"
    );
}

async fn a_late_completion_can_not_overwrite_a_newer_attempt(db: Database) {
    let (agent, first) = db.running().await;
    db.advance(31);
    let now = db.clock.now();
    let expired = db.store.queue().expire(first.attempt.id, now).await;
    let changed = expired.expect("a sweep").expect("it is expired");
    assert_eq!(changed.execution.state(), State::Queued);
    let other = db.new_agent("other").await;
    let second = db.claim_one(other).await;
    assert_eq!(second.attempt.epoch, 2);
    let late = report(first.attempt.lease(), 4, completion(Outcome::Failed));
    let refused = db
        .store
        .agent(agent)
        .report(late.clone())
        .await
        .expect("an answer");
    assert_eq!(refused, Reported::LeaseLost);
    // Told again, it is kept once.
    let again = db.store.agent(agent).report(late.clone()).await;
    assert_eq!(again.expect("an answer"), Reported::LeaseLost);
    let executions = db.store.executions(db.project);
    let execution = executions.get(first.execution.id).await;
    assert_eq!(execution.expect("it").lifecycle, second.execution.lifecycle);
    let events = executions.events(first.execution.id, 0, 100).await;
    let late: Vec<_> = events
        .expect("its history")
        .items
        .into_iter()
        .filter(|event| event.kind == "LATE_RESULT")
        .collect();
    assert_eq!(late.len(), 1);
    assert!(late[0].message.contains("failed"), "{late:?}");
    let done = report(second.attempt.lease(), 1, completion(Outcome::Passed));
    let applied = db
        .store
        .agent(other)
        .report(done.clone())
        .await
        .expect("stored");
    assert!(matches!(applied, Reported::Applied { .. }), "{applied:?}");
}

async fn another_agent_can_not_report(db: Database) {
    let (_, assignment) = db.running().await;
    let other = db.new_agent("other").await;
    let work = db.store.agent(other);
    let lease = assignment.attempt.lease();
    let refused = work.report(at(lease, 1, Phase::Running)).await;
    assert!(refused.expect_err("not its own").is_not_found());
    assert!(
        work.decline(lease, "", "")
            .await
            .expect_err("not its own")
            .is_not_found()
    );
    let unknown = Lease {
        attempt: AttemptId::generate(),
        epoch: 1,
    };
    let refused = work.report(at(unknown, 1, Phase::Running)).await;
    assert!(refused.expect_err("no such attempt").is_not_found());
}

async fn a_declined_attempt_is_queued_again(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    let changed = work.decline(lease, "NO_ROOM", "the quota is used up").await;
    let changed = changed.expect("declined");
    assert_eq!(changed.execution.state(), State::Queued);
    assert_eq!(changed.execution.reason, "NO_ROOM");
    assert_eq!(changed.execution.assign_time, None);
    let again = work.decline(lease, "NO_ROOM", "").await.expect("a repeat");
    assert_eq!(again.effects, []);
    let second = db.claim_one(agent).await;
    assert_eq!(second.attempt.epoch, 2);
    assert_eq!(second.execution.reason, "");
    let details = db
        .store
        .executions(db.project)
        .details(second.execution.id)
        .await;
    let statuses: Vec<_> = details
        .expect("it")
        .attempts
        .iter()
        .map(|item| item.status)
        .collect();
    assert_eq!(statuses, [Status::Declined, Status::Live]);
}

async fn a_started_attempt_can_not_be_declined(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    work.report(at(lease, 1, Phase::Running))
        .await
        .expect("stored");
    let refused = work.decline(lease, "", "").await;
    assert!(
        matches!(
            refused,
            Err(Error::IllegalTransition(IllegalTransition::State { .. }))
        ),
        "{refused:?}"
    );
}

async fn a_lost_attempt_is_tried_again_only_when_the_policy_says_so(db: Database) {
    let (agent, mut assignment) = db.running().await;
    let work = db.store.agent(agent);
    let executions = db.store.executions(db.project);
    // Never started: twice again, then no more.
    for epoch in 1..=3 {
        let lease = assignment.attempt.lease();
        assert_eq!(lease.epoch, epoch);
        let mut lost = report(lease, 1, Progress::Lost);
        lost.reason = "EVICTED".to_owned();
        lost.message = "The node was low on memory.".to_owned();
        let Reported::Applied { changed, .. } = work.report(lost.clone()).await.expect("stored")
        else {
            panic!("a loss is applied");
        };
        assert_eq!(changed.execution.reason, "EVICTED");
        let again = work.report(lost.clone()).await.expect("acknowledged");
        assert_eq!(again, Reported::AlreadyEnded { sequence: 1 });
        let expected = if epoch < 3 {
            State::Queued
        } else {
            State::Aborted
        };
        assert_eq!(changed.execution.state(), expected);
        if epoch < 3 {
            assignment = db.claim_one(agent).await;
        }
    }
    // Started: its steps may have had effects.
    db.submit("other").await;
    let started = db.claim_one(agent).await;
    let mut running = at(started.attempt.lease(), 1, Phase::Running);
    running.steps = vec![
        step("s1", StepState::Running),
        step("s2", StepState::Queued),
    ];
    work.report(running.clone()).await.expect("stored");
    let lost = report(started.attempt.lease(), 2, Progress::Lost);
    work.report(lost.clone()).await.expect("stored");
    let details = executions.details(started.execution.id).await.expect("it");
    assert_eq!(details.execution.state(), State::Aborted);
    let states: Vec<_> = details.steps.iter().map(|step| step.state).collect();
    assert_eq!(states, [StepState::Aborted, StepState::Skipped]);
}

async fn a_lost_attempt_of_a_canceled_execution_is_canceled(db: Database) {
    let (agent, assignment) = db.running().await;
    let executions = db.store.executions(db.project);
    let id = assignment.execution.id;
    executions
        .cancel(id, Stop::Orderly, "stop", None)
        .await
        .expect("asked");
    let lost = report(assignment.attempt.lease(), 1, Progress::Lost);
    db.store
        .agent(agent)
        .report(lost.clone())
        .await
        .expect("stored");
    assert_eq!(
        executions.get(id).await.expect("it").state(),
        State::Canceled
    );
}

async fn words_of_an_agent_are_made_fit(db: Database) {
    let (agent, assignment) = db.running().await;
    let mut running = at(assignment.attempt.lease(), 1, Phase::Preparing);
    running.reason = "X".repeat(10_000);
    running.message = "a\0b".repeat(100_000);
    running.steps = vec![step("s\u{0}1", StepState::Running)];
    db.store
        .agent(agent)
        .report(running.clone())
        .await
        .expect("stored");
    let execution = db
        .store
        .executions(db.project)
        .get(assignment.execution.id)
        .await;
    let execution = execution.expect("it");
    assert!(execution.reason.len() < 200);
    assert!(execution.message.len() < 20_000);
    assert!(!execution.message.contains('\0'));
}
