//! Whole manifests through the public interface: plans and refusals as snapshots.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of test functions"
)]

use std::collections::BTreeMap;

use muster_spec::compile::{Common, Compiled, ExecutionInfo, Input, Undeclared, compile};
use muster_spec::manifest::{self, Document};
use muster_spec::plan::{Operation, Plan, Tool};
use muster_spec::problem::Problems;
use muster_spec::schema::{Template, Workflow};
use muster_spec::yaml::Limits;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_change_of_a_manifest_panics(
        cut in 0usize..4000,
        length in 0usize..40,
        put in prop::sample::select(vec![
            "", "x", ":", "- ", "{", "}", "[", "]", "{{", "}}", "\n", "  ", "'", "\"", "&a ", "*a", "null",
            "-1", "99999999999999999999", "true", "|", "{{ config.token }}", "{{ 1/0 }}", "!!str", "<<: ",
        ]),
    ) {
        let text = include_str!("manifests/whole.yaml");
        let from = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let to = (from + length).min(text.len());
        let changed = format!("{}{put}{}", &text[..from], text.get(to..).unwrap_or(""));
        if let Ok(documents) = manifest::parse(&changed, Limits::default()) {
            let templates: Vec<Template> = documents
                .iter()
                .filter_map(|document| match document {
                    Document::Template(template) => Some(template.clone()),
                    Document::Workflow(_) | Document::Request(_) | Document::Foreign(_) => None,
                })
                .collect();
            for document in &documents {
                if let Document::Workflow(workflow) = document {
                    drop(run(workflow, &templates, &[("token", "t")]));
                }
            }
        }
    }
}

fn read(text: &str) -> (Vec<Workflow>, Vec<Template>) {
    let documents = manifest::parse(text, Limits::default()).unwrap_or_else(|e| panic!("{e}"));
    let mut workflows = Vec::new();
    let mut templates = Vec::new();
    for document in documents {
        match document {
            Document::Workflow(workflow) => workflows.push(workflow),
            Document::Template(template) => templates.push(template),
            Document::Request(_) | Document::Foreign(_) => {}
        }
    }
    (workflows, templates)
}

fn run(
    workflow: &Workflow,
    templates: &[Template],
    config: &[(&str, &str)],
) -> Result<Compiled, Problems> {
    run_as(&execution(7), workflow, templates, config)
}

/// An execution of a number.
fn execution(number: u64) -> ExecutionInfo {
    ExecutionInfo {
        id: format!("0190a6f{}", number - 7),
        name: format!("whole-{number}"),
        number,
        scheduled_at: format!("2026-01-02T03:04:{:02}Z", number - 2),
        tags: BTreeMap::from([("by".to_owned(), "hand".to_owned())]),
        ..ExecutionInfo::default()
    }
}

fn run_as(
    execution: &ExecutionInfo,
    workflow: &Workflow,
    templates: &[Template],
    config: &[(&str, &str)],
) -> Result<Compiled, Problems> {
    let config: BTreeMap<String, String> = config
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    compile(&Input {
        workflow,
        templates,
        global: None,
        config: &config,
        undeclared: Undeclared::Refused,
        execution,
    })
}

/// A workflow with these steps.
fn steps(steps: &str) -> Workflow {
    spec(&format!("steps:\n{steps}"))
}

fn spec(fields: &str) -> Workflow {
    let indented: String = fields.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "apiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflow\nmetadata: {{name: w}}\nspec:\n{indented}"
    );
    read(&text).0.remove(0)
}

fn plan(workflow: &Workflow) -> muster_spec::plan::Plan {
    run(workflow, &[], &[])
        .unwrap_or_else(|e| panic!("{e}"))
        .plan
}

fn refusal(workflow: &Workflow) -> String {
    run(workflow, &[], &[]).unwrap_err().to_string()
}

#[test]
fn most_of_the_language_compiles() {
    let (workflows, templates) = read(include_str!("manifests/whole.yaml"));
    let compiled = run(&workflows[0], &templates, &[("token", "s3cret")]).unwrap();
    insta::assert_json_snapshot!("whole", compiled.plan);
    assert_eq!(compiled.warnings, []);
    assert_eq!(compiled.tags["id"], "0190a6f0");
    assert_eq!(compiled.tags["by"], "hand");
    assert_eq!(compiled.labels["team"], "green");
    assert_eq!(
        compiled.target.unwrap().matches["region"],
        ["north", "south"]
    );
    let again = serde_json::to_string(&compiled.plan).unwrap();
    assert_eq!(
        serde_json::from_str::<muster_spec::plan::Plan>(&again).unwrap(),
        compiled.plan
    );
}

