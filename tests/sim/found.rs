//! Failures that the simulation has found, each with its shortest operations: what is mended stays
//! here so that it does not come back.

use crate::{
    case,
    database::Template,
    op::{End, Loss, Op},
    scenario::play,
};

#[test]
fn a_wish_to_pause_does_not_outlive_the_steps() {
    // The wish comes when the steps are over. The agent loses its pods and makes the attempt anew,
    // is told to pause it, and nobody can let it go on: an execution that is finishing can not be
    // resumed.
    let walk = Op::Walk {
        agent: 1,
        pod: 0,
        end: End::Passed,
    };
    let ops = [
        Op::Time(1),
        Op::Submit {
            request: Some(0),
            loss: Loss::Nothing,
        },
        Op::Time(1),
        walk,
        Op::Pause(0),
        walk,
        Op::Exchange(1),
        Op::Restart {
            agent: 1,
            forgets: true,
        },
        Op::Time(1),
    ];
    let (after, _) = play(&ops);
    assert!(
        !after.pause_wanted,
        "it is {} and to be paused",
        after.state
    );
}

#[test]
fn a_lost_attempt_ends_no_log_of_an_execution_that_waits_again() {
    let away = |agent| Op::Network {
        agent,
        up: false,
        down: false,
    };
    let ops = [
        Op::Time(1),
        Op::Submit {
            request: Some(0),
            loss: Loss::Nothing,
        },
        Op::Time(1),
        away(0),
        away(1),
        Op::Time(9),
    ];
    let (after, _) = play(&ops);
    let kinds: Vec<&str> = after.events.iter().map(|(_, kind)| kind.as_str()).collect();
    // The other agent may have it by now: its connection counts as open until it was silent for
    // too long.
    let lost = ["QUEUED", "ASSIGNED", "PREPARING", "ATTEMPT_LOST", "QUEUED"];
    assert!(kinds.starts_with(&lost), "{kinds:?}");
}

#[test]
fn who_learns_at_the_end_that_another_process_has_its_place_is_started_anew() {
    // A twin is cut off while the other process comes back and takes its place: the model let that one go
    // at the end, and nobody was left for the agent.
    let ops = [
        Op::Twin(1),
        Op::Time(5),
        Op::Network {
            agent: 2,
            up: false,
            down: false,
        },
        Op::Restart {
            agent: 1,
            forgets: false,
        },
        Op::Time(4),
        Op::Fill,
    ];
    let template = Template::sqlite().expect("a database");
    let played = case::run(&template, &ops);
    assert!(played.is_ok(), "agents get what they can take");
}

#[test]
fn a_pod_that_was_found_and_vanishes_before_anything_is_told_of_it_is_gone() {
    // A second process finds the pod of an agent whose words do not arrive, and then the pod is gone:
    // the model waited for its first snapshot for ever, as the daemon does not.
    let silent = Op::Network {
        agent: 0,
        up: false,
        down: true,
    };
    let restart = |agent, forgets| Op::Restart { agent, forgets };
    let ops = [
        Op::Time(1),
        silent,
        Op::Break(1),
        Op::Submit {
            request: Some(6),
            loss: Loss::Nothing,
        },
        Op::Twin(0),
        Op::Exchange(0),
        restart(2, false),
        restart(0, true),
    ];
    let (_, end) = play(&ops);
    let reasons: Vec<&str> = end.attempts.iter().map(|it| it.reason.as_str()).collect();
    assert_eq!(reasons.first(), Some(&"POD_GONE"), "{reasons:?}");
}
