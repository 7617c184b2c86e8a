//! Which steps run, in which order, and what they come to.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use muster_proto::runner::v1::{
    ImageConfig, Outcome,
    StepState::{Failed, Passed, Skipped, TimedOut},
};
use muster_spec::plan::{Command, File, Operation, Step};

use crate::{
    agent::Manner,
    plan::{Changed as _, exec, files, group, plan, process, script_in, shell, step, variable},
    run::Run,
};

#[tokio::test]
async fn steps_run_in_order_and_each_kind_of_outcome_counts_as_the_language_says() {
    let steps = vec![
        shell("s1", "echo one; echo two >&2"),
        shell("s2", "echo before; exit 3").optional(),
        shell("s3", "exit 4").negative(),
        shell("s4", "echo never").when("failed"),
        shell("s5", "false; echo never"),
        shell("s6", "echo never"),
        shell("s7", "echo cleaned").when("failed"),
        shell("s8", "echo after").after(),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Failed).await;
    run.passed("s1");
    run.expect("s2", Failed, "EXIT_CODE");
    run.passed("s3");
    run.expect("s4", Skipped, "CONDITION");
    run.expect("s5", Failed, "EXIT_CODE");
    run.expect("s6", Skipped, "CONDITION");
    run.passed("s7");
    run.passed("s8");
    assert_eq!(run.agent.heard().step("s2").exit_code, Some(3));
    assert_eq!(run.output("s5"), "");
    assert_eq!(run.output("s8"), "after\n");
    let mut lines: Vec<_> = run.output("s1").lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    let heard = run.agent.heard();
    let completed = heard.completed.as_ref().unwrap();
    assert_eq!(completed.reason, "STEP_FAILED");
    assert!(completed.message.contains("step s5"), "{completed:?}");
}

#[tokio::test]
async fn negative_step_that_passes_fails() {
    let mut run = Run::start(&plan(vec![shell("s1", "true").negative()]));
    run.ends_as(Outcome::Failed).await;
    run.expect("s1", Failed, "NEGATIVE");
}

#[tokio::test]
async fn negative_does_not_turn_a_missing_program_into_a_pass() {
    let steps = vec![exec("s1", &["no-such-program"]).negative()];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Failed).await;
    run.expect("s1", Failed, "NOT_FOUND");
}

