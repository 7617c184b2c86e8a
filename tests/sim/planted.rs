//! That the simulation can fail: faults that are planted, and are seen.
//!
//! Some are in histories written by hand, one for each promise; some are made in the database of a
//! world that runs, behind the back of everybody.

use std::time::Duration;

use muster_core::execution::State;
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use crate::{
    agent::{LEASE, millis},
    case::{Failure, shrink},
    database::Template,
    invariant::{Invariants, at_the_end},
    ledger::{Ledger, Spoken, Submit},
    op::{End, Loss, Op, Word},
    seen::{Attempt, Execution, Log, Sight, Status},
    world::World,
};

/// A short history that keeps every promise: assigned, then passed.
fn history() -> (Vec<Sight>, Ledger) {
    let attempt = Attempt {
        id: "a1".to_owned(),
        epoch: 1,
        agent: "east".to_owned(),
        status: Status::Live,
        reason: String::new(),
        sequence: 0,
        log_offset: 0,
        finish_time: None,
    };
    let events = |kinds: &[&str]| {
        let numbered = (1..).zip(kinds);
        numbered
            .map(|(at, kind)| (at, (*kind).to_owned()))
            .collect()
    };
    let assigned = Execution {
        submit: "request-1".to_owned(),
        state: State::Assigned,
        reason: String::new(),
        revision: 2,
        last_epoch: 1,
        lease: Some(("a1".to_owned(), 1)),
        finish_time: None,
        pause_wanted: false,
        log: Log::default(),
        attempts: vec![attempt.clone()],
        events: events(&["QUEUED", "ASSIGNED"]),
    };
    let passed = Execution {
        state: State::Passed,
        revision: 3,
        lease: None,
        finish_time: Some(9_000),
        attempts: vec![Attempt {
            status: Status::Completed,
            sequence: 4,
            log_offset: 3,
            finish_time: Some(9_000),
            ..attempt
        }],
        log: Log {
            size: 3,
            sha256: "d".to_owned(),
            complete: true,
        },
        events: events(&["QUEUED", "ASSIGNED", "PASSED", "LOG_COMPLETE"]),
        ..assigned.clone()
    };
    let mut ledger = Ledger::default();
    let answer = Some("e1".to_owned());
    ledger
        .submits
        .insert("request-1".to_owned(), Submit { answer });
    let spoken = Spoken {
        execution: "e1".to_owned(),
        epoch: 1,
        printed: vec![b"log".to_vec()],
        outcomes: [State::Passed].into(),
        true_digest: true,
        completion_acknowledged: true,
        durable: 3,
        sequence: 4,
        renewed: 1_000,
        ..Spoken::default()
    };
    let before = Spoken {
        completion_acknowledged: false,
        ..spoken
    };
    ledger.attempts.insert("a1".to_owned(), before);
    let sights = [assigned, passed].map(|it| Sight::from([("e1".to_owned(), it)]));
    (sights.into(), ledger)
}

/// What is broken in a history, moment by moment and at its end.
fn broken(sights: &[Sight], ledger: &Ledger) -> Option<String> {
    let mut invariants = Invariants::new(millis(LEASE));
    for sight in sights {
        if let Err(broken) = invariants.check(sight, ledger) {
            return Some(broken);
        }
    }
    let last = sights.last().cloned().unwrap_or_default();
    at_the_end(&last, ledger).err()
}

/// Plants a fault in the history; what the checker says of it.
fn planted(plant: impl FnOnce(&mut Vec<Sight>, &mut Ledger)) -> String {
    let (mut sights, mut ledger) = history();
    plant(&mut sights, &mut ledger);
    broken(&sights, &ledger).expect("the fault is seen")
}

fn execution(sight: &mut Sight) -> &mut Execution {
    sight.get_mut("e1").expect("it is there")
}

#[track_caller]
fn says(broken: &str, wanted: &str) {
    assert!(
        broken.contains(wanted),
        "'{broken}' does not say '{wanted}'"
    );
}

#[test]
fn a_history_without_a_fault_is_taken() {
    let (sights, ledger) = history();
    assert_eq!(broken(&sights, &ledger), None);
}

#[test]
fn a_second_live_attempt_is_seen() {
    let fault = planted(|sights, _| {
        let execution = execution(&mut sights[0]);
        let mut second = execution.attempts[0].clone();
        (second.id, second.epoch, execution.last_epoch) = ("a2".to_owned(), 2, 2);
        execution.attempts.push(second);
    });
    says(&fault, "2 live attempts");
}

#[test]
fn a_second_result_is_seen() {
    let fault = planted(|sights, _| {
        let execution = execution(&mut sights[1]);
        let mut second = execution.attempts[0].clone();
        (second.id, second.epoch, execution.last_epoch) = ("a2".to_owned(), 2, 2);
        execution.attempts.push(second);
    });
    says(&fault, "2 accepted results");
}

