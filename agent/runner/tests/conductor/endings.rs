//! How processes and runs end: by themselves, by force, and by accident.

use std::time::{Duration, Instant};

use muster_proto::runner::v1::{
    ContainerStatus, Outcome,
    StepState::{Canceled, Failed, Passed, TimedOut},
    agent_message::Message,
};
use muster_spec::plan::Step;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    agent::{Heard, Manner},
    plan::{Changed as _, exec, group, keep, plan, script_in, shell, step},
    run::{Run, below, runs},
};

#[tokio::test]
async fn missing_programs_are_named_with_the_cure() {
    let steps = vec![
        exec("s1", &["no-such-program"]).optional(),
        exec("s2", &["/data/script"]).optional(),
        shell(
            "s3",
            "printf '#!/no/such/shell\\n' > /data/script; chmod +x /data/script",
        ),
        exec("s4", &["/data/script"]).optional(),
        exec("s5", &["/etc/passwd"]).optional(),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    for (step, reason, words) in [
        ("s1", "NOT_FOUND", "no-such-program"),
        ("s2", "NOT_FOUND", "/data/script"),
        ("s4", "NOT_FOUND", "/no/such/shell"),
        ("s5", "NOT_EXECUTABLE", "/etc/passwd"),
    ] {
        run.expect(step, Failed, reason);
        assert!(run.message(step).contains(words), "{}", run.message(step));
    }
}

#[tokio::test]
async fn signal_that_ended_a_process_is_named() {
    let steps = vec![
        shell("s1", "kill -SEGV $$").optional(),
        shell("s2", "kill -KILL $$").optional(),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    run.expect("s1", Failed, "SIGNAL");
    assert!(
        run.message("s1").contains("SIGSEGV"),
        "{}",
        run.message("s1")
    );
    assert!(
        run.message("s2").contains("SIGKILL"),
        "{}",
        run.message("s2")
    );
}

#[tokio::test]
async fn timeout_ends_the_whole_tree_also_when_it_ignores_signals() {
    let script = "trap '' TERM
        setsid sh -c \"trap '' TERM; sleep 31415\" &
        (sleep 31415 &) ; sleep 31415";
    let steps = vec![
        shell("s1", script).timeout("500ms"),
        shell("s2", "pgrep -f '[s]leep 31415' && exit 1; echo none left").after(),
    ];
    let begun = Instant::now();
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Failed).await;
    run.expect("s1", TimedOut, "TIMEOUT");
    assert!(run.message("s1").contains("500ms"), "{}", run.message("s1"));
    run.passed("s2");
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(!runs("sleep 31415"));
}

#[tokio::test]
async fn process_that_heeds_sigterm_can_say_a_last_word() {
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let mut run = Run::start(&plan(vec![shell("s1", script).timeout("1s")]));
    run.ends_as(Outcome::Failed).await;
    run.expect("s1", TimedOut, "TIMEOUT");
    // Its `sleep` gets the signal too, and the shell may say so.
    let output = run.output("s1");
    assert!(
        output.starts_with("ready\n") && output.contains("bye\n"),
        "{output}"
    );
    assert_eq!(run.agent.heard().step("s1").exit_code, Some(7));
}

#[tokio::test]
async fn background_process_that_keeps_the_pipes_open_does_not_hang_the_step() {
    let steps = vec![
        shell(
            "s1",
            "sleep 27182 & nohup sleep 27182 >/dev/null 2>&1 & echo done",
        ),
        shell("s2", "pgrep -f '[s]leep 27182' && exit 1; echo none left"),
    ];
    let begun = Instant::now();
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(run.output("s1"), "done\n");
    assert!(!runs("sleep 27182"));
}

#[tokio::test]
async fn last_words_of_a_process_that_outlives_the_script_a_little_are_kept() {
    let script = "exec > >(sleep 0.05; cat); echo through a filter";
    let mut run = Run::start(&plan(vec![shell("s1", script)]));
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s1"), "through a filter\n");
}

#[tokio::test]
async fn orphans_are_reaped() {
    let script = "for i in $(seq 50); do (sleep 0.01 &); done; sleep 0.5
        grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
    let mut run = Run::start(&plan(vec![shell("s1", script)]));
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s1"), "0\n");
}

#[tokio::test]
async fn orderly_cancel_ends_the_step_and_runs_after_and_artifacts() {
    let running = shell("s2", "echo kept > /data/kept; echo ready; sleep 100").and(keep(
        Some(0),
        "/data",
        &["kept"],
    ));
    let steps = vec![
        shell("s1", "true"),
        group("s0", vec![running]),
        shell("s3", "echo never"),
        step("s4", vec![keep(Some(0), "/data", &["k*t"])]).when("always"),
        shell("s5", "echo after; echo more > /data/more")
            .after()
            .and(keep(Some(0), "/data", &["more"])),
        shell("s6", "echo never").after().when("passed"),
    ];
    let mut run = Run::start(&plan(steps));
    run.prints("s2", "ready").await;
    run.agent.cancel(false);
    run.ends_as(Outcome::Canceled).await;
    run.expect("s2", Canceled, "CANCELED");
    run.expect("s0", Canceled, "CANCELED");
    run.expect("s3", Canceled, "CANCELED");
    run.passed("s5");
    assert_ne!(run.agent.heard().step("s6").state(), Passed);
    assert_eq!(run.output("s5"), "after\n");
    let heard = run.agent.heard();
    assert_eq!(heard.artifacts.keys().collect::<Vec<_>>(), ["kept", "more"]);
    assert_eq!(heard.completed.as_ref().unwrap().message, "enough");
}

#[tokio::test]
async fn forced_cancel_ends_everything_at_once() {
    let steps = vec![
        shell("s1", "trap '' TERM; echo ready; sleep 16180"),
        shell("s2", "echo never").after(),
    ];
    let mut run = Run::with(&plan(steps), Manner::default(), &["--grace", "60s"]);
    run.prints("s1", "ready").await;
    let begun = Instant::now();
    run.agent.cancel(true);
    run.ends_as(Outcome::Canceled).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    run.expect("s1", Canceled, "CANCELED");
    run.expect("s2", Canceled, "CANCELED");
    assert!(!runs("sleep 16180"));
}

#[tokio::test]
async fn forced_cancel_after_an_orderly_one_does_not_wait_for_the_grace() {
    let steps = vec![
        shell("s1", "trap '' TERM; echo ready; sleep 100"),
        shell("s2", "echo never").after(),
    ];
    let mut run = Run::with(&plan(steps), Manner::default(), &["--grace", "60s"]);
    run.prints("s1", "ready").await;
    run.agent.cancel(false);
    tokio::time::sleep(Duration::from_millis(300)).await;
    run.agent.cancel(true);
    run.ends_as(Outcome::Canceled).await;
    assert_eq!(run.output("s2"), "");
}

#[tokio::test]
async fn after_steps_that_take_too_long_after_a_cancel_are_ended() {
    let steps = vec![
        shell("s1", "echo ready; sleep 100"),
        shell("s2", "echo begun; sleep 100").after(),
    ];
    let mut run = Run::with(&plan(steps), Manner::default(), &["--after-grace", "2s"]);
    run.prints("s1", "ready").await;
    run.agent.cancel(false);
    run.ends_as(Outcome::Canceled).await;
    run.expect("s2", Canceled, "CANCELED");
    assert_eq!(run.output("s2"), "begun\n");
}

#[tokio::test]
async fn refused_attempt_leaves_nothing_running() {
    let steps = vec![
        shell("s1", "trap '' TERM; echo ready; sleep 14142"),
        shell("s2", "echo never").after(),
    ];
    let mut run = Run::start(&plan(steps));
    run.prints("s1", "ready").await;
    let pid = run.pid();
    run.agent.refuse();
    assert!(!run.exit().await.success());
    assert!(below(pid).is_empty());
    assert!(!runs("sleep 14142"));
    assert!(run.agent.heard().completed.is_none());
}

#[tokio::test]
async fn killed_shim_is_a_lost_container_and_after_still_runs() {
    let steps = vec![
        shell("s1", "echo ready; sleep 100"),
        shell("s2", "echo never").when("always"),
        step("s3", vec![script_in(1, "echo after > /data/after")])
            .after()
            .and(keep(Some(0), "/data", &["after"])),
    ];
    let mut run = Run::start(&plan(steps));
    run.prints("s1", "ready").await;
    let all = below(run.pid());
    let shim = all
        .iter()
        .filter(|one| one.command.contains("--container c0") && !one.command.contains("sandbox"))
        .max_by_key(|one| one.pid);
    let shim = shim.unwrap_or_else(|| panic!("no shim in {all:?}"));
    kill_process(Pid::from_raw(shim.pid).unwrap(), Signal::KILL).unwrap();
    run.ends_as(Outcome::Failed).await;
    run.expect("s1", Failed, "CONTAINER_LOST");
    run.expect("s2", Failed, "CONTAINER_LOST");
    run.passed("s3");
    // Its own container is gone: the conductor itself takes it from the shared volume.
    assert_eq!(run.agent.heard().artifacts["after"], b"after\n");
}

fn status(container: &str, reason: &str, message: &str, code: Option<i32>) -> Message {
    Message::Container(ContainerStatus {
        container: container.to_owned(),
        terminal: true,
        reason: reason.to_owned(),
        message: message.to_owned(),
        exit_code: code,
    })
}

#[tokio::test]
async fn image_that_can_not_be_pulled_fails_its_step_in_the_clusters_words() {
    let steps = vec![
        shell("s1", "echo fine"),
        step("s2", vec![script_in(1, "echo never")]),
        shell("s3", "echo never"),
        shell("s4", "echo after").after(),
    ];
    let mut run = Run::in_pod(&plan(steps), Manner::default(), &["c0"]);
    run.prints("s1", "fine").await;
    let words = "Back-off pulling image \"none:1\": not found";
    run.agent
        .order(status("c1", "ImagePullBackOff", words, None));
    run.ends_as(Outcome::Failed).await;
    run.expect("s2", Failed, "IMAGE_PULL");
    assert!(run.message("s2").contains(words), "{}", run.message("s2"));
    run.passed("s4");
}

#[tokio::test]
async fn container_killed_for_memory_is_named_with_its_limit() {
    let mut plan = plan(vec![
        shell("s1", "echo ready; sleep 100"),
        shell("s2", "echo never").when("always"),
        step("s3", vec![script_in(1, "echo after")]).after(),
    ]);
    let limits = &mut plan.containers[0].resources.limits;
    limits.insert("memory".to_owned(), "48Mi".to_owned());
    let mut run = Run::in_pod(&plan, Manner::default(), &["c0", "c1"]);
    run.prints("s1", "ready").await;
    run.shims[0].kill().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    run.agent.order(status("c0", "OOMKilled", "", Some(137)));
    run.ends_as(Outcome::Failed).await;
    for step in ["s1", "s2"] {
        run.expect(step, Failed, "OUT_OF_MEMORY");
        assert!(run.message(step).contains("48Mi"), "{}", run.message(step));
    }
    run.passed("s3");
}

#[tokio::test]
async fn lost_container_without_an_explanation_is_told_after_a_while() {
    let steps = vec![
        shell("s1", "echo ready; sleep 100"),
        step("s2", vec![script_in(1, "echo after")]).after(),
    ];
    let mut run = Run::in_pod(&plan(steps), Manner::default(), &["c0", "c1"]);
    run.prints("s1", "ready").await;
    run.shims[0].kill().await.unwrap();
    run.ends_as(Outcome::Failed).await;
    run.expect("s1", Failed, "CONTAINER_LOST");
    run.passed("s2");
}

#[tokio::test]
async fn cancel_ends_the_wait_for_a_container_that_does_not_come() {
    let steps = vec![
        shell("s1", "echo fine"),
        step("s2", vec![script_in(1, "echo never")]),
        shell("s3", "echo after").after(),
    ];
    let mut run = Run::in_pod(&plan(steps), Manner::default(), &["c0"]);
    run.prints("s1", "fine").await;
    run.agent.cancel(false);
    run.ends_as(Outcome::Canceled).await;
    assert_eq!(run.output("s3"), "after\n");
}

#[tokio::test]
async fn sigterm_to_the_conductor_is_a_cancel_by_the_infrastructure() {
    let steps = vec![
        shell("s1", "echo ready; sleep 100"),
        shell("s2", "echo after").after(),
    ];
    let mut run = Run::start(&plan(steps));
    run.prints("s1", "ready").await;
    kill_process(Pid::from_raw(run.pid()).unwrap(), Signal::TERM).unwrap();
    run.ends_as(Outcome::Aborted).await;
    assert_eq!(run.output("s2"), "after\n");
}

#[tokio::test]
async fn what_a_container_that_is_stopped_from_outside_comes_to_is_no_result_of_the_test() {
    // Containers of a pod hear of its end one after the other, and the conductor may be the last one.
    for script in [
        "kill -TERM $PPID; sleep 100",
        "trap 'exit 0' TERM; kill -TERM $PPID; sleep 100 & wait",
        "trap 'exit 3' TERM; kill -TERM $PPID; sleep 100 & wait",
    ] {
        let mut run = Run::start(&plan(vec![shell("s1", script), shell("s2", "echo never")]));
        run.ends_as(Outcome::Aborted).await;
        assert_eq!(run.output("s2"), "", "{script}");
    }
}

/// Starts a plan and waits until its artifacts can not be sent; lets them go when the conductor was
/// told to end.
async fn ended_while_it_keeps(steps: Vec<Step>) -> Run {
    let manner = Manner {
        artifact_cuts: u32::MAX,
        ..Manner::default()
    };
    let run = Run::with(&plan(steps), manner, &[]);
    let held = |heard: &Heard| heard.remarks().contains("trying again");
    run.agent.until("artifacts that wait", held).await;
    kill_process(Pid::from_raw(run.pid()).unwrap(), Signal::TERM).unwrap();
    run.agent.manner().artifact_cuts = 0;
    run
}

#[tokio::test]
async fn sigterm_while_artifacts_of_the_last_step_are_on_their_way_changes_nothing() {
    let kept = shell("s1", "mkdir out; echo kept > out/kept");
    let mut run = ended_while_it_keeps(vec![kept.and(keep(Some(0), "out", &["*"]))]).await;
    run.ends_as(Outcome::Passed).await;
    run.passed("s1");
    assert_eq!(run.agent.heard().artifacts["kept"], b"kept\n");
}

#[tokio::test]
async fn sigterm_before_a_step_that_would_follow_is_never_a_pass() {
    let kept = shell("s1", "mkdir out; echo kept > out/kept");
    let steps = vec![
        kept.and(keep(Some(0), "out", &["*"])),
        shell("s2", "echo never").optional(),
    ];
    let mut run = ended_while_it_keeps(steps).await;
    run.ends_as(Outcome::Aborted).await;
    assert_eq!(run.output("s2"), "");
    assert_eq!(run.agent.heard().artifacts["kept"], b"kept\n");
}

#[tokio::test]
async fn nothing_outlives_a_killed_conductor() {
    for options in [&[][..], &["--no-namespaces"]] {
        let script = "trap '' TERM; (setsid sleep 17320 &); echo ready; sleep 17320";
        let mut run = Run::with(&plan(vec![shell("s1", script)]), Manner::default(), options);
        run.prints("s1", "ready").await;
        kill_process(Pid::from_raw(run.pid()).unwrap(), Signal::KILL).unwrap();
        run.exit().await;
        let end = Instant::now() + Duration::from_secs(10);
        while runs("sleep 17320") {
            assert!(Instant::now() < end, "something lives with {options:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
