//! Rules of an attempt's reports.

use muster_proto::{
    runner::v1::{Outcome, Phase as Told},
    v1::{attempt_report::Phase, execution},
};

use super::*;

fn attempt() -> Attempt {
    Attempt::new(
        AttemptId::generate(),
        3,
        Past::None,
        Arc::new(Notify::new()),
    )
}

fn progress(sequence: u64) -> Progress {
    Progress {
        sequence,
        phase: Told::Running.into(),
        ..Progress::default()
    }
}

fn record(log_size: u64) -> Completed {
    Completed {
        outcome: Outcome::Passed.into(),
        log_size,
        ..Completed::default()
    }
}

fn phase(attempt: &Attempt) -> Option<Phase> {
    attempt.report().map(|report| report.phase())
}

#[test]
fn a_completion_record_waits_for_the_log() {
    let attempt = attempt();
    attempt.completed(record(10));
    assert_eq!(phase(&attempt), Some(Phase::Finishing));
    attempt.durable(9);
    assert_eq!(phase(&attempt), Some(Phase::Finishing));
    attempt.durable(10);
    assert_eq!(phase(&attempt), Some(Phase::Completed));
}

#[test]
fn a_pod_that_vanishes_after_its_record_is_not_lost() {
    let attempt = attempt();
    attempt.completed(record(10));
    attempt.lost("POD_DELETED", "gone");
    let report = attempt.report().expect("there is news");
    assert_eq!(report.phase(), Phase::Completed);
    assert!(report.completion.is_some());
}

#[test]
fn a_record_after_the_loss_is_not_believed() {
    let attempt = attempt();
    attempt.lost("EVICTED", "gone");
    attempt.completed(record(0));
    assert_eq!(phase(&attempt), Some(Phase::Lost));
}

#[test]
fn reports_are_repeated_until_they_are_committed() {
    let attempt = attempt();
    attempt.progress(progress(1));
    let first = attempt.report().expect("there is news");
    assert_eq!(attempt.report().map(|r| r.sequence), Some(first.sequence));
    attempt.acknowledge(first.sequence);
    assert!(attempt.report().is_none());
    attempt.progress(progress(2));
    let second = attempt.report().expect("there is news");
    assert!(second.sequence > first.sequence);
}

#[test]
fn an_old_snapshot_of_the_conductor_changes_nothing() {
    let attempt = attempt();
    attempt.progress(progress(5));
    let sequence = attempt.report().map(|report| report.sequence);
    attempt.progress(progress(5));
    attempt.progress(progress(4));
    assert_eq!(attempt.report().map(|report| report.sequence), sequence);
}

#[test]
fn after_a_restart_the_sequence_goes_on_from_the_server() {
    let attempt = attempt();
    attempt.resume(41, 100);
    assert!(attempt.report().is_none());
    attempt.progress(progress(1));
    assert_eq!(attempt.report().map(|report| report.sequence), Some(42));
    assert_eq!(attempt.durable_offset(), 100);
}

#[test]
fn what_the_server_has_forgotten_is_told_again() {
    let attempt = attempt();
    attempt.progress(progress(1));
    let told = attempt.report().expect("there is news").sequence;
    attempt.acknowledge(told);
    attempt.durable(100);
    assert!(attempt.report().is_none());
    // An older copy of its database was restored.
    attempt.resume(told - 1, 40);
    assert_eq!(attempt.report().map(|report| report.sequence), Some(told));
    attempt.begin_log(40);
    assert_eq!(attempt.durable_offset(), 40);
}

#[test]
fn a_snapshot_from_before_the_reconciliation_gets_a_number_that_counts() {
    let attempt = attempt();
    attempt.progress(progress(1));
    attempt.resume(41, 0);
    assert_eq!(attempt.report().map(|report| report.sequence), Some(42));
}

#[test]
fn a_log_that_the_server_has_is_enough_though_nobody_said_so() {
    let attempt = attempt();
    attempt.durable(5);
    attempt.completed(record(10));
    let finishing = attempt.report().expect("there is news");
    assert_eq!(finishing.phase(), Phase::Finishing);
    attempt.acknowledge(finishing.sequence);
    assert!(attempt.report().is_none());
    // The stream broke after the server had stored the rest and before it said so.
    attempt.resume(finishing.sequence, 10);
    assert_eq!(phase(&attempt), Some(Phase::Completed));
}