#[test]
fn a_pass_that_nobody_told_is_seen() {
    let fault = planted(|_, ledger| {
        let spoken = ledger.attempts.get_mut("a1").expect("it is there");
        spoken.outcomes = [State::Failed].into();
    });
    says(&fault, "is passed, but was told");
    let fault = planted(|sights, _| {
        execution(&mut sights[1]).attempts[0].status = Status::Lost;
    });
    says(&fault, "passed without a completion record");
}

#[test]
fn an_end_that_changes_is_seen() {
    let fault = planted(|sights, ledger| {
        let mut later = sights[1].clone();
        let execution = execution(&mut later);
        execution.state = State::Failed;
        execution.revision += 1;
        execution.events.push((5, "FAILED".to_owned()));
        let spoken = ledger.attempts.get_mut("a1").expect("it is there");
        spoken.outcomes.insert(State::Failed);
        sights.push(later);
    });
    says(&fault, "ended 2 times");
    let fault = planted(|sights, _| {
        let mut later = sights[1].clone();
        execution(&mut later).finish_time = Some(10_000);
        sights.push(later);
    });
    says(&fault, "for good");
}

#[test]
fn an_execution_that_vanishes_or_comes_twice_is_seen() {
    let fault = planted(|sights, _| sights.push(Sight::new()));
    says(&fault, "which is gone");
    let fault = planted(|sights, _| {
        let twin = execution(&mut sights[1]).clone();
        sights[1].insert("e2".to_owned(), twin);
    });
    says(&fault, "made e1 and e2");
    let fault = planted(|_, ledger| ledger.submits.clear());
    says(&fault, "never asked for");
}

#[test]
fn a_lease_that_ends_early_is_seen() {
    let fault = planted(|sights, _| {
        let execution = execution(&mut sights[0]);
        (execution.state, execution.lease) = (State::Queued, None);
        let attempt = &mut execution.attempts[0];
        attempt.status = Status::Lost;
        "AGENT_LOST".clone_into(&mut attempt.reason);
        attempt.finish_time = Some(1_000 + millis(LEASE) - 1);
        execution.events.push((3, "QUEUED".to_owned()));
    });
    says(&fault, "after its lease was renewed");
}

#[test]
fn a_hole_in_the_history_is_seen() {
    let fault = planted(|sights, _| execution(&mut sights[1]).events[2].0 = 7);
    says(&fault, "events are numbered");
    let fault = planted(|sights, _| {
        execution(&mut sights[1]).events[2].1 = "FAILED".to_owned();
    });
    says(&fault, "its history says");
}

#[test]
fn a_log_that_is_not_what_it_says_is_seen() {
    let fault = planted(|_, ledger| {
        ledger
            .attempts
            .get_mut("a1")
            .expect("it is there")
            .true_digest = false;
    });
    says(&fault, "nobody told its digest");
    let fault = planted(|sights, _| execution(&mut sights[1]).attempts[0].log_offset = 2);
    says(&fault, "complete with 3 bytes");
    let fault = planted(|_, ledger| {
        ledger.attempts.get_mut("a1").expect("it is there").durable = 4;
    });
    says(&fault, "were acknowledged");
    let fault = planted(|sights, _| execution(&mut sights[1]).log.complete = false);
    says(&fault, "came here whole");
}

#[test]
fn an_epoch_that_goes_back_is_seen() {
    let fault = planted(|sights, _| execution(&mut sights[1]).last_epoch = 0);
    says(&fault, "epochs are");
}

#[test]
fn an_acknowledged_result_that_is_gone_is_seen() {
    let fault = planted(|sights, ledger| {
        sights.pop();
        let spoken = ledger.attempts.get_mut("a1").expect("it is there");
        spoken.completion_acknowledged = true;
    });
    says(&fault, "its result was acknowledged");
}

#[test]
fn what_a_caller_was_told_and_is_not_so_is_seen() {
    let fault = planted(|_, ledger| {
        ledger
            .told_terminal
            .insert("e1".to_owned(), State::Canceled);
        ledger.submits.clear();
        let answer = None;
        ledger
            .submits
            .insert("request-1".to_owned(), Submit { answer });
    });
    says(&fault, "was told to be canceled");
}

#[test]
fn an_attempt_after_an_accepted_cancel_is_seen() {
    let fault = planted(|_, ledger| {
        ledger.canceled.insert("e1".to_owned(), 0);
    });
    says(&fault, "its cancel was accepted at attempt 0");
}

#[test]
fn an_execution_that_never_ends_is_seen() {
    let fault = planted(|sights, _| sights.truncate(1));
    says(&fault, "for ever");
}

