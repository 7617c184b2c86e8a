//! The full table of states and events as a snapshot, and properties of event sequences.

use std::fmt::Write as _;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn lease(epoch: i64) -> Lease {
    let number = u128::try_from(epoch).expect("epochs are positive");
    Lease {
        attempt: AttemptId::from(Uuid::from_u128(number)),
        epoch,
    }
}

fn events(lease: Lease) -> Vec<Event> {
    let mut events = vec![Event::Assign(lease), Event::Decline(lease)];
    for phase in [
        Phase::Preparing,
        Phase::Running,
        Phase::Paused,
        Phase::Finishing,
    ] {
        events.push(Event::Report(lease, phase));
    }
    for outcome in [
        Outcome::Passed,
        Outcome::Failed,
        Outcome::Aborted,
        Outcome::Canceled,
        Outcome::TimedOut,
    ] {
        for retry in [false, true] {
            events.push(Event::Complete {
                lease,
                outcome,
                retry,
            });
        }
    }
    for retry in [false, true] {
        events.push(Event::AttemptLost { lease, retry });
        events.push(Event::Revoke { lease, retry });
    }
    events.extend([
        Event::Cancel(Stop::Orderly),
        Event::Cancel(Stop::Forced),
        Event::Pause,
        Event::Resume,
        Event::QueueDeadline,
        Event::RunDeadline,
    ]);
    events
}

fn at(state: State) -> Lifecycle {
    let leased = state.is_leased().then(|| lease(1));
    let last_epoch = if state == State::Queued { 0 } else { 1 };
    Lifecycle {
        state,
        lease: leased,
        stop: None,
        cause: Cause::Caller,
        pause: Pause::default(),
        last_epoch,
    }
}

