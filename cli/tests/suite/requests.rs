//! `kind: TestWorkflowExecution` in files, and kinds that are not supported yet beside workflows.

use serde_json::Value;

use crate::home::{Home, manifest};

const HEAD: &str = "apiVersion: testworkflows.testkube.io/v1";
const TRIGGER: &str = "apiVersion: tests.testkube.io/v1\nkind: TestTrigger\nmetadata:\n  name: on-change\nspec:\n  resource: pod\n";

fn greeter() -> String {
    manifest(
        "greeter",
        "config:\n  who: {type: string}\n  how: {type: string, default: hello}\nsteps:\n- shell: echo {{ config.how }} {{ config.who }}",
    )
}

fn request(name: &str) -> String {
    format!(
        "{HEAD}\nkind: TestWorkflowExecution\nmetadata:\n  name: {name}\nspec:\n  testWorkflow: {{name: greeter}}\n  \
         executionRequest:\n    config: {{who: world, how: bye}}\n    tags: {{from: file}}\n"
    )
}

#[test]
fn a_request_runs_the_workflow_of_its_file_with_its_values() {
    let home = Home::new();
    let file = home.write(
        "a.yaml",
        &format!("{}---\n{}---\n{TRIGGER}", greeter(), request("now")),
    );
    let done = home
        .muster(["run", &file, "--config", "how=hi", "--output", "json"])
        .expect(0);
    let document = done.json();
    assert_eq!(document["workflow"], "greeter");
    assert_eq!(document["tags"]["from"], "file");
    assert!(done.stderr.contains("hi world"), "{}", done.stderr);
    assert!(
        done.stderr
            .contains("not supported yet: kind `TestTrigger`"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_request_runs_a_stored_workflow() {
    let home = Home::new();
    let workflow = home.write("w.yaml", &greeter());
    home.muster(["apply", "-f", &workflow]).expect(0);
    let file = home.write("r.yaml", &request("now"));
    let done = home.muster(["run", &file]).expect(0);
    assert!(done.stdout.contains("bye world"), "{}", done.stdout);
    home.muster(["delete", "workflow", "greeter"]).expect(0);
    let refused = home.muster(["run", &file]).expect(2);
    refused.expect_error(&[
        "r.yaml:6:24",
        "there is no workflow `greeter`",
        "muster apply",
    ]);
}

#[test]
fn several_requests_need_a_name() {
    let home = Home::new();
    let text = [greeter(), request("one"), request("two")].join("---\n");
    let file = home.write("a.yaml", &text);
    home.muster(["run", &file])
        .expect(2)
        .expect_error(&["one, two", "--name"]);
    home.muster(["run", &file, "--name", "two"]).expect(0);
}

#[test]
fn what_is_not_stored_is_told_and_the_rest_is_stored() {
    let home = Home::new();
    let file = home.write(
        "a.yaml",
        &[greeter(), request("now"), TRIGGER.to_owned()].join("---\n"),
    );
    let done = home.muster(["apply", "-f", &file]).expect(0);
    assert!(
        done.stdout.contains("workflow/greeter created"),
        "{}",
        done.stdout
    );
    assert!(
        done.stderr
            .contains("asks for a run and is not stored; `muster run"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("not supported yet"), "{}", done.stderr);
    let alone = home.write("b.yaml", &request("now"));
    home.muster(["apply", "-f", &alone])
        .expect(2)
        .expect_error(&["nothing to store", "muster run"]);
}

#[test]
fn requests_are_linted_with_their_workflow() {
    let home = Home::new();
    let text = request("now").replace("who: world", "whom: world");
    let file = home.write(
        "a.yaml",
        &[greeter(), text, TRIGGER.to_owned()].join("---\n"),
    );
    let report = home
        .muster(["lint", &file, "--output", "json"])
        .expect(1)
        .json();
    let found = |list: &str, message: &str| -> Value {
        let all = report[list].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|it| {
            it["message"]
                .as_str()
                .is_some_and(|it| it.contains(message))
        });
        found
            .unwrap_or_else(|| panic!("{message}\n{report:#}"))
            .clone()
    };
    let wrong = found("problems", "there is no parameter `whom`");
    assert_eq!(wrong["path"], "spec.executionRequest.config.whom");
    assert_eq!(wrong["cure"], "did you mean `who`?");
    assert!(wrong["line"].as_u64() > Some(0) && wrong["column"].as_u64() > Some(0));
    found("problems", "the parameter `who` has no value");
    found("warnings", "not supported yet: kind `TestTrigger`");
    assert_eq!(report["requests"], 1);
}

#[test]
fn a_global_template_is_below_a_run_of_this_machine() {
    let home = Home::new();
    let template = format!(
        "{HEAD}\nkind: TestWorkflowTemplate\nmetadata:\n  name: team--base\nspec:\n  setup:\n  - shell: echo from-the-global-one\n"
    );
    let template = home.write("t.yaml", &template);
    let file = home.workflow("plain", "steps:\n- shell: echo own");
    let arguments = ["run", &file, "--global-template", "team/base"];
    let without = home.muster(arguments).expect(0);
    assert!(
        without.stdout.contains("there is no template `team--base`"),
        "{}",
        without.stdout
    );
    home.muster(["apply", "-f", &template]).expect(0);
    let with = home.muster(arguments).expect(0);
    assert!(
        with.stdout.contains("from-the-global-one"),
        "{}",
        with.stdout
    );
    let mut remote = arguments.to_vec();
    remote.extend(["--server", "http://127.0.0.1:1"]);
    home.muster(remote)
        .expect(2)
        .expect_error(&["--global-template"]);
}

/// Of every sort of name a slip, with what is meant.
const SLIPS: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: member}
spec:
  config: {region: {type: string, default: x}}
  steps: [{shell: a}]
---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: slips}
spec:
  config: {region: {type: string, default: x}}
  steps:
  - shell: \"{{ config.regoin }}\"
  - shell: \"{{ shellqoute('a') }}\"
  - shell: \"{{ exection.id }}\"
  - condition: pased
    shell: a
  - {execute: {workflows: [{name: membr}]}}
  - {execute: {workflows: [{name: member, config: {regin: a}}]}}
---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: templates}
spec:
  use: [{name: distribute/evnly}]
  steps:
  - shell: a
