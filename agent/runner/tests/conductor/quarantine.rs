//! Failures that are forgiven: who is asked for a verdict, when, and what comes of it.

use muster_proto::runner::v1::{
    Outcome,
    StepState::{Failed, Passed, Skipped},
    VerdictGiven, VerdictWish,
};
use muster_spec::plan::Step;

use crate::{
    agent::{Heard, Manner},
    plan::{Changed as _, group, keep, plan, script_in, shell, step},
    run::Run,
};

const WORDS: &str = "1 quarantined test failed";

fn open() -> VerdictGiven {
    VerdictGiven {
        open: true,
        ..VerdictGiven::default()
    }
}

fn forgives(wish: &VerdictWish) -> VerdictGiven {
    match wish.ahead {
        true => open(),
        false => VerdictGiven {
            forgiven: true,
            message: WORDS.to_owned(),
            ..VerdictGiven::default()
        },
    }
}

/// As the server does, should there be but one report.
fn forgives_what_is_new(wish: &VerdictWish) -> VerdictGiven {
    match wish.stale.is_empty() {
        true => forgives(wish),
        false => VerdictGiven {
            message: "it is old".to_owned(),
            ..VerdictGiven::default()
        },
    }
}

fn knows_no_quarantine(_wish: &VerdictWish) -> VerdictGiven {
    VerdictGiven::default()
}

fn manner(judge: fn(&VerdictWish) -> VerdictGiven) -> Manner {
    Manner {
        judge: Some(judge),
        ..Manner::default()
    }
}

/// A step that leaves a report and ends in this way.
fn test(script: &str) -> Step {
    let script = format!("mkdir -p out; echo report > out/r.xml; {script}");
    shell("s1", &script).and(keep(Some(0), "out", &["*"]))
}

/// Runs these steps to this end; returns what was asked and remarked.
async fn run(steps: Vec<Step>, manner: Manner, ends: Outcome) -> Run {
    let mut run = Run::with(&plan(steps), manner, &[]);
    run.ends_as(ends).await;
    run
}

#[tokio::test]
async fn a_step_that_is_forgiven_passes_and_later_ones_run() {
    let steps = vec![
        test("exit 3").id("test"),
        shell(
            "s2",
            "test '{{ step.test.status }}-{{ step.test.exitCode }}' = passed-3",
        ),
    ];
    let run = run(steps, manner(forgives), Outcome::Passed).await;
    run.expect("s1", Passed, "QUARANTINED");
    run.expect("s2", Passed, "");
    let heard = run.agent.heard();
    let status = heard.step("s1");
    assert_eq!(
        (status.message.as_str(), status.exit_code),
        (WORDS, Some(3))
    );
    assert!(heard.remarks().contains(WORDS), "{}", heard.remarks());
    assert_eq!(heard.artifact_connections, 1, "collected once");
    let asked: Vec<_> = heard
        .verdicts
        .iter()
        .map(|wish| (wish.step.as_str(), wish.ahead, wish.stale.len()))
        .collect();
    assert_eq!(asked, [("s1", true, 0), ("s1", false, 0)]);
}

#[tokio::test]
async fn what_is_not_forgiven_fails_as_ever_and_is_collected_once() {
    fn refuses(wish: &VerdictWish) -> VerdictGiven {
        VerdictGiven {
            open: wish.ahead,
            message: match wish.ahead {
                true => String::new(),
                false => "2 tests failed beside".to_owned(),
            },
            ..VerdictGiven::default()
        }
    }
    let steps = vec![test("exit 1"), shell("s2", "true")];
    let run = run(steps, manner(refuses), Outcome::Failed).await;
    run.expect("s1", Failed, "EXIT_CODE");
    run.expect("s2", Skipped, "CONDITION");
    let heard = run.agent.heard();
    assert!(
        heard
            .remarks()
            .contains("its failure counts: 2 tests failed beside")
    );
    assert_eq!(heard.artifact_connections, 1);
}

#[tokio::test]
async fn where_nothing_is_in_quarantine_all_is_as_ever() {
    let run = run(
        vec![test("exit 1")],
        manner(knows_no_quarantine),
        Outcome::Failed,
    )
    .await;
    run.expect("s1", Failed, "EXIT_CODE");
    let heard = run.agent.heard();
    assert_eq!((heard.verdicts.len(), heard.artifacts.len()), (1, 1));
    assert!(!heard.remarks().contains("counts"), "{}", heard.remarks());
}

#[tokio::test]
async fn only_a_tool_that_ended_by_itself_is_judged() {
    let endings = [
        // By a signal, and by a shell's word for one, for a program that is not there or can not be run.
        (test("kill -9 $$"), "SIGNAL"),
        (test("sh -c 'kill -9 $$'; exit $?"), "EXIT_CODE"),
        (test("exit 127"), "EXIT_CODE"),
        (test("exit 126"), "EXIT_CODE"),
        // Without artifacts, or in a group around it.
        (shell("s1", "exit 1"), "EXIT_CODE"),
        // There was more to do.
        (
            step("s1", vec![script_in(0, "exit 1"), script_in(0, "true")]).and(keep(
                Some(0),
                "out",
                &["*"],
            )),
            "EXIT_CODE",
        ),
    ];
    for (step, reason) in endings {
        let run = run(vec![step], manner(forgives), Outcome::Failed).await;
        run.expect("s1", Failed, reason);
        assert_eq!(run.agent.heard().verdicts, [], "{reason}");
    }
    let late = test("sleep 60; exit 1").timeout("1s");
    let run = run(vec![late], manner(forgives), Outcome::Failed).await;
    assert_eq!(run.agent.heard().verdicts, []);
}