#[tokio::test]
async fn step_is_tried_until_its_condition_holds() {
    let count = "echo x >> /data/tries; test $(wc -l < /data/tries) -ge 3";
    let steps = vec![
        shell("s1", count).retry(5, "passed"),
        shell("s2", "echo try; exit 1")
            .retry(2, "self.passed")
            .optional(),
        shell("s3", "echo try; true").retry(2, "failed"),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    for (step, state, tries) in [("s1", Passed, 3), ("s2", Failed, 3), ("s3", Passed, 3)] {
        let heard = run.agent.heard();
        let status = heard.step(step);
        assert_eq!((status.state(), status.tries), (state, tries), "{status:?}");
    }
    assert_eq!(run.output("s2"), "try\ntry\ntry\n");
}

#[tokio::test]
async fn nested_steps_have_a_scope_of_their_own() {
    let inner = vec![
        shell("s2.1", "exit 1").optional(),
        shell("s2.2", "echo runs"),
        shell("s2.3", "exit 5"),
        shell("s2.4", "echo never"),
        shell("s2.5", "echo always").when("always"),
    ];
    let steps = vec![
        shell("s1", "exit 1"),
        group("s2", inner).when("always"),
        group("s3", vec![shell("s3.1", "echo never")]),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Failed).await;
    run.expect("s2", Failed, "STEP_FAILED");
    run.passed("s2.2");
    run.expect("s2.4", Skipped, "CONDITION");
    run.passed("s2.5");
    run.expect("s3", Skipped, "CONDITION");
    run.expect("s3.1", Skipped, "CONDITION");
}

#[tokio::test]
async fn operations_of_a_step_run_in_order_until_one_fails() {
    let inner = vec![shell("s1.1", "cat /data/input")];
    let operations = vec![
        Operation::Delay {
            duration: "50ms".to_owned(),
        },
        files("/data/input", "written"),
        script_in(0, "echo -n ', read' >> /data/input"),
        Operation::Steps { steps: inner },
    ];
    let failing = vec![script_in(0, "exit 1"), script_in(0, "touch /data/never")];
    let steps = vec![
        step("s1", operations),
        step("s2", failing).optional(),
        shell("s3", "test ! -e /data/never; stat -c %a /data/input"),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s1.1"), "written, read");
    assert_eq!(run.output("s3"), "640\n");
}

#[tokio::test]
async fn files_without_a_container_are_written_by_the_conductor_on_shared_volumes_only() {
    let without = |mut step: Step| {
        for operation in &mut step.operations {
            if let Operation::Files { container, .. } = operation {
                *container = None;
            }
        }
        step
    };
    let steps = vec![
        without(step("s1", vec![files("/data/deep/file", "content")])),
        without(step("s2", vec![files("relative", "below /data")])),
        shell("s3", "cat /data/deep/file /data/relative"),
        without(step("s4", vec![files("/etc/file", "content")])),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Failed).await;
    assert_eq!(run.output("s3"), "contentbelow /data");
    run.expect("s4", Failed, "FILES");
}

#[tokio::test]
async fn environment_is_the_containers_then_the_plans_then_the_steps_and_nothing_of_the_user() {
    let mut own = shell("s1", "echo $PLAN, $OWN, $REF, $CI; env");
    if let Some(Operation::Run(process)) = own.operations.first_mut() {
        process.env = vec![
            variable("OWN", "{{ env.PLAN }}!"),
            variable("REF", "$(OWN) {{ execution.name }}"),
        ];
    }
    let steps = vec![own, shell("s2", "echo ${OWN:-none} $PLAN")];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    let output = run.output("s1");
    let first = output.lines().next().unwrap();
    assert_eq!(first, "of the plan, of the plan!, of the plan! smoke-1, 1");
    assert!(
        !output.contains("MUSTER_") && !output.contains("SECRET"),
        "{output}"
    );
    assert_eq!(run.output("s2"), "none of the plan\n");
}

#[tokio::test]
async fn outputs_and_status_of_a_step_are_known_to_later_ones() {
    let steps = vec![
        shell("s1", "echo -n blue > /testkube/outputs/color; exit 2")
            .id("paint")
            .optional(),
        shell(
            "s2",
            "echo {{ step.paint.outputs.color }} {{ step.paint.status }}",
        ),
        shell("s3", "true").when("step.paint.outputs.color == 'red'"),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s2"), "blue failed\n");
    run.expect("s3", Skipped, "CONDITION");
}

#[tokio::test]
async fn output_that_is_a_link_is_not_read() {
    let steal = "ln -s /proc/self/environ /testkube/outputs/token; echo 1 > /testkube/outputs/ok";
    let steps = vec![
        shell("s1", steal).id("thief"),
        shell("s2", "echo '[{{ step.thief.outputs.token }}]'"),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s2"), "[]\n");
}

#[tokio::test]
async fn wrong_expression_fails_its_step_and_names_itself() {
    let steps = vec![
        shell("s1", "echo {{ nothing.like.this }}").optional(),
        shell("s2", "true").when("1 +").optional(),
        shell("s3", "true").timeout("{{ 'soon' }}").optional(),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    for step in ["s1", "s2", "s3"] {
        run.expect(step, Failed, "EXPRESSION");
    }
    assert!(run.message("s1").contains("nothing.like.this"));
    assert!(run.message("s3").contains("soon"));
}

#[tokio::test]
async fn entrypoint_and_command_of_the_image_are_put_together_as_kubernetes_does() {
    let image = ImageConfig {
        entrypoint: vec!["echo".to_owned(), "entry".to_owned()],
        cmd: vec!["default".to_owned()],
        ..ImageConfig::default()
    };
    let broken = ImageConfig {
        error: "registry.example: connection refused".to_owned(),
        ..ImageConfig::default()
    };
    let mut manner = Manner::default();
    let configs = &mut manner.welcome.image_configs;
    configs.insert("c0".to_owned(), image);
    configs.insert("c1".to_owned(), broken);
    let texts = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    let run_in = |reference, container, command, args| {
        step(
            reference,
            vec![process(container, Command::Exec { command, args })],
        )
    };
    let steps = vec![
        run_in("s1", 0, None, None),
        run_in("s2", 0, texts(&[]), texts(&["own"])),
        run_in("s3", 0, texts(&["echo", "command"]), None),
        run_in("s4", 1, None, None),
    ];
    let mut run = Run::with(&plan(steps), manner, &[]);
    run.ends_as(Outcome::Failed).await;
    assert_eq!(run.output("s1"), "entry default\n");
    assert_eq!(run.output("s2"), "entry own\n");
    assert_eq!(run.output("s3"), "command\n");
    run.expect("s4", Failed, "IMAGE_CONFIG");
    let message = run.message("s4");
    assert!(
        message.contains("connection refused") && message.contains("command"),
        "{message}"
    );
}

#[tokio::test]
async fn timeout_of_a_group_ends_what_runs_in_it_and_skips_the_rest() {
    let inner = vec![
        shell("s1.1", "sleep 100"),
        shell("s1.2", "echo never").when("always"),
    ];
    let steps = vec![
        group("s1", inner).timeout("500ms"),
        shell("s2", "echo after").after(),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Failed).await;
    run.expect("s1", TimedOut, "TIMEOUT");
    run.expect("s1.1", TimedOut, "TIMEOUT");
    run.expect("s1.2", Skipped, "TIMEOUT");
    run.passed("s2");
    assert!(
        run.message("s1.1").contains("s1"),
        "{}",
        run.message("s1.1")
    );
}

#[tokio::test]
async fn each_try_has_the_whole_timeout_and_one_that_timed_out_is_followed_by_another() {
    let script =
        "echo try >> /data/tries; [ $(wc -l < /data/tries) -eq 3 ] || exec sleep 60; sleep 0.4";
    let steps = vec![shell("s1", script).retry(5, "passed").timeout("700ms")];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    run.passed("s1");
    assert_eq!(run.agent.heard().step("s1").tries, 3);
}

#[tokio::test]
async fn the_timeout_of_a_group_ends_the_tries_in_it() {
    let inner = shell("s1.1", "sleep 0.2; exit 1").retry(100, "passed");
    let steps = vec![group("s1", vec![inner]).timeout("1s")];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Failed).await;
    run.expect("s1.1", TimedOut, "TIMEOUT");
}

#[tokio::test]
async fn a_step_has_a_folder_for_its_results_and_later_ones_find_it() {
    let named =
        |step: muster_spec::plan::Step, id: &str| step.with(|step| step.id = Some(id.to_owned()));
    let steps = vec![
        named(shell("s1", "echo 3 > {{ step.results }}/count"), "first"),
        named(shell("s2", "exit 4"), "second").optional(),
        shell(
            "s3",
            "test $(cat {{ step.first.results }}/count) = 3 && test '{{ step.second.exitCode }}' = 4",
        ),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
}

#[tokio::test]
async fn thousand_steps_with_long_messages_fit_into_a_snapshot() {
    let steps = (0..1000).map(|number| {
        let reference = format!("s{number}");
        exec(&reference, &["/none/{{ long }}"]).optional()
    });
    let mut plan = plan(steps.collect());
    plan.context
        .insert("long".to_owned(), "x".repeat(5000).into());
    let mut run = Run::start(&plan);
    run.ends_as(Outcome::Passed).await;
    run.expect("s999", Failed, "NOT_FOUND");
}

#[tokio::test]
async fn the_namespace_is_that_of_the_pod_and_nothing_on_a_machine() {
    let steps = vec![shell("s1", "echo 'in <{{ namespace }}>'")];
    let mut run = Run::in_pod(&plan(steps.clone()), Manner::default(), &["c0", "c1"]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s1"), "in <of-the-pod>\n");
    let mut run = Run::start(&plan(steps.clone()));
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s1"), "in <>\n");
    let mut known = plan(steps);
    let own = serde_json::json!("of-the-workflow");
    known.context.insert("namespace".to_owned(), own);
    let mut run = Run::start(&known);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s1"), "in <of-the-workflow>\n");
}

#[tokio::test]
async fn nothing_is_written_or_opened_to_all_through_a_link_of_a_step() {
    let plant = "mkdir -m 700 /tmp/out; rm -rf /data/.steps; ln -s /tmp/out /data/.steps
        ln -s /tmp/out /data/folder; echo theirs >/tmp/out/file; ln -s /tmp/out/file /data/file";
    let write = |path: &str| Operation::Files {
        container: None,
        files: vec![File {
            path: path.to_owned(),
            content: "ours".to_owned(),
            mode: 0o777,
            values: None,
        }],
    };
    let steps = vec![
        shell("s0", plant),
        shell("s1", "true").id("made"),
        step("s2", vec![write("/data/file")]).optional(),
        step("s3", vec![write("/data/folder/x")]).optional(),
        step("s4", vec![write("/data/a/b")]),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    for failed in ["s2", "s3"] {
        run.expect(failed, Failed, "FILES");
        assert!(run.message(failed).contains("is a link"), "{failed}");
    }
    let out = run.path("tmp/out");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&out), 0o700);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(out.join("file")).unwrap(), "theirs\n");
    assert_eq!(mode(&run.path("data/a/b")), 0o777);
}