/// The plan for another execution, taken over from a first one; nothing when the workflow has to be
/// compiled again.
fn taken_over(fields: &str) -> Option<Plan> {
    let workflow = spec(fields);
    let first = run(&workflow, &[], &[]).unwrap_or_else(|e| panic!("{e}"));
    let again = run_as(&execution(12), &workflow, &[], &[]).unwrap_or_else(|e| panic!("{e}"));
    let common = Common::new(first).ok()?;
    let plan = common.plan(&execution(12)).unwrap();
    let plan: Plan = serde_json::from_slice(&plan).unwrap();
    // Where it is taken over it is what a compiler would have made.
    assert_eq!(plan, again.plan, "{fields}");
    let rest = common.compiled();
    assert_eq!(
        (&rest.tags, &rest.labels, &rest.target, &rest.resolved),
        (&again.tags, &again.labels, &again.target, &again.resolved),
        "{fields}"
    );
    Some(plan)
}

#[test]
fn what_asks_nothing_of_its_execution_is_compiled_once() {
    let common = [
        "steps: [{shell: 'true'}]",
        "config: {url: {default: x}}\nsteps: [{shell: 'curl {{ config.url }} {{ workflow.name }}'}]",
        "steps: [{shell: 'echo {{ env.HOME }}', condition: passed}]",
        "steps: [{run: {image: 'x:1', env: [{name: A, value: '{{ labels.team }}{{ 1 + 1 }}'}]}}]",
        "steps: [{parallel: {count: 3, shell: 'echo {{ index }}'}}]",
        "steps: [{shell: \"echo '\u{e000}id\u{e000}' \u{e000}\u{e001}\"}]",
    ];
    for fields in common {
        let plan = taken_over(fields).unwrap_or_else(|| panic!("{fields}"));
        assert_eq!(plan.context["execution"]["number"], 12);
    }
    let own = [
        "steps: [{shell: 'echo {{ execution.number }}'}]",
        "steps: [{shell: 'true', condition: 'execution.number > 10'}]",
        "steps: [{shell: 'echo {{ execution.id == resource.id }}'}]",
        "steps: [{shell: 'echo {{ resource.root }}'}]",
        "steps: [{shell: 'echo {{ date(\"2006\") }}'}]",
        "steps: [{shell: 'echo {{ len(execution) }}'}]",
        "execution: {tags: {id: '{{ execution.name }}'}}\nsteps: [{shell: 'true'}]",
        "config: {of: {default: '{{ execution.number }}'}}\nsteps: [{shell: 'echo {{ config.of }}'}]",
        "pvcs: {data: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}\nsteps: [{shell: 'true'}]",
        "steps: [{parallel: {count: 3, shell: 'echo {{ execution.id }}'}}]",
    ];
    for fields in own {
        assert!(taken_over(fields).is_none(), "{fields}");
    }
}

#[test]
fn sensitive_values_are_not_in_the_context() {
    let (workflows, templates) = read(include_str!("manifests/whole.yaml"));
    let compiled = run(&workflows[0], &templates, &[("token", "s3cret")]).unwrap();
    let context = serde_json::to_string(&compiled.plan.context).unwrap();
    assert!(!context.contains("s3cret"));
    assert!(context.contains("greeting"));
}

#[test]
fn a_file_with_wrong_fields_gives_all_its_problems() {
    let error = manifest::parse(
        include_str!("manifests/wrong-schema.yaml"),
        Limits::default(),
    );
    insta::assert_snapshot!("wrong_schema", error.unwrap_err());
}

#[test]
fn wrong_expressions_and_values_give_all_their_problems() {
    let (workflows, templates) = read(include_str!("manifests/wrong-expressions.yaml"));
    let mut all = String::new();
    for workflow in &workflows {
        let error = run(workflow, &templates, &[("unknwn", "x")]).unwrap_err();
        all.push_str(&format!("# with an unknown value\n{error}\n"));
        let error = run(workflow, &templates, &[]).unwrap_err();
        all.push_str(&format!("# {}\n{error}\n\n", workflow.metadata.name));
    }
    insta::assert_snapshot!("wrong_expressions", all);
}

#[test]
fn wrong_settings_give_all_their_problems() {
    let workflow = spec(
        "container: {image: 'a b', imagePullPolicy: always, resources: {requests: {memory: lots, cpu: 1}}}
job: {activeDeadlineSeconds: soon}
steps:
- {delay: '5', timeout: 5 minutes, shell: x}
- run: {image: '', args: [x]}
- {content: {files: [{path: /etc/x, content: y}]}, delay: 5s}
- {name: nothing}",
    );
    insta::assert_snapshot!("wrong_settings", refusal(&workflow));
}

#[test]
fn equal_ids_are_a_warning_and_the_first_one_keeps_it() {
    let workflow = steps("- {id: a, shell: x}\n- {id: a, shell: x}\n- {name: A, shell: x}");
    let compiled = run(&workflow, &[], &[]).unwrap();
    let ids: Vec<_> = compiled
        .plan
        .steps
        .iter()
        .map(|s| s.id.as_deref())
        .collect();
    assert_eq!(ids, [Some("a"), None, None]);
    assert!(compiled.warnings[0].message.contains("means the first one"));
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let mut text = "{shell: x}".to_owned();
    for _ in 0..29 {
        text = format!("{{steps: [{text}]}}");
    }
    assert_eq!(plan(&steps(&format!("- {text}"))).steps.len(), 1);
}