#[test]
fn a_committed_last_report_ends_the_attempt() {
    let attempt = attempt();
    attempt.completed(record(0));
    let report = attempt.report().expect("there is news");
    attempt.acknowledge(report.sequence);
    assert_eq!(attempt.end(), Some(End::Committed));
}

#[test]
fn a_result_whose_lease_is_lost_is_told_once_and_what_runs_is_killed() {
    let attempt = attempt();
    attempt.progress(progress(1));
    attempt.lease_lost();
    assert_eq!(attempt.end(), Some(End::Killed));

    let attempt = self::attempt();
    attempt.completed(record(10));
    assert_eq!(phase(&attempt), Some(Phase::Finishing));
    attempt.lease_lost();
    // Said again before the report has gone out.
    attempt.lease_lost();
    assert_eq!(attempt.end(), None);
    let late = attempt.report().expect("a report");
    assert_eq!(late.phase(), Phase::Completed);
    let record = late.completion.expect("its record");
    assert_eq!(record.outcome(), execution::State::Passed);
    // Whatever the server says of it now, it is over.
    attempt.lease_lost();
    assert_eq!(attempt.end(), Some(End::Killed));
}

#[test]
fn a_forced_cancel_replaces_an_orderly_one_and_not_the_reverse() {
    let attempt = attempt();
    let order = |force| CancelAttempt {
        force,
        ..CancelAttempt::default()
    };
    attempt.cancel(order(false));
    attempt.cancel(order(true));
    attempt.cancel(order(false));
    assert!(attempt.canceled().is_some_and(|(order, _)| order.force));
}

#[test]
fn a_newer_connection_supersedes_an_older_one() {
    let attempt = attempt();
    let first = attempt.connect();
    let second = attempt.connect();
    assert!(attempt.orders(first).superseded);
    assert!(!attempt.orders(second).superseded);
    attempt.disconnect(first);
    assert!(attempt.is_connected());
}

#[test]
fn an_unreadable_plan_is_reported_and_not_dropped() {
    let attempt = attempt();
    attempt.assign(Assignment {
        plan: Bytes::from_static(b"{}"),
        ..Assignment::default()
    });
    let report = attempt.report().expect("there is news");
    assert_eq!(
        (report.phase(), report.reason.as_str()),
        (Phase::Lost, "PLAN_UNREADABLE")
    );
}

#[test]
fn an_aborted_record_says_why_the_cluster_ended_the_pod() {
    for (outcome, expected) in [
        (Outcome::Aborted, "DEADLINE_EXCEEDED"),
        (Outcome::Passed, ""),
    ] {
        let attempt = attempt();
        attempt.stopped("DEADLINE_EXCEEDED", "too long");
        attempt.completed(Completed {
            outcome: outcome.into(),
            ..Completed::default()
        });
        let completion = attempt.report().and_then(|report| report.completion);
        assert_eq!(completion.expect("a record").reason, expected);
    }
}

#[test]
fn a_service_that_never_was_ready_is_not_ended_as_one_that_did_its_work() {
    let order = CancelAttempt {
        outcome: execution::State::Passed.into(),
        ..CancelAttempt::default()
    };
    let told = |attempt: &Attempt| {
        let connection = attempt.connect();
        let order = attempt.orders(connection).cancel.expect("it is canceled");
        order.outcome()
    };
    let never = attempt();
    never.progress(progress(1));
    never.cancel(order.clone());
    assert_eq!(told(&never), execution::State::Failed);
    let was = attempt();
    was.progress(Progress {
        ready: true,
        ..progress(1)
    });
    was.progress(progress(2));
    was.cancel(order.clone());
    assert_eq!(told(&was), execution::State::Passed);
    // Another agent saw it ready; this one has not looked yet.
    let adopted = attempt();
    adopted.resume(3, 0);
    adopted.was_ready();
    adopted.cancel(order);
    assert_eq!(told(&adopted), execution::State::Passed);
}