---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: values}
spec:
  steps:
  - {template: {name: official/k6/v1, config: {versoin: '1'}}}
";

#[test]
fn every_slip_is_told_with_its_place_and_what_is_meant() {
    let home = Home::new();
    let names = home.write("names.yaml", SLIPS);
    let fields = format!("{HEAD}\nkind: TestWorkflow\nmetadata: {{nam: a}}\nspec: {{stps: []}}\n");
    let fields = home.write("fields.yaml", &fields);
    let kind = home.write(
        "kind.yaml",
        &format!("{HEAD}\nkind: TestWorkflowTemplat\nmetadata: {{name: a}}\nspec: {{}}\n"),
    );
    let report = home.muster(["lint", &names, &fields, &kind, "--output", "json"]);
    let report = report.expect(1).json();
    let all = ["problems", "warnings"].map(|list| report[list].as_array().unwrap().clone());
    let all = all.concat();
    for (path, meant) in [
        ("spec.steps[0].shell", "region"),
        ("spec.steps[1].shell", "shellquote"),
        ("spec.steps[2].shell", "execution"),
        ("spec.steps[3].condition", "passed"),
        ("spec.steps[4].execute.workflows[0].name", "member"),
        ("spec.steps[5].execute.workflows[0].config.regin", "region"),
        ("spec.use[0].name", "distribute--evenly"),
        ("spec.steps[0].template.config.versoin", "version"),
        ("metadata.nam", "name"),
        ("spec.stps", "steps"),
        ("kind", "TestWorkflowTemplate"),
    ] {
        let cure = format!("did you mean `{meant}`?");
        let found = all
            .iter()
            .find(|it| it["path"] == path && it["cure"] == cure.as_str());
        let found = found.unwrap_or_else(|| panic!("{path}: {meant}\n{report:#}"));
        assert!(
            found["line"].as_u64() > Some(0) && found["column"].as_u64() > Some(0),
            "{found}"
        );
        assert!(
            found["file"]
                .as_str()
                .is_some_and(|file| file.ends_with(".yaml")),
            "{found}"
        );
        assert!(
            !found["message"].as_str().unwrap().contains("did you mean"),
            "{found}"
        );
    }
}
