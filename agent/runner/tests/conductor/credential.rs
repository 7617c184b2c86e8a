//! Credentials of the project: asked of the agent while texts are resolved, and shown nowhere.

use muster_proto::runner::v1::{Outcome, StepState::Failed};
use muster_spec::plan::{Operation, Step};

use crate::{
    agent::Manner,
    plan::{Changed as _, files, plan, script_in, shell, step, variable},
    run::Run,
};

const VALUE: &str = "hunter2";

/// An agent that has some.
fn manner() -> Manner {
    let some = [
        ("token", VALUE),
        (
            "url",
            "https://{{ credential('token') }}@{{ execution.name }}",
        ),
        ("wrong", "{{ hunter2 +"),
        ("odd", "a$$b$(PATH)"),
        ("deep", "{{ credential('url', true) }}"),
    ];
    Manner {
        credentials: some.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..Manner::default()
    }
}

/// Puts the token into a variable of the step's process.
fn in_environment(step: &mut Step) {
    if let Operation::Run(run) = &mut step.operations[0] {
        run.env = vec![variable("TOKEN", "{{ credential('token', false) }}")];
    }
}

#[tokio::test]
async fn a_value_is_asked_for_once_and_stands_where_it_is_named() {
    let file = step(
        "s2",
        vec![
            files("/data/conf", "t={{ credential('token') }}"),
            script_in(0, "test \"$(cat /data/conf)\" = t=hunter2"),
        ],
    );
    let in_variable = shell(
        "s1",
        "test \"$TOKEN\" = hunter2; test {{ env.TOKEN }} = hunter2",
    )
    .with(in_environment);
    let computed = shell(
        "s3",
        "test '{{ credential(\"url\", true) }}' = https://hunter2@smoke-1",
    );
    let raw = shell("s4", "echo '{{ len(credential(\"url\")) }}'");
    let mut run = Run::with(&plan(vec![in_variable, file, computed, raw]), manner(), &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s4"), "54\n");
    assert_eq!(run.agent.heard().wishes, ["token", "url"]);
}

#[tokio::test]
async fn references_in_a_value_are_no_references() {
    let compare = "test \"$ODD-$COPY\" = 'a$$b$(PATH)-a$$b$(PATH)$'";
    let show = shell("s1", compare).with(|step| {
        if let Operation::Run(run) = &mut step.operations[0] {
            run.env = vec![
                variable("ODD", "{{ credential('odd') }}"),
                variable("COPY", "$(ODD)$$"),
            ];
        }
    });
    let mut run = Run::with(&plan(vec![show]), manner(), &[]);
    run.ends_as(Outcome::Passed).await;
}

#[tokio::test]
async fn what_a_step_prints_of_it_is_masked_also_in_pieces_and_in_other_forms() {
    let print = shell(
        "s1",
        "echo before $TOKEN after
         printf hun; sleep 0.2; printf ter; sleep 0.2; echo 2
         printf 'user:%s' $TOKEN | base64
         echo error $TOKEN >&2
         echo cut off: hunter",
    )
    .with(in_environment);
    let mut run = Run::with(&plan(vec![print]), manner(), &[]);
    run.ends_as(Outcome::Passed).await;
    let log = run.output("s1");
    assert!(!log.contains(VALUE), "{log}");
    assert!(log.contains("before *** after\n***\n"), "{log}");
    assert!(log.contains("error ***\n"), "{log}");
    // The last character of what stands before has two bits of the first byte behind it.
    assert!(log.contains("dXNlcjp***\n"), "{log}");
    assert!(log.contains("cut off: hunter\n"), "{log}");
}

#[tokio::test]
async fn what_waits_for_more_of_a_secret_is_in_the_log_when_the_process_is_killed() {
    let print = shell("s1", "printf 'nearly hunt'; kill -9 $$").with(in_environment);
    let mut run = Run::with(&plan(vec![print]), manner(), &[]);
    run.ends_as(Outcome::Failed).await;
    assert_eq!(run.output("s1"), "nearly hunt");
}

#[tokio::test]
async fn values_of_sensitive_parameters_are_masked_and_outputs_too() {
    let mut plan = plan(vec![
        shell(
            "s1",
            "echo the p4rameter; echo hunter2 > /testkube/outputs/word",
        )
        .with(|step| step.id = Some("one".to_owned())),
    ]);
    plan.masked = ["p4rameter", VALUE].map(str::to_owned).into();
    let mut run = Run::with(&plan, manner(), &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s1"), "the ***\n");
    let outputs = run.agent.heard().step("s1").outputs.clone();
    assert_eq!(outputs["word"].trim(), "***");
}

#[tokio::test]
async fn one_that_is_not_given_fails_the_step_and_says_why() {
    let steps = vec![
        shell("s1", "echo {{ credential('missing') }}"),
        shell(
            "s2",
            "test {{ true ? credential('token') : credential('missing') }} = hunter2",
        )
        .when("always"),
    ];
    let mut run = Run::with(&plan(steps), manner(), &[]);
    run.ends_as(Outcome::Failed).await;
    run.expect("s1", Failed, "CREDENTIAL");
    run.passed("s2");
    let message = run.agent.heard().step("s1").message.clone();
    assert_eq!(message, "shell: credential: there is no 'missing'");
}

#[tokio::test]
async fn no_value_stands_in_what_is_told_of_a_step() {
    let steps = vec![
        shell("s1", "echo {{ int(credential('token')) }}"),
        shell("s2", "echo {{ credential('wrong', true) }}").when("always"),
        shell("s3", "echo {{ credential('deep', true) }}").when("always"),
        shell("s4", "true").when("eval(\"credential('token')\") == 'x'"),
        shell("s6", "echo {{ int(env.TOKEN) }}")
            .when("always")
            .with(in_environment),
        shell("s7", "true")
            .when("int(env.TOKEN) == 1")
            .with(in_environment),
        shell("s5", "true")
            .when("always")
            .with(|step| step.name = "{{ eval(\"credential('token')\") }}".to_owned()),
    ];
    let mut run = Run::with(&plan(steps), manner(), &[]);
    run.ends_as(Outcome::Failed).await;
    run.expect("s1", Failed, "EXPRESSION");
    run.expect("s2", Failed, "EXPRESSION");
    run.expect("s3", Failed, "EXPRESSION");
    run.expect("s4", Failed, "EXPRESSION");
    run.expect("s6", Failed, "EXPRESSION");
    run.expect("s7", Failed, "EXPRESSION");
    run.passed("s5");
    let heard = run.agent.heard();
    let told = format!("{:?} {:?}", heard.progress, heard.completed);
    assert!(!told.contains(VALUE), "{told}");
    assert!(!heard.remarks().contains(VALUE), "{}", heard.remarks());
}