#[tokio::test]
async fn a_group_is_not_judged_by_what_it_collects() {
    let outer = group(
        "s1",
        vec![shell("s1.1", "mkdir -p out; echo > out/r.xml; exit 1")],
    )
    .and(keep(Some(0), "out", &["*"]));
    let run = run(vec![outer], manner(forgives), Outcome::Failed).await;
    assert_eq!(run.agent.heard().verdicts, []);
}

#[tokio::test]
async fn an_agent_of_the_release_before_is_not_asked() {
    let run = run(vec![test("exit 1")], Manner::default(), Outcome::Failed).await;
    run.expect("s1", Failed, "EXIT_CODE");
    assert_eq!(run.agent.heard().artifacts.len(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again() {
    let manner = Manner {
        verdict_cuts: 2,
        ..manner(forgives)
    };
    let run = run(vec![test("exit 1")], manner, Outcome::Passed).await;
    assert_eq!(run.agent.heard().verdicts.len(), 2);
}

#[tokio::test]
async fn what_is_forgiven_is_not_tried_again() {
    let steps = vec![test("exit 1").retry(3, "passed")];
    let run = run(steps, manner(forgives), Outcome::Passed).await;
    assert_eq!(run.agent.heard().step("s1").tries, 1);
}

/// The first try fails for another reason; the others leave no report of their own.
fn refuses_first(wish: &VerdictWish) -> VerdictGiven {
    match wish.ahead {
        true => open(),
        false if wish.stale.is_empty() => VerdictGiven::default(),
        false => forgives_what_is_new(wish),
    }
}

/// Old files that were told, by verdict.
fn told_stale(heard: &Heard) -> Vec<Vec<String>> {
    let told = heard.verdicts.iter().filter(|wish| !wish.ahead);
    told.map(|wish| wish.stale.clone()).collect()
}

#[tokio::test]
async fn a_report_of_an_earlier_try_is_told_to_be_old() {
    let script = "test -e out || { mkdir out; echo report > out/r.xml; sleep 0.1; }; exit 1";
    let steps = vec![
        shell("s1", script)
            .and(keep(Some(0), "out", &["*"]))
            .retry(1, "passed"),
    ];
    let run = run(steps, manner(refuses_first), Outcome::Failed).await;
    let heard = run.agent.heard();
    assert_eq!(told_stale(&heard), [vec![], vec!["r.xml".to_owned()]]);
    assert_eq!(heard.step("s1").tries, 2);
    assert!(heard.remarks().contains("it is old"), "{}", heard.remarks());
}

#[tokio::test]
async fn a_report_of_an_earlier_try_that_is_gone_is_told_to_be_old() {
    let script = "if test -e out/r.xml; then rm out/r.xml; echo log > out/other; exit 1; fi
        mkdir out; echo report > out/r.xml; exit 1";
    let steps = vec![
        shell("s1", script)
            .and(keep(Some(0), "out", &["*"]))
            .retry(1, "passed"),
    ];
    let run = run(steps, manner(refuses_first), Outcome::Failed).await;
    let heard = run.agent.heard();
    assert_eq!(told_stale(&heard), [vec![], vec!["r.xml".to_owned()]]);
}

#[tokio::test]
async fn a_file_that_was_there_before_the_step_is_told_to_be_old() {
    let before = shell("s0", "mkdir -p out; echo report > out/r.xml; sleep 0.1");
    let crashed = shell("s1", "exit 1").and(keep(Some(0), "out", &["*"]));
    let run = run(
        vec![before, crashed],
        manner(forgives_what_is_new),
        Outcome::Failed,
    )
    .await;
    run.expect("s1", Failed, "EXIT_CODE");
}

#[tokio::test]
async fn artifacts_that_are_not_all_there_forgive_nothing() {
    let steps = vec![test("ln -s /nowhere out/other.xml; exit 1")];
    let run = run(steps, manner(forgives), Outcome::Failed).await;
    let remarks = run.agent.heard().remarks();
    assert!(remarks.contains("not all of its artifacts"), "{remarks}");
}

#[tokio::test]
async fn a_negative_step_is_not_judged_and_an_optional_one_is() {
    let negative = test("exit 1").negative();
    let run_negative = run(vec![negative], manner(forgives), Outcome::Passed).await;
    run_negative.expect("s1", Passed, "");
    assert_eq!(run_negative.agent.heard().verdicts, []);
    let optional = run(
        vec![test("exit 1").optional()],
        manner(forgives),
        Outcome::Passed,
    )
    .await;
    optional.expect("s1", Passed, "QUARANTINED");
}
