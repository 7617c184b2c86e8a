//! What people bring along from the system that the language comes from: exports of a cluster, names
//! that a cluster would not take, values that nobody declared.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests stand outside of test functions"
)]

use std::collections::BTreeMap;

use muster_spec::compile::{Compiled, ExecutionInfo, Input, Undeclared, compile};
use muster_spec::manifest::{self, Document};
use muster_spec::plan::{Command, Operation, Plan};
use muster_spec::problem::Problems;
use muster_spec::yaml::Limits;

fn compiled(text: &str) -> Result<Compiled, Problems> {
    let mut workflow = None;
    let mut templates = Vec::new();
    for document in manifest::parse(text, Limits::default())? {
        match document {
            Document::Workflow(read) => workflow = Some(read),
            Document::Template(template) => templates.push(template),
            Document::Request(_) | Document::Foreign(_) => {}
        }
    }
    compile(&Input {
        workflow: &workflow.expect("a workflow"),
        templates: &templates,
        global: None,
        config: &BTreeMap::new(),
        undeclared: Undeclared::Refused,
        execution: &ExecutionInfo {
            id: "0190a6f0".to_owned(),
            name: "w-7".to_owned(),
            ..ExecutionInfo::default()
        },
    })
}

fn scripts(plan: &Plan) -> Vec<String> {
    let operations = plan.steps.iter().flat_map(|step| &step.operations);
    operations
        .filter_map(|operation| match operation {
            Operation::Run(run) => match &run.command {
                Command::Shell { script } => Some(script.clone()),
                Command::Exec { .. } => None,
            },
            _ => None,
        })
        .collect()
}

fn refusal(text: &str) -> String {
    match compiled(text) {
        Ok(_) => panic!("it is accepted"),
        Err(problems) => problems.to_string(),
    }
}

const EXPORT: &str = r#"
apiVersion: v1
kind: List
items:
- apiVersion: testworkflows.testkube.io/v1
  kind: TestWorkflow
  metadata: {name: one, uid: "7"}
  spec:
    steps:
    - shell: |
        echo "5"
        echo more
- apiVersion: testworkflows.testkube.io/v1
  kind: TestWorkflowTemplate
  metadata: {name: two}
  spec: {}
metadata: {resourceVersion: ""}
"#;

#[test]
fn an_export_of_a_cluster_is_read_item_by_item() {
    let documents = manifest::parse(EXPORT, Limits::default()).expect("it is read");
    let names: Vec<_> = documents.iter().map(Document::name).collect();
    assert_eq!(names, ["one", "two"]);
    let texts = manifest::items_of_list(EXPORT, Limits::default());
    let texts = texts.expect("it is YAML").expect("it is a list");
    assert_eq!(texts.len(), 2);
    let plan = compiled(&texts[0]).expect("an item stands by itself").plan;
    assert_eq!(scripts(&plan), ["echo \"5\"\necho more\n"]);
}

#[test]
fn a_problem_in_an_export_has_the_line_of_the_whole_file() {
    let broken = EXPORT.replace("metadata: {name: two}", "metadata: {nam: two}");
    let problems = manifest::parse(&broken, Limits::default()).expect_err("it is refused");
    assert!(problems.to_string().contains("line 15"), "{problems}");
}

fn workflow(spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "apiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflow\nmetadata:\n  name: w\n  labels: {{my-team.io/name: core}}\nspec:\n  {spec}\n"
    )
}

#[test]
fn a_default_may_ask_for_another_parameter_in_any_order() {
    let text = workflow(
        r#"config:
  url: {default: "{{ config.base }}/x"}
  base: {default: "http://{{ config.host }}"}
  host: {default: h}
steps:
- shell: get {{ config.url }}"#,
    );
    let plan = compiled(&text).expect("it is accepted").plan;
    assert_eq!(scripts(&plan), ["get http://h/x"]);
}

#[test]
fn defaults_that_ask_for_one_another_are_refused_by_name() {
    let text = workflow(
        r#"config:
  a: {default: "{{ config.b }}"}
  b: {default: "{{ config.a }}"}
steps:
- shell: echo"#,
    );
    let refused = refusal(&text);
    assert!(
        refused.contains("ask for one another: `a`, `b`"),
        "{refused}"
    );
}

#[test]
fn labels_are_found_under_names_that_an_expression_can_write() {
    let text = workflow("steps:\n- shell: echo {{ labels.my_team_io_name }}");
    let plan = compiled(&text).expect("it is accepted").plan;
    assert_eq!(scripts(&plan), ["echo core"]);
}

#[test]
fn a_claim_may_have_a_name_that_a_cluster_would_refuse() {
    let text = workflow(
        "pvcs:\n  someName: {accessModes: [ReadWriteOnce]}\n  some_name: {accessModes: [ReadWriteOnce]}\nsteps:\n- shell: echo {{ pvcs.someName.name }} {{ pvcs.some_name.name }}",
    );
    let plan = compiled(&text).expect("it is accepted").plan;
    let script = scripts(&plan).remove(0);
    let names: Vec<&str> = script.split(' ').skip(1).collect();
    assert_ne!(names[0], names[1]);
    for name in names {
        let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.chars().all(fit), "{name}");
    }
}

#[test]
fn a_value_that_a_template_does_not_declare_is_passed_on_with_a_warning() {
    let text = workflow("use:\n- {name: t, config: {word: x}}\nsteps:\n- shell: echo");
    let template = "---\napiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflowTemplate\nmetadata: {name: t}\nspec:\n  steps:\n  - shell: say {{ config.word }}\n";
    let compiled = compiled(&(text + template)).expect("it is accepted");
    assert_eq!(scripts(&compiled.plan)[0], "say x");
    let warned = compiled
        .warnings
        .iter()
        .any(|one| one.message.contains("`word`"));
    assert!(warned, "{:?}", compiled.warnings);
}

#[test]
fn a_reference_that_says_it_is_needed_stays_needed() {
    let text = workflow(
        "steps:\n- shell: echo\n  container:\n    env:\n    - {name: A, valueFrom: {secretKeyRef: {name: s, key: k, optional: false}}}\n    - {name: B, valueFrom: {secretKeyRef: {name: s, key: k}}}",
    );
    let plan = compiled(&text).expect("it is accepted").plan;
    let containers = plan.containers.iter();
    let optional: Vec<_> = containers
        .flat_map(|container| &container.env_from_cluster)
        .map(|variable| variable["valueFrom"]["secretKeyRef"]["optional"].as_bool())
        .collect();
    assert_eq!(optional, [Some(false), Some(true)]);
}