#[test]
fn poisoned_manifests_are_refused_quickly() {
    let started = std::time::Instant::now();
    let variables: String = (0..900)
        .map(|i| format!("{{name: V{i}, value: '{}'}},", "x".repeat(50)))
        .collect();
    let many: String = (0..900).map(|_| "- shell: a\n").collect();
    let copied = spec(&format!(
        "container: {{env: [{variables}]}}\nsteps:\n{many}"
    ));
    assert!(refusal(&copied).contains("more than 2097152 bytes"));

    let costly: String = (0..900)
        .map(|_| "- shell: \"{{ len(map(range(50000), '_.value')) }}\"\n")
        .collect();
    assert!(refusal(&steps(&costly)).contains("too many steps"));

    let template = format!(
        "apiVersion: muster.dev/v1\nkind: TestWorkflowTemplate\nmetadata: {{name: t}}\nspec:\n  steps:\n{}",
        "  - shell: a\n".repeat(900)
    );
    let (_, templates) = read(&template);
    let user = spec(&format!(
        "use: [{}]\nsteps:\n- shell: a",
        "{name: t},".repeat(5000)
    ));
    let message = run(&user, &templates, &[]).unwrap_err().to_string();
    assert!(
        message.contains("templates with more than 1000 steps"),
        "{message}"
    );
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
}

#[test]
fn heads_are_checked() {
    let refused = |text: &str| {
        manifest::parse(text, Limits::default())
            .unwrap_err()
            .to_string()
    };
    let texts = [
        "",
        "just text",
        "- a\n- b",
        "a: [",
        "kind: TestWorkflow",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {}",
        "apiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflw\nmetadata: {name: x}\nspec: {}",
        "apiVersion: muster.dev/v1\nkind: TestWorkflowExecution\nmetadata: {name: x}\nspec: {}",
        "apiVersion: muster.dev/v1\nkind: TestWorkflow\nspec: {}",
        "apiVersion: muster.dev/v1\nkind: TestWorkflow\nmetadata: {name: x}",
        "apiVersion: muster.dev/v1\nkind: TestWorkflow\nmetadata: {name: x}\nspec: {}\nspecs: {}",
    ];
    let all: Vec<String> = texts
        .iter()
        .map(|text| format!("{}\n=> {}\n", text.escape_debug(), refused(text)))
        .collect();
    insta::assert_snapshot!("heads", all.join("\n"));
}

#[test]
fn steps_with_the_same_settings_share_a_container() {
    let workflow = spec(
        "container: {image: a}\nsteps:\n- shell: one\n- shell: two\n- run: {image: b, shell: three}\n- run: {image: a, command: [x]}\nafter:\n- shell: four",
    );
    let plan = plan(&workflow);
    let images: Vec<_> = plan.containers.iter().map(|c| c.image.as_deref()).collect();
    assert_eq!(images, [Some("a"), Some("b"), Some("a")]);
    assert!(plan.steps[4].after);
    assert!(!plan.containers[0].needs_image_config);
}

#[test]
fn isolated_and_impure_steps_have_containers_of_their_own() {
    let impure =
        steps("- shell: one\n- {pure: false, run: {shell: two}, shell: three}\n- shell: four");
    assert_eq!(plan(&impure).containers.len(), 2);
    let isolated =
        spec("system: {isolatedContainers: true}\nsteps:\n- shell: a\n- {pure: true, shell: b}");
    assert_eq!(plan(&isolated).containers.len(), 2);
}

#[test]
fn secrets_reach_only_the_containers_that_name_them() {
    let workflow = steps(
        "- shell: one\n- run:\n    shell: two\n    env:\n    - {name: P, valueFrom: {secretKeyRef: {name: s, key: k}}}\n- shell: three",
    );
    let plan = plan(&workflow);
    assert_eq!(plan.containers.len(), 2);
    assert!(plan.containers[0].env_from_cluster.is_empty());
    assert_eq!(
        plan.containers[1].env_from_cluster[0]["valueFrom"]["secretKeyRef"]["optional"],
        true
    );
}

#[test]
fn the_container_of_a_service_is_refused_with_what_to_write() {
    let text = "apiVersion: muster.dev/v1\nkind: TestWorkflow\nmetadata: {name: w}\nspec:\n  services: {db: {container: {image: x}}}\n";
    let refused = manifest::parse(text, Limits::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "line 5, column 19, spec.services.db.container: unknown field `container`; \
         write `image`, `env`, `resources`, … beside `shell`"
    );
}

