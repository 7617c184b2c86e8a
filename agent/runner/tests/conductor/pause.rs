//! Pauses: nothing of a step goes on, no time passes for it, and what ends it still ends it.

use std::{fs, path::Path, time::Duration};

use muster_proto::runner::v1::{
    Outcome, Pause, Phase, StepState,
    StepState::{Canceled, Passed, Paused, Running},
    agent_message::Message,
};

use crate::{
    agent::Heard,
    plan::{Changed as _, group, plan, shell, step},
    run::Run,
};

/// Long enough for a loop with pauses of 20 ms to show that it still runs.
const WHILE: Duration = Duration::from_millis(600);

fn pause(run: &Run, sequence: u64, paused: bool) {
    run.agent.order(Message::Pause(Pause { sequence, paused }));
}

/// Whether a step was heard of and is there.
fn is(heard: &Heard, step: &str, state: StepState) -> bool {
    let mut steps = heard.progress.steps.iter();
    steps.any(|status| status.reference == step && status.state() == state)
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

#[tokio::test]
async fn a_pause_stops_the_whole_tree_and_the_clock_of_its_timeout() {
    let script = "
        tick() { until [ -e /data/stop ]; do echo x >> $1; sleep 0.02; done; }
        tick /data/first &
        (setsid sh -c 'until [ -e /data/stop ]; do echo x >> /data/second; sleep 0.02; done' &)
        sleep 2.5
        touch /data/stop; wait; echo done";
    let steps = vec![group("s1", vec![shell("s1.1", script).timeout("4s")])];
    let mut run = Run::start(&plan(steps));
    let files = [run.path("data/first"), run.path("data/second")];
    while files.iter().any(|file| length(file) < 10) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    pause(&run, 1, true);
    run.agent
        .until("the pause", |heard| heard.progress.phase() == Phase::Paused)
        .await;
    for step in ["s1", "s1.1"] {
        assert_eq!(run.agent.heard().step(step).state(), Paused);
    }
    // What was on its way when the signal came is over now.
    tokio::time::sleep(WHILE).await;
    let before = files.each_ref().map(|file| length(file));
    // Longer than the timeout, together with what the script sleeps.
    tokio::time::sleep(WHILE * 5).await;
    let after = files.each_ref().map(|file| length(file));
    assert_eq!(before, after, "something still runs");
    // An order that was heard before changes nothing.
    pause(&run, 1, false);
    pause(&run, 2, false);
    run.agent
        .until("it goes on", |heard| {
            is(heard, "s1.1", Running) || heard.completed.is_some()
        })
        .await;
    run.ends_as(Outcome::Passed).await;
    let heard = run.agent.heard();
    for step in ["s1", "s1.1"] {
        let status = heard.step(step);
        assert_eq!(status.state(), Passed, "{status:?}");
        assert!(status.paused_ms >= 3000, "{status:?}");
    }
    assert_eq!(heard.output("s1.1"), "done\n");
}

#[tokio::test]
async fn a_step_that_begins_paused_waits_and_takes_no_slot() {
    let steps = vec![
        shell("s1", "echo one"),
        shell("s2", "echo two").with(|step| step.paused = true),
        shell("s3", "echo three").with(|step| step.paused = true),
    ];
    let mut run = Run::start(&plan(steps));
    for (sequence, step) in [(1, "s2"), (2, "s3")] {
        run.agent
            .until("it waits", |heard| {
                is(heard, step, Paused)
                    && heard.progress.phase() == Phase::Paused
                    && heard.progress.waiting
            })
            .await;
        assert_eq!(run.agent.heard().output(step), "");
        pause(&run, sequence, false);
    }
    run.ends_as(Outcome::Passed).await;
    assert!(
        run.agent
            .heard()
            .remarks()
            .contains("muster resume EXECUTION")
    );
    assert_eq!(run.agent.heard().output("s3"), "three\n");
}

#[tokio::test]
async fn a_paused_run_can_be_ended_and_its_after_steps_run() {
    for paused in [true, false] {
        let script = match paused {
            true => "echo begun; sleep 600",
            false => "echo never",
        };
        let first = shell("s1", script).with(|step| step.paused = !paused);
        let mut run = Run::start(&plan(vec![first, shell("s2", "echo after").after()]));
        if paused {
            run.prints("s1", "begun").await;
            pause(&run, 1, true);
        }
        run.agent
            .until("the pause", |heard| heard.progress.phase() == Phase::Paused)
            .await;
        run.agent.cancel(false);
        run.ends_as(Outcome::Canceled).await;
        run.expect("s1", Canceled, "CANCELED");
        assert_eq!(run.agent.heard().output("s2"), "after\n");
    }
}

#[tokio::test]
async fn nothing_begins_during_a_pause() {
    let delay = muster_spec::plan::Operation::Delay {
        duration: "300ms".to_owned(),
    };
    let steps = vec![
        shell("s0", "echo begun"),
        step("s1", vec![delay]),
        shell("s2", "echo two"),
    ];
    let mut run = Run::start(&plan(steps));
    run.agent
        .until("it waits", |heard| is(heard, "s1", Running))
        .await;
    pause(&run, 1, true);
    run.agent
        .until("the pause", |heard| is(heard, "s1", Paused))
        .await;
    tokio::time::sleep(WHILE).await;
    assert_eq!(run.agent.heard().step("s1").state(), Paused);
    pause(&run, 2, false);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.agent.heard().output("s2"), "two\n");
}
