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
    let show = shell("s1", "printf %s \"$ODD-$COPY\"").with(|step| {
        if let Operation::Run(run) = &mut step.operations[0] {
            run.env = vec![
                variable("ODD", "{{ credential('odd') }}"),
                variable("COPY", "$(ODD)$$"),
            ];
        }
    });
    let mut run = Run::with(&plan(vec![show]), manner(), &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s1"), "a$$b$(PATH)-a$$b$(PATH)$");
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