#[test]
fn newer_parts_of_the_language_refuse_only_the_workflow_that_has_them() {
    let head = "apiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflow\nmetadata: {name: ";
    for (name, steps) in [
        ("`cache`", "[{shell: a, cache: {key: x, paths: [y]}}]"),
        ("`testCases`", "[{steps: [{shell: a, testCases: {a: b}}]}]"),
        ("`cache`", "[{parallel: {count: 2, shell: a, cache: {}}}]"),
        ("`as`", "[{execute: {workflows: [{name: b, as: c}]}}]"),
        (
            "`fetch`",
            "[{execute: {workflows: [{name: b, fetch: [{from: /a}]}]}}]",
        ),
        (
            "the function `execution`",
            "[{shell: '{{ execution(\"a\") }}'}]",
        ),
        (
            "the function `read_artifact`",
            "[{shell: '{{ read_artifact(\"a\") }}'}]",
        ),
        (
            "the function `hash_files`",
            "[{condition: 'hash_files(\"a\") == 1', shell: a}]",
        ),
    ] {
        let text = format!(
            "{head}new}}\nspec: {{steps: {steps}}}\n---\n{head}old}}\nspec: {{steps: [{{shell: echo}}]}}\n"
        );
        let (workflows, _) = read(&text);
        let problems = run(&workflows[0], &[], &[]).unwrap_err().to_string();
        assert!(
            problems.contains(&format!("not supported yet: {name}")),
            "{steps}: {problems}"
        );
        run(&workflows[1], &[], &[]).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn values_of_a_suite_that_are_not_declared_are_passed_on_with_a_warning() {
    let workflow = spec(
        "config: {own: {default: a}, need: {type: string}}\nsteps: [{shell: '{{ config.own }} {{ config.need }}'}]",
    );
    let execution = ExecutionInfo::default();
    let compiled = |config: &[(&str, &str)], undeclared| {
        let pairs = config.iter();
        let config = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        compile(&Input {
            workflow: &workflow,
            templates: &[],
            global: None,
            config: &config.collect(),
            undeclared,
            execution: &execution,
        })
    };
    let all = [("need", "b"), ("extra", "c")];
    let problems = compiled(&all, Undeclared::Refused).unwrap_err().to_string();
    assert!(
        problems.contains("there is no parameter `extra`"),
        "{problems}"
    );
    let passed_on = compiled(&all, Undeclared::PassedOn).unwrap();
    let warnings: Vec<String> = passed_on.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("`extra`; it is passed on as text"),
        "{warnings:?}"
    );
    let misspelt = compiled(&[("ned", "b")], Undeclared::PassedOn).unwrap_err();
    assert!(
        misspelt.to_string().contains("did you mean `need`?"),
        "{misspelt}"
    );
}

#[test]
fn the_namespace_is_known_when_the_workflow_says_it_and_else_left_for_the_pod() {
    let script = "steps: [{shell: 'echo {{ namespace }}'}]";
    let script_of = |fields: &str| {
        let plan = plan(&spec(fields));
        serde_json::to_string(&plan.steps).unwrap()
    };
    assert!(script_of(script).contains("echo {{namespace}}"));
    let said = script_of(&format!("job: {{namespace: tests}}\n{script}"));
    assert!(said.contains("echo tests"), "{said}");
    let early = spec("steps: [{run: {image: 'x/{{ namespace }}', shell: echo}}]");
    let problems = run(&early, &[], &[]).unwrap_err().to_string();
    assert!(problems.contains("namespace"), "{problems}");
}

#[test]
fn each_execution_is_the_first_one_of_its_line() {
    let lineage = "- shell: '{{ execution.lineage.baseId }}|{{ execution.lineage.rootId }}|{{ execution.lineage.attempt }}'";
    let plan = serde_json::to_string(&plan(&steps(lineage)).steps).unwrap();
    assert!(plan.contains("\"|0190a6f0|1\""), "{plan}");
    let wrong = steps("- shell: '{{ execution.lineage.base }}'");
    let problems = run(&wrong, &[], &[]).unwrap_err().to_string();
    assert!(problems.contains("there is `baseId`"), "{problems}");
}

#[test]
fn secrets_of_texts_become_variables_of_that_container_alone() {
    let workflow = spec(
        "container:\n  env: [{name: SECRET_DB_KEY, value: own}]\nsteps:\n\
         - shell: 'echo {{ secret(\"db\", \"key\") }} {{ secret(\"db\", \"key\") + secret(\"db\", \"a.b\", true) }}'\n\
         - shell: plain\n\
         - run:\n    command: [x]\n    args: ['{{ secret(\"db\", \"key\", false) }}']\n    env: [{name: E, value: '{{ secret(\"e\", \"k\") }}'}]\n",
    );
    let plan = plan(&workflow);
    let names = |index: usize| {
        let variables = plan.containers[index].env_from_cluster.iter();
        let names = variables.map(|variable| {
            let reference = &variable["valueFrom"]["secretKeyRef"];
            assert_eq!(reference["optional"], true);
            format!(
                "{}={}/{}",
                variable["name"], reference["name"], reference["key"]
            )
        });
        names.collect::<Vec<_>>().join(" ").replace('"', "")
    };
    assert_eq!(
        names(0),
        "COMPUTED_SECRET_DB_A_B=db/a.b SECRET_DB_KEY_2=db/key"
    );
    assert_eq!(names(1), "");
    assert_eq!(names(2), "SECRET_DB_KEY_2=db/key SECRET_E_K=e/k");
    let text = serde_json::to_string(&plan.steps).unwrap();
    for part in [
        "echo {{env.SECRET_DB_KEY_2}} {{env.SECRET_DB_KEY_2+env.COMPUTED_SECRET_DB_A_B}}",
        "[\"{{env.SECRET_DB_KEY_2}}\"]",
        "{\"name\":\"E\",\"value\":\"{{env.SECRET_E_K}}\"}",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn secrets_of_content_come_from_the_container_for_values() {
    let workflow = steps(
        "- content:\n    files: [{path: /data/x, content: 'p={{ secret(\"s\", \"k\") }}'}]\n    git: {uri: 'https://h/r', token: '{{ secret(\"s\", \"k\") }}'}\n  shell: x",
    );
    let plan = plan(&workflow);
    let values = plan
        .containers
        .iter()
        .find(|one| one.name.starts_with("values"));
    assert_eq!(values.unwrap().env_from_cluster.len(), 1);
    assert!(plan.containers.last().unwrap().env_from_cluster.is_empty());
    let text = serde_json::to_string(&plan.steps).unwrap();
    assert!(text.contains("p={{env.VALUE_1}}"), "{text}");
    assert!(text.contains("\"token\":\"{{env.VALUE_1}}\""), "{text}");
}

#[test]
fn the_plan_says_which_credentials_may_be_asked_for() {
    let steps = r#"
config: {stage: {type: string, default: test}}
container:
  env: [{name: T, value: '{{ credential("env") }}'}]
content:
  files: [{path: /data/f, content: '{{ credential("file", true) }}'}]
  git: {uri: 'https://h/r', token: '{{ credential("git") }}'}
services:
  db: {shell: 'echo {{ credential("db-" + index) }}', count: 2}
steps:
- shell: 'echo {{ credential("deploy-" + config.stage) }} {{ env.A ? credential("a") : credential("b") }}'
- run: {command: [x], args: ['{{ join(map(list("m1", "m2"), "credential(_.value)")) }}']}
- parallel:
    matrix: {user: [ann, bob], again: [1, 2]}
    steps:
    - shell: 'echo {{ credential("login-" + matrix.user) }}'
    - parallel: {count: 2, shell: 'echo {{ credential("deep-" + index + "-" + at(list("x", "y"), index)) }}'}
"#;
    let compiled = run(&spec(steps), &[], &[]).unwrap();
    let names: Vec<_> = compiled.plan.credentials.iter().collect();
    assert_eq!(
        names,
        [
            "a",
            "b",
            "db-0",
            "db-1",
            "deep-0-x",
            "deep-1-y",
            "deploy-test",
            "env",
            "file",
            "git",
            "login-ann",
            "login-bob",
            "m1",
            "m2",
        ]
    );
    let text = serde_json::to_string(&compiled.plan.containers).unwrap();
    assert!(
        !text.contains("credential"),
        "nothing for the cluster: {text}"
    );
}

#[test]
fn secrets_and_credentials_are_refused_elsewhere_with_the_cure() {
    for (step, expected) in [
        (
            "- {shell: x, condition: 'secret(\"a\", \"b\") == 1'}",
            "`secret` can stand in",
        ),
        (
            "- {shell: x, container: {image: '{{ secret(\"a\", \"b\") }}'}}",
            "`secret` can stand in",
        ),
        (
            "- {shell: x, timeout: '{{ secret(\"a\", \"b\") }}'}",
            "`secret` can stand in",
        ),
        (
            "- {parallel: {count: 'secret(\"a\", \"b\")', shell: x}}",
            "`secret` can stand in",
        ),
        (
            "- shell: '{{ secret(env.X, \"b\") }}'",
            "must be known when",
        ),
        (
            "- shell: '{{ secret(\"A\", \"b\") }}'",
            "no name of a Secret",
        ),
        (
            "- shell: '{{ secret(\"a\", \"b/c\") }}'",
            "no key of a Secret",
        ),
        (
            "- shell: '{{ secret(\"a\") }}'",
            "secret takes 2 to 3 argument(s)",
        ),
        (
            "- shell: '{{ internal.storage.url }}'",
            "use a parameter in `config`",
        ),
        (
            "- {shell: x, condition: 'credential(\"a\") == 1'}",
            "`credential` can stand in",
        ),
        (
            "- {shell: x, condition: 'eval(\"credential(1)\")'}",
            "`credential` can stand in",
        ),
        (
            "- {name: '{{ credential(\"a\") }}', shell: x}",
            "`credential` can stand in",
        ),
        (
            "- {shell: x, container: {image: '{{ credential(\"a\") }}'}}",
            "`credential` can stand in",
        ),
        (
            "- {execute: {workflows: [{name: w, config: {t: '{{ credential(\"a\") }}'}}]}}",
            "`credential` can stand in",
        ),
        (
            "- {parallel: {count: 2, description: '{{ credential(\"a\") }}', shell: x}}",
            "`credential` can stand in",
        ),
        (
            "- shell: '{{ config.x ? credential(env.A) : 1 }}'",
            "`env.A` is not",
        ),
        (
            "- shell: '{{ credential(step.a.outputs.b) }}'",
            "put it together of parameters",
        ),
        (
            "- shell: '{{ credential(split(env.A)...) }}'",
            "are not known",
        ),
        (
            "- shell: '{{ credential(\"Deploy Token\") }}'",
            "no name of a credential",
        ),
        (
            "- shell: '{{ credential(\"a\", \"b\") }}'",
            "`true` or `false`",
        ),
        (
            "- shell: '{{ credential() }}'",
            "credential takes 1 to 2 argument(s)",
        ),
        (
            "- {parallel: {count: 'env.N', shell: 'echo {{ credential(\"a\" + index) }}'}}",
            "must be known when",
        ),
        (
            "- {parallel: {count: 101, shell: 'echo {{ credential(\"a\" + index) }}'}}",
            "more than 100 credentials",
        ),
    ] {
        let workflow = spec(&format!("config: {{x: {{default: 'y'}}}}\nsteps:\n{step}"));
        let message = refusal(&workflow);
        assert!(message.contains(expected), "{step}: {message}");
    }
}

#[test]
fn entrypoints_are_asked_for_only_where_they_are_needed() {
    let needs = |step: &str| plan(&steps(step)).containers[0].needs_image_config;
    assert!(needs("- run: {image: a}"));
    assert!(needs("- run: {image: a, args: [x]}"));
    assert!(needs(
        "- {container: {command: [x]}, run: {image: a, command: []}}"
    ));
    assert!(!needs("- {container: {command: [x]}, run: {image: a}}"));
    assert!(!needs("- run: {image: a, command: [x]}"));
    assert!(!needs("- run: {image: a, shell: x}"));
}

#[test]
fn limits_are_named() {
    let many: String = (0..1001).map(|_| "- shell: a\n").collect();
    assert!(refusal(&steps(&many)).contains("more than 1000 steps"));
    let images: String = (0..51)
        .map(|i| format!("- run: {{image: 'i{i}', shell: a}}\n"))
        .collect();
    assert!(refusal(&steps(&images)).contains("more than 50 containers"));
    assert!(refusal(&spec("steps: []")).contains("the workflow has no steps"));
}

#[test]
fn expanded_plans_are_limited_in_size() {
    let files: String = (0..30)
        .map(|_| "- shell: \"{{ join(map(range(9999), '\\\"aaaaaaaaaa\\\"')) }}\"\n")
        .collect();
    let message = refusal(&steps(&files));
    assert!(message.contains("more than 2097152 bytes"), "{message}");
}

#[test]
fn files_outside_of_shared_volumes_are_written_in_each_container_once() {
    use muster_spec::plan::Operation;
    let workflow = spec(
        "content: {files: [{path: /etc/x, content: y}]}\nsteps:\n- shell: a\n- shell: b\n- steps:\n  - run: {image: i, shell: c}",
    );
    let plan = plan(&workflow);
    let kinds = |step: &muster_spec::plan::Step| {
        step.operations
            .iter()
            .map(|operation| match operation {
                Operation::Files { container, .. } => format!("files {container:?}"),
                Operation::Run(run) => format!("run {}", run.container),
                Operation::Steps { .. } => "steps".to_owned(),
                _ => "other".to_owned(),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(&plan.steps[0]), ["files Some(0)", "run 0"]);
    assert_eq!(kinds(&plan.steps[1]), ["run 0"]);
    let Operation::Steps { steps } = &plan.steps[2].operations[0] else {
        panic!("not a group")
    };
    assert_eq!(kinds(&steps[0]), ["files Some(1)", "run 1"]);
}

#[test]
fn step_templates_merge_in_their_order() {
    let text = "\
apiVersion: muster.dev/v1
kind: TestWorkflowTemplate
metadata: {name: a}
spec: {container: {image: a, env: [{name: X, value: a}]}, steps: [{name: a1, shell: x}], after: [{name: a2, shell: x}], pod: {nodeSelector: {a: a, b: a}}}
---
apiVersion: muster.dev/v1
kind: TestWorkflowTemplate
metadata: {name: b}
spec: {container: {image: b}, setup: [{name: b0, shell: x}], steps: [{name: b1, shell: x}], after: [{name: b2, shell: x}]}
---
apiVersion: muster.dev/v1
kind: TestWorkflow
metadata: {name: w}
spec:
  pod: {nodeSelector: {b: w}}
  use: [{name: a}, {name: b}]
  steps:
  - name: own
    shell: x
  - name: grouped
    use: [{name: a}, {name: b}]
    container: {env: [{name: X, value: own}]}
    shell: x
";
    let (workflows, templates) = read(text);
    let plan = run(&workflows[0], &templates, &[]).unwrap().plan;
    fn outline(steps: &[muster_spec::plan::Step]) -> String {
        let names = steps.iter().map(|step| {
            let nested: Vec<String> = step
                .operations
                .iter()
                .filter_map(|operation| match operation {
                    muster_spec::plan::Operation::Steps { steps } => Some(outline(steps)),
                    muster_spec::plan::Operation::Run(_) => Some("run".to_owned()),
                    _ => None,
                })
                .collect();
            format!("{}[{}]", step.name, nested.join(" "))
        });
        names.collect::<Vec<_>>().join(" ")
    }
    assert_eq!(
        outline(&plan.steps),
        "b0[run] a1[run] b1[run] own[run] grouped[b0[run] run a1[run] b1[run] b2[run] a2[run]] b2[run] a2[run]"
    );
    assert_eq!(plan.containers[0].image.as_deref(), Some("b"));
    assert_eq!(
        plan.pod.spec["nodeSelector"],
        serde_json::json!({"a": "a", "b": "w"})
    );
}

#[test]
fn conditions_stay_readable_and_known_ones_are_decided() {
    let conditions = |text: &str| {
        plan(&steps(&format!("- {{condition: {text}, shell: a}}"))).steps[0]
            .condition
            .clone()
    };
    assert_eq!(conditions("always"), "always");
    assert_eq!(conditions("never"), "never");
    assert_eq!(conditions("\"true\""), "true");
    assert_eq!(conditions("true"), "true");
    assert_eq!(conditions("\"execution.number == 7 && failed\""), "failed");
    assert_eq!(conditions("\"execution.name == 'x'\""), "false");
}

#[test]
fn dates_are_of_the_time_when_the_execution_was_asked_for() {
    let plan = plan(&steps(
        "- shell: 'echo {{ date(\"02 Jan 06 15:04\") }} {{ date() }} {{ date(env.L) }}'",
    ));
    let text = serde_json::to_string(&plan.steps).unwrap();
    let expected = "echo 02 Jan 26 03:04 2026-01-02T03:04:05.000Z {{date(env.L)}}";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn nested_steps_have_references_by_position() {
    let workflow = steps("- setup: [{shell: a}]\n  steps: [{shell: b}, {steps: [{shell: c}]}]");
    let text = serde_json::to_string(&plan(&workflow)).unwrap();
    for reference in ["\"s1\"", "\"s1.1\"", "\"s1.2\"", "\"s1.3\"", "\"s1.3.1\""] {
        assert!(text.contains(reference), "{reference}");
    }
}

#[test]
fn content_is_fetched_in_the_order_of_the_language() {
    let workflow = spec(
        "content:
  files:
  - {path: /data/a, content: a}
  - {path: /data/secret, contentFrom: {secretKeyRef: {name: s, key: k}}}
  - {path: /root/.netrc, contentFrom: {secretKeyRef: {name: s, key: k}}, mode: 0600}
  git:
    uri: https://example.com/team/tests.git
    revision: '{{ workflow.name }}'
    username: robot
    tokenFrom: {secretKeyRef: {name: git, key: token}}
    paths: [tests, '{{ env.SUITE }}']
    cone: true
    retry: {count: 2}
  tarball:
  - {url: 'https://example.com/fixtures.tar.gz', path: /data/fixtures}
  - {url: 'https://example.com/more.tar', path: /fixtures/more, mount: true}
steps:
- shell: ls
- content:
    git: {uri: 'git@example.com:a/b', mountPath: /repo/, authType: header, sshKey: '{{ env.KEY }}'}
  shell: ls
- workingDir: /data
  shell: pwd",
    );
    insta::assert_json_snapshot!("content", plan(&workflow));
}

#[test]
fn steps_work_in_the_repository_unless_it_is_elsewhere() {
    let directory = |content: &str, more: &str| {
        let text = format!("content: {{{content}}}\nsteps:\n- shell: pwd\n{more}");
        plan(&spec(&text))
            .steps
            .iter()
            .flat_map(|step| &step.operations)
            .find_map(|operation| match operation {
                Operation::Run(run) => Some(run.working_dir.clone()),
                _ => None,
            })
            .unwrap()
    };
    let repo = Some("/data/repo".to_owned());
    let uri = "git: {uri: 'https://example.com/a'";
    assert_eq!(directory(&format!("{uri}}}"), ""), repo);
    let same = format!("{uri}, mountPath: /data//repo/}}");
    assert_eq!(directory(&same, ""), repo);
    assert_eq!(
        directory(&format!("{uri}, mountPath: /data/other}}"), ""),
        None
    );
    let own = directory(&format!("{uri}}}"), "  workingDir: /tmp");
    assert_eq!(own.as_deref(), Some("/tmp"));
    assert_eq!(directory("files: [{path: /data/x}]", ""), None);
}

#[test]
fn secrets_of_content_are_in_no_container_of_a_step() {
    let plan = plan(&spec(
        "content:
  git: {uri: 'https://example.com/a', tokenFrom: {secretKeyRef: {name: git, key: token}}}
  files: [{path: /etc/token, contentFrom: {secretKeyRef: {name: s, key: k}}}]
steps:
- shell: cat /etc/token",
    ));
    for container in &plan.containers {
        let values = container.tool == Some(Tool::Values);
        assert_eq!(!container.env_from_cluster.is_empty(), values);
    }
    let optional = plan.containers.iter().flat_map(|one| &one.env_from_cluster);
    for variable in optional {
        assert_eq!(variable["valueFrom"]["secretKeyRef"]["optional"], true);
    }
}

#[test]
fn a_template_gives_a_repository_and_own_fields_win() {
    let (workflows, templates) = read(
        "apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflowTemplate
metadata: {name: repository}
spec:
  content:
    git: {uri: 'https://example.com/a', revision: main, token: old, username: old}
    tarball: [{url: 'https://example.com/t.tar', path: /data/t}]
---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: w}
spec:
  use: [{name: repository}]
  content:
    git: {revision: next, token: new}
    tarball: [{url: 'https://example.com/u.tar', path: /data/u}]
  steps: [{shell: ls}]
",
    );
    let plan = run(&workflows[0], &templates, &[]).unwrap().plan;
    let [
        Operation::Git(git),
        Operation::Tarball { path: first, .. },
        Operation::Tarball { path: second, .. },
    ] = plan.steps[0].operations.as_slice()
    else {
        panic!("{:?}", plan.steps[0]);
    };
    assert_eq!(git.uri, "https://example.com/a");
    assert_eq!(git.revision.as_deref(), Some("next"));
    assert_eq!(git.token.as_deref(), Some("new"));
    assert_eq!(git.username, None, "credentials are not mixed");
    assert_eq!((first.as_str(), second.as_str()), ("/data/t", "/data/u"));
}

#[test]
fn wrong_content_is_refused_with_its_cure() {
    let wrong = [
        "git: {revision: main}",
        "git: {uri: '--upload-pack=evil'}",
        "git: {uri: 'ext::sh -c evil'}",
        "git: {uri: 'https://example.com/a', mountPath: /etc}",
        "git: {uri: 'https://example.com/a', mountPath: '/repo/{{ env.X }}'}",
        "tarball: [{url: 'ftp://example.com/a', path: /data/x}]",
        "tarball: [{url: 'https://example.com/a', path: /x, mount: false}]",
    ];
    let found: Vec<String> = wrong
        .iter()
        .map(|content| {
            let text = format!("content: {{{content}}}\nsteps: [{{shell: ls}}]");
            format!("{content}\n{}", refusal(&spec(&text)))
        })
        .collect();
    insta::assert_snapshot!("wrong_content", found.join("\n\n"));
}

#[test]
fn wrong_fields_of_content_are_refused_with_their_place() {
    let text = "apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: w}
spec:
  content:
    git:
      uri: https://example.com/a
      token: a
      tokenFrom: {secretKeyRef: {name: a, key: b}}
      authType: github
      retry: {count: 21}
      sshKeyFrom: {secretRef: {name: a}}
      brunch: main
    tarball:
    - {path: /data/x}
    - {url: 'https://example.com/a'}
    files:
    - {path: /data/x, content: a, contentFrom: {configMapKeyRef: {name: a, key: b}}}
  steps: [{shell: ls}]
";
    let problems = manifest::parse(text, Limits::default()).unwrap_err();
    insta::assert_snapshot!("wrong_content_fields", problems.to_string());
}

#[test]
fn claims_have_names_of_their_execution() {
    let fields = "pvcs:
  cache: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
pod:
  volumes:
  - {name: cache, persistentVolumeClaim: {claimName: '{{ pvcs.cache.name }}'}}
steps: [{shell: 'echo {{ pvcs.cache.name }}'}]";
    let pod = plan(&spec(fields)).pod;
    let name = "muster-0190a6f0-cache";
    let volume = &pod.spec["volumes"][0]["persistentVolumeClaim"]["claimName"];
    assert_eq!(volume, name);
    assert_eq!(pod.claims[name]["resources"]["requests"]["storage"], "1Gi");

    let unknown = spec("steps: [{shell: 'echo {{ pvcs.other.name }}'}]");
    assert!(refusal(&unknown).contains("there is no claim `other`"));
    let wrong = "apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: w}
spec:
  pvcs: {a.b: {}, ok: {accessMode: x}}
  steps: [{shell: ls}]
";
    let problems = manifest::parse(wrong, Limits::default())
        .unwrap_err()
        .to_string();
    assert!(problems.contains("spec.pvcs.a.b"), "{problems}");
    assert!(
        problems.contains("did you mean `accessModes`?"),
        "{problems}"
    );
}