#[test]
fn every_state_and_event_is_decided() {
    let mut table = String::new();
    for state in State::ALL {
        for event in events(lease(1)) {
            let name = match event {
                Event::Assign(_) => "assign".to_owned(),
                Event::Decline(_) => "decline".to_owned(),
                Event::Report(_, phase) => format!("report {phase:?}"),
                Event::Complete { outcome, retry, .. } => {
                    format!("complete {outcome:?}, retry {retry}")
                }
                Event::AttemptLost { retry, .. } => format!("attempt lost, retry {retry}"),
                Event::Revoke { retry, .. } => format!("revoke, retry {retry}"),
                Event::Cancel(stop) => format!("cancel {stop:?}"),
                Event::Pause => "pause".to_owned(),
                Event::Resume => "resume".to_owned(),
                Event::QueueDeadline => "queue deadline".to_owned(),
                Event::RunDeadline => "run deadline".to_owned(),
            };
            let row = match at(state).on(event) {
                Ok(Transition { next, effects }) => {
                    let effects: Vec<_> = effects
                        .iter()
                        .map(|effect| match effect {
                            Effect::WakeScheduler => "wake".to_owned(),
                            Effect::FreePlace => "free".to_owned(),
                            Effect::StopAttempt(_, stop) => format!("stop {stop:?}"),
                            Effect::PauseAttempt(_, pause) => {
                                let what = if pause.paused { "pause" } else { "resume" };
                                format!("{what} {}", pause.sequence)
                            }
                            Effect::CloseAttempt(_) => "close".to_owned(),
                            Effect::RevokeAttempt(_) => "revoke".to_owned(),
                        })
                        .collect();
                    format!("{} [{}]", next.state, effects.join(", "))
                }
                Err(error) => format!("refused: {error}"),
            };
            writeln!(table, "{state:10} {name:30} {row}").expect("a string takes text");
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_report_under_an_old_lease_is_refused() {
    let live = Lifecycle {
        last_epoch: 2,
        lease: Some(lease(2)),
        ..at(State::Running)
    };
    let told = events(lease(1)).into_iter().filter(|event| {
        !matches!(
            event,
            Event::Assign(_)
                | Event::Cancel(_)
                | Event::Pause
                | Event::Resume
                | Event::QueueDeadline
                | Event::RunDeadline
        )
    });
    for event in told {
        assert_eq!(
            live.on(event),
            Err(IllegalTransition::LeaseLost { epoch: 1 }),
            "{event:?}"
        );
    }
}

#[test]
fn a_lost_attempt_of_a_canceled_execution_ends_it() {
    let stopping = at(State::Running)
        .on(Event::Cancel(Stop::Orderly))
        .expect("a running execution can be canceled")
        .next;
    let lost = Event::AttemptLost {
        lease: lease(1),
        retry: true,
    };
    let ended = stopping.on(lost).expect("the lease is live").next;
    assert_eq!(ended.state, State::Canceled);
}

#[test]
fn every_wish_to_go_on_is_a_new_one_and_a_pause_is_repeated_without_effect() {
    let running = at(State::Running);
    let pausing = running.on(Event::Pause).expect("it runs").next;
    assert_eq!(
        pausing.pause,
        Pause {
            sequence: 1,
            paused: true
        }
    );
    let again = pausing.on(Event::Pause).expect("a repeat");
    assert!(again.effects.is_empty());
    let paused = pausing.on(Event::Report(lease(1), Phase::Paused));
    let paused = paused.expect("the lease is live").next;
    let first = paused.on(Event::Resume).expect("it is paused").next;
    // Its agent has not answered yet: the next step may have paused it meanwhile.
    let second = first.on(Event::Resume).expect("it is paused").next;
    assert_eq!(second.pause.sequence, 3);
    let running = second.on(Event::Report(lease(1), Phase::Running));
    let running = running.expect("the lease is live").next;
    assert!(running.on(Event::Resume).is_err(), "nothing is paused");
}

#[test]
fn an_execution_that_is_to_end_is_not_paused() {
    let stopping = at(State::Running).on(Event::Cancel(Stop::Orderly));
    let stopping = stopping.expect("it runs").next;
    assert!(stopping.on(Event::Pause).is_err());
}

#[test]
fn another_attempt_begins_paused_when_that_is_wished() {
    let paused = at(State::Running).on(Event::Pause).expect("it runs").next;
    let resumed = paused.on(Event::Resume).expect("it is to pause").next;
    let lost = Event::AttemptLost {
        lease: lease(1),
        retry: true,
    };
    let queued = paused.on(lost).expect("the lease is live").next;
    assert!(queued.pause.paused);
    let assigned = queued.on(Event::Assign(lease(2))).expect("it is queued");
    assert!(assigned.next.pause.paused);
    let queued = resumed.on(lost).expect("the lease is live").next;
    assert_eq!(queued.pause, Pause::default());
}

#[test]
fn what_ends_a_run_that_is_too_long_is_told_from_what_a_caller_ends() {
    let late = at(State::Running).on(Event::RunDeadline).expect("it runs");
    assert_eq!(late.effects, [Effect::StopAttempt(lease(1), Stop::Orderly)]);
    // Somebody presses on: the deadline stays the cause.
    let forced = late.next.on(Event::Cancel(Stop::Forced)).expect("it ends");
    assert_eq!(forced.next.cause, Cause::Deadline);
    let gone = Event::Revoke {
        lease: lease(1),
        retry: true,
    };
    let ended = forced.next.on(gone).expect("the lease is live").next;
    assert_eq!(ended.state, State::TimedOut);
}

#[test]
fn a_failure_with_a_budget_is_tried_again_unless_it_was_to_end() {
    let failed = Event::Complete {
        lease: lease(1),
        outcome: Outcome::Failed,
        retry: true,
    };
    let again = at(State::Finishing).on(failed).expect("the lease is live");
    assert_eq!(again.next.state, State::Queued);
    assert_eq!(again.next.lease, None);
    let stopping = at(State::Running).on(Event::Cancel(Stop::Orderly));
    let stopping = stopping.expect("it runs").next;
    let ended = stopping.on(failed).expect("the lease is live").next;
    assert_eq!(ended.state, State::Failed, "the record tells the truth");
}

fn any_event() -> impl Strategy<Value = Event> {
    (1..4_i64).prop_flat_map(|epoch| proptest::sample::select(events(lease(epoch))))
}

proptest! {
    #[test]
    fn invariants_hold_for_every_sequence(sequence in proptest::collection::vec(any_event(), 0..60)) {
        let mut life = Lifecycle::default();
        for event in sequence {
            let before = life;
            if let Ok(transition) = life.on(event) {
                life = transition.next;
            }
            prop_assert_eq!(life.lease.is_some(), life.state.is_leased());
            prop_assert!(life.last_epoch >= before.last_epoch);
            prop_assert!(life.stop >= before.stop);
            if before.stop.is_some() {
                prop_assert_eq!(life.cause, before.cause);
                prop_assert!(life.state != State::Queued, "what is to end does not begin anew");
            }
            if life.lease == before.lease && !life.state.is_terminal() {
                prop_assert!(life.pause.sequence >= before.pause.sequence);
            }
            prop_assert!(!life.pause.paused || !life.state.is_terminal());
            if before.state.is_terminal() {
                prop_assert_eq!(life, before);
            }
            if let Some(lease) = life.lease {
                prop_assert_eq!(lease.epoch, life.last_epoch);
            }
            let again = life.on(event);
            if let Ok(again) = again && matches!(event, Event::Report(..) | Event::Cancel(_)) {
                prop_assert_eq!(again.next, life, "a repeat changes nothing");
                prop_assert!(again.effects.is_empty());
            }
        }
    }
}