/// Runs operations, then a statement on the database behind the server's back, and checks again.
fn tamper(ops: &[Op], statement: &str) -> String {
    let template = Template::sqlite().expect("a database");
    let mut world = World::begin(&template).expect("it begins");
    for op in ops {
        world.apply(*op).expect("nothing is broken yet");
    }
    meddle(&world, statement);
    let end = world.apply(Op::Crash);
    end.and_then(|()| world.end())
        .expect_err("the fault is seen")
        .to_string()
}

/// Changes one row of the database of a world.
fn meddle(world: &World<'_>, statement: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let changed = runtime.block_on(async {
        let mut connection = SqliteConnection::connect(&world.url()).await?;
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        let done = connection.execute(statement).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(done.rows_affected())
    });
    assert_eq!(changed.expect("the statement works"), 1);
}

const SUBMIT: Op = Op::Submit {
    request: Some(1),
    loss: Loss::Nothing,
};

#[test]
fn a_row_that_is_lost_in_a_running_world_is_seen() {
    let statement = "DELETE FROM executions WHERE state = 'queued'";
    says(&tamper(&[SUBMIT], statement), "which is gone");
}

#[test]
fn a_result_that_no_agent_told_is_seen_in_a_running_world() {
    let ops = [Op::Time(1), SUBMIT, Op::Time(1)];
    let statement = "UPDATE executions SET state = 'passed', lease_attempt_id = NULL, \
                     lease_epoch = NULL, finish_time = 1, revision = revision + 1";
    let fault = tamper(&ops, statement);
    says(&fault, "its lease is None, but the live attempt is");
}

#[test]
fn a_slot_that_is_lost_is_seen_in_a_running_world() {
    // One agent gets no work any more.
    let ops = [Op::Time(1), SUBMIT, Op::Time(1), Op::Fill];
    let statement = "UPDATE agents SET projects_json = '[\"00000000-0000-0000-0000-000000000001\"]' \
                     WHERE name = 'west'";
    says(&tamper(&ops, statement), "executions wait, but agents hold");
}

#[test]
fn a_stale_word_that_is_taken_is_seen() {
    let template = Template::sqlite().expect("a database");
    let mut world = World::begin(&template).expect("it begins");
    for op in [Op::Time(1), SUBMIT, Op::Time(1)] {
        world.apply(op).expect("nothing is broken yet");
    }
    // The simulation takes the live epoch for an old one.
    for spoken in world.ledger_mut().attempts.values_mut() {
        spoken.epoch += 1;
    }
    let stale = Op::Stale {
        agent: 1,
        attempt: 0,
        word: Word::Passed,
    };
    let fault = world.apply(stale).expect_err("the server takes it");
    says(&fault.to_string(), "was not refused");
}

/// Another server accepts the cancel of an execution that this one has written last; then its pod
/// is gone.
fn cancel_elsewhere(statement: &str) -> anyhow::Result<()> {
    let template = Template::sqlite().expect("a database");
    let mut world = World::begin(&template).expect("it begins");
    for op in [Op::Time(1), SUBMIT, Op::Time(1)] {
        world.apply(op).expect("nothing is broken yet");
    }
    meddle(&world, statement);
    let sight = world.sight().expect("it can be read");
    let canceled = sight.into_keys().map(|id| (id, 1));
    world.ledger_mut().canceled.extend(canceled);
    world.apply(Op::Vanish { agent: 1, pod: 0 })?;
    world.apply(Op::Exchange(1))?;
    world.end()
}

#[test]
fn a_revision_that_two_servers_have_made_is_seen() {
    let cancel = "UPDATE executions SET stop = 'orderly', stop_cause = 'caller'";
    let one_more = format!("{cancel}, revision = revision + 1");
    cancel_elsewhere(&one_more).expect("the server sees by the revision that it must read it");
    let fault = cancel_elsewhere(cancel).expect_err("what it knows of this revision is not so");
    says(&fault.to_string(), "its cancel was accepted at attempt 1");
}

#[test]
fn a_failing_case_is_made_short() {
    // Fails when both a crash and, later, a cancel are left.
    let fails = |ops: &[Op]| {
        let crash = ops.iter().position(|op| *op == Op::Crash)?;
        let late = |op: &Op| matches!(op, Op::Cancel { .. });
        let cancel = ops.iter().rposition(late)?;
        (crash < cancel).then(|| Failure {
            at: cancel,
            broken: "planted".to_owned(),
        })
    };
    let cancel = Op::Cancel {
        execution: 0,
        force: false,
        loss: Loss::Nothing,
    };
    let walk = Op::Walk {
        agent: 0,
        pod: 0,
        end: End::Passed,
    };
    let mut ops = vec![walk; 40];
    (ops[11], ops[29]) = (Op::Crash, cancel);
    let failure = fails(&ops).expect("it fails");
    let (short, failure) = shrink(&ops, failure, Duration::from_secs(10), fails);
    assert_eq!(short, [Op::Crash, cancel]);
    assert_eq!(failure.at, 1);
}
