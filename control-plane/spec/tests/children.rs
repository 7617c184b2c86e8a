//! What a step starts beside itself: kept in the plan, compiled when all is known.

#![expect(
    clippy::expect_used,
    reason = "helpers of tests stand outside of test functions"
)]

use std::collections::BTreeMap;

use muster_spec::compile::{Child, Compiled, ExecutionInfo, Input, Undeclared, child, compile};
use muster_spec::manifest::{self, Document};
use muster_spec::plan::{Given, Operation, Parallel, Plan, Receive, Service};
use muster_spec::rerun::{FailedTest, Rerun};
use muster_spec::yaml::Limits;
use serde_json::{Map, Value, json};

fn documents(text: &str) -> Result<Compiled, String> {
    let documents = manifest::parse(text, Limits::default()).map_err(|e| e.to_string())?;
    let mut workflow = None;
    let mut templates = Vec::new();
    for document in documents {
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
    .map_err(|problems| problems.to_string())
}

fn spec(fields: &str) -> Result<Compiled, String> {
    let fields: String = fields.lines().map(|line| format!("  {line}\n")).collect();
    documents(&format!(
        "apiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflow\nmetadata: {{name: w}}\nspec:\n{fields}"
    ))
}

fn parallel(plan: &Plan) -> &Parallel {
    let operations = plan.steps.iter().flat_map(|step| &step.operations);
    operations
        .filter_map(|operation| match operation {
            Operation::Parallel(parallel) => Some(&**parallel),
            _ => None,
        })
        .next()
        .expect("workers")
}

fn services(plan: &Plan) -> &[Service] {
    let operations = plan.steps.iter().flat_map(|step| &step.operations);
    operations
        .filter_map(|operation| match operation {
            Operation::Services { services, .. } => Some(services.as_slice()),
            _ => None,
        })
        .next()
        .expect("services")
}

fn worker(plan: &Plan, variables: Value) -> Result<Plan, String> {
    let variables: Map<String, Value> = variables.as_object().expect("a map").clone();
    child(&Child {
        parent: plan,
        spec: &parallel(plan).spec,
        variables: &variables,
        id: "child-1",
        given: &Given::default(),
        rerun: &Rerun::default(),
        service: None,
    })
    .map(|compiled| compiled.plan)
    .map_err(|problems| problems.to_string())
}

const WORKERS: &str = r#"
config: {image: {default: "alpine:3"}}
container:
  env: [{name: A, value: "{{ config.image }}"}]
  volumeMounts: [{name: v, mountPath: /v}]
steps:
- name: Build
  shell: echo
- name: Test
  parallel:
    matrix: {browser: [chrome, firefox]}
    count: 2
    use: [{name: distribute/evenly}]
    container: {image: "{{ matrix.browser }}:1"}
    shell: |
      echo {{ index }} {{ matrix.browser }} {{ step.build.outputs.url }} {{ env.A }} {{ services.db.0.ip }}
    steps:
    - name: Inner
      shell: echo {{ step.inner.status }}
      parallel:
        matrix: {os: [linux]}
        shell: echo {{ index }} {{ matrix.os }} {{ matrix.browser }}
"#;

#[test]
fn workers_are_compiled_with_the_variables_of_their_instance() {
    let compiled = spec(WORKERS).expect("a plan");
    let plan = worker(
        &compiled.plan,
        json!({
            "index": 3, "count": 4, "matrix": {"browser": "firefox"},
            "step": {"build": {"status": "passed", "outputs": {"url": "http://x"}}},
            "services": {"db": [{"ip": "10.0.0.9"}]},
        }),
    )
    .expect("a plan of a worker");
    insta::assert_json_snapshot!(plan);
}

#[test]
fn a_block_within_a_block_keeps_its_own_variables() {
    let compiled = spec(WORKERS).expect("a plan");
    let variables = json!({"index": 3, "count": 4, "matrix": {"browser": "firefox"},
        "step": {}, "services": {"db": [{"ip": "10.0.0.9"}]}});
    let outer = worker(&compiled.plan, variables).expect("a worker");
    let inner = worker(
        &outer,
        json!({"index": 0, "count": 1, "matrix": {"os": "linux"}}),
    );
    let inner = serde_json::to_string(&inner.expect("a worker of a worker")).expect("json");
    assert!(inner.contains("echo 0 linux firefox"), "{inner}");
}

#[test]
fn variables_of_instances_are_refused_outside_of_them() {
    let error = spec("steps:\n- shell: echo {{ index }}").expect_err("no instance");
    assert!(error.contains("known only in workers"), "{error}");
    for (steps, wrong) in [
        (
            "- parallel: {count: 2, shell: 'echo {{ matrix.x }}'}",
            "no `matrix.x` here",
        ),
        (
            "- parallel: {matrix: {browser: [a]}, shell: 'echo {{ matrix.brwser }}'}",
            "did you mean `matrix.browser`?",
        ),
        (
            "- parallel: {matrix: {a: ['{{ shardIndex }}']}, shell: echo}",
            "known only in workers",
        ),
        (
            "- execute: {workflows: [{name: a, config: {b: '{{ shard.files }}'}}]}",
            "no `shard.files` here",
        ),
        (
            "- services: {db: {shell: 'echo {{ matrix.x.y }}'}}",
            "no `matrix.x.y` here",
        ),
    ] {
        let error = spec(&format!("steps:\n{steps}")).expect_err("nobody knows it");
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn variables_of_instances_around_are_known_also_in_templates() {
    for steps in [
        "- parallel:\n    matrix: {os: [a]}\n    services: {s: {shell: 'echo {{ matrix.os }} {{ shardIndex }}'}}\n    shell: echo",
        "- execute: {workflows: [{name: '{{ matrix.os.name }}', matrix: {os: [a]}}]}",
        "- parallel: {shards: {f: [1]}, transfer: [{from: /data, files: ['{{ shard.f.0 }}']}], shell: echo}",
    ] {
        spec(&format!("steps:\n{steps}")).expect("it is known");
    }
    let head = "apiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflow";
    let template = format!(
        "---\n{head}Template\nmetadata: {{name: t}}\nspec: {{steps: [{{shell: 'echo {{{{ shardIndex }}}}'}}]}}\n"
    );
    let within = |step: &str| {
        documents(&format!(
            "{head}\nmetadata: {{name: w}}\nspec: {{steps: [{step}]}}\n{template}"
        ))
    };
    within("{parallel: {count: 2, template: {name: t}}}").expect("it is known");
    let error = within("{template: {name: t}}").expect_err("nobody knows it");
    assert!(error.contains("known only in workers"), "{error}");
}

#[test]
fn a_service_without_anything_to_run_is_refused() {
    let error = spec("services: {none: {timeout: 5s}}\nsteps: [{shell: echo}]");
    let error = error.expect_err("nothing to run");
    assert!(
        error.contains("the service `none` has nothing to run"),
        "{error}"
    );
    for good in ["image: x", "command: [x]", "shell: x"] {
        spec(&format!(
            "services: {{one: {{{good}}}}}\nsteps: [{{shell: echo}}]"
        ))
        .expect("a plan");
    }
}

#[test]
fn services_have_only_global_variables_of_their_workflow() {
    let compiled = spec(
        r#"
container:
  image: alpine:3
  env: [{name: A, value: a, global: true}, {name: B, value: b}]
services:
  db:
    image: postgres:17
    env: [{name: C, value: "{{ index }}"}]
    readinessProbe: {tcpSocket: {port: 5432}}
    restartPolicy: Never
steps:
- shell: echo {{ services.db.0.ip }}
"#,
    )
    .expect("a plan");
    let service = &services(&compiled.plan)[0];
    let variables = json!({"index": 0, "count": 1});
    let receive = Receive {
        execution: "parent".to_owned(),
        path: "x.tar.gz".to_owned(),
        to: "/data".to_owned(),
    };
    let plan = child(&Child {
        parent: &compiled.plan,
        spec: &service.spec,
        variables: variables.as_object().expect("a map"),
        id: "child-1",
        given: &Given {
            receive: vec![receive],
            send: Vec::new(),
        },
        rerun: &Rerun::default(),
        service: Some(service),
    });
    insta::assert_json_snapshot!(plan.expect("a plan of a service").plan);
}

#[test]
fn the_script_of_a_service_may_name_secrets() {
    let script = "services:\n  db: {image: x, shell: 'run {{ secret(\"db\", \"password\") }}'}\nsteps: [{shell: x}]";
    let plan = spec(script).expect("it is good").plan;
    let service = child(&Child {
        parent: &plan,
        spec: &services(&plan)[0].spec,
        variables: &Map::new(),
        id: "child-1",
        given: &Given::default(),
        rerun: &Rerun::default(),
        service: Some(&services(&plan)[0]),
    });
    let variables = &service.expect("it is good").plan.containers[0].env_from_cluster;
    assert_eq!(variables[0]["name"], "SECRET_DB_PASSWORD");
}

#[test]
fn suites_name_workflows_or_select_them() {
    let compiled = spec(
        r#"
steps:
- execute:
    parallelism: 2
    workflows:
    - name: "smoke"
      config: {url: "{{ step.a.outputs.url }}", n: 3}
      matrix: {region: [east, west]}
    - selector:
        matchLabels: {tier: fast}
        matchExpressions: [{key: os, operator: In, values: [linux]}]
"#,
    )
    .expect("a plan");
    insta::assert_json_snapshot!(compiled.plan.steps);
}

#[test]
fn what_is_wrong_with_blocks_is_told_with_its_place() {
    let error = spec(
        r#"
services:
  "a b": {image: x}
  web: {image: x, restartPolicy: Always, readinessProbe: {httpget: {}}}
steps:
- parallel: {count: -1, shell: echo}
- parallel: {matrix: {a: 5}, steps: []}
- parallel: {maxCount: x, shel: y}
- execute: {workflows: [{}, {name: a, selector: {}}, {selector: {matchExpressions: [{key: a, operator: Is}]}}]}
- execute: {tests: [{name: x}], workflows: [{name: a}]}
"#,
    )
    .expect_err("much is wrong");
    insta::assert_snapshot!(error);
}

#[test]
fn a_template_with_steps_is_refused_for_services() {
    let text = r"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflowTemplate
metadata: {name: t}
spec: {steps: [{shell: echo}]}
---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: w}
spec:
  services: {db: {image: x, use: [{name: t}]}}
  steps: [{shell: echo}]
";
    let error = documents(text).expect_err("the template has steps");
    assert!(error.contains("steps or services"), "{error}");
}

#[test]
fn an_empty_matrix_is_a_warning_that_says_so() {
    let compiled = spec("steps:\n- parallel: {matrix: {a: []}, shell: echo}").expect("a plan");
    let warnings: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings.iter().any(|text| text.contains("matrix of a (0)")),
        "{warnings:?}"
    );
}

#[test]
fn a_child_may_ask_for_no_other_credentials_than_its_parent_knew_of() {
    let plan = spec(
        "container: {env: [{name: T, value: '{{ credential(\"env\") }}'}]}\n\
         steps:\n- parallel:\n    matrix: {user: [ann, bob]}\n    shell: 'echo {{ credential(matrix.user) }}'",
    )
    .expect("it is good")
    .plan;
    assert!(
        parallel(&plan).env.is_empty(),
        "not for the conductor's texts"
    );
    let ann = worker(&plan, json!({"index": 0, "matrix": {"user": "ann"}})).expect("it is known");
    assert_eq!(ann.credentials, ["ann", "env"].map(str::to_owned).into());
    // What an agent tells of an instance may be anything.
    let forged = worker(&plan, json!({"index": 0, "matrix": {"user": "root"}}));
    let refused = forged.expect_err("it was not known");
    assert!(refused.contains("`root` is not among those"), "{refused}");
}

#[test]
fn workers_have_claims_of_their_own_and_may_mount_those_of_their_workflow() {
    let volumes = |own: &str| {
        format!(
            "pvcs: {{cache: {{accessModes: [ReadWriteMany]}}}}
steps:
- parallel:
    pvcs: {{own: {{accessModes: [ReadWriteOnce]}}}}
    pod:
      volumes:
      - {{name: a, persistentVolumeClaim: {{claimName: '{{{{ pvcs.cache.name }}}}'}}}}
      - {{name: b, persistentVolumeClaim: {{claimName: '{{{{ pvcs.{own}.name }}}}'}}}}
    shell: x"
        )
    };
    let plan = spec(&volumes("own")).unwrap().plan;
    let cache = "muster-0190a6f0-cache".to_owned();
    assert!(plan.pod.claims.contains_key(&cache));
    let worker = worker(&plan, json!({})).unwrap();
    let [own] = Vec::from_iter(worker.pod.claims.keys())[..] else {
        panic!("{:?}", worker.pod.claims);
    };
    assert!(own.ends_with("-own"), "{own}");
    assert_eq!(Vec::from_iter(&worker.pod.claims_above), [&cache]);
    let volumes = &worker.pod.spec["volumes"];
    assert_eq!(volumes[0]["persistentVolumeClaim"]["claimName"], cache);
    assert_eq!(volumes[1]["persistentVolumeClaim"]["claimName"], **own);

    let only_own = "steps:
- parallel:
    pvcs: {own: {accessModes: [ReadWriteOnce]}}
    shell: echo {{ pvcs.own.name }}";
    assert_eq!(spec(only_own).map(|_| ()), Ok(()));
    for wanted in ["none", "mine"] {
        let manifest =
            format!("steps:\n- {{parallel: {{shell: 'echo {{{{ pvcs.{wanted}.name }}}}'}}}}");
        let error = spec(&manifest).unwrap_err();
        assert!(
            error.contains(&format!("there is no claim `{wanted}`")),
            "{error}"
        );
    }
}

#[test]
fn shards_are_balanced_only_where_it_is_asked_for() {
    let balance = |strategy: &str| {
        let compiled = spec(&format!(
            "steps: [{{parallel: {{{strategy}, shell: echo}}}}]"
        ));
        let plan = serde_json::to_value(compiled.expect("it compiles").plan);
        let plan = plan.expect("a plan").to_string();
        plan.contains(r#""balance":"duration""#)
    };
    assert!(!balance("count: 2, shards: {f: [a, b]}"));
    assert!(!balance("count: 2, shards: {f: [a, b]}, balance: count"));
    assert!(balance("count: 2, shards: {f: [a, b]}, balance: duration"));
    for (strategy, told) in [
        (
            "shards: {f: [a]}, balance: time",
            "shards can not be balanced by `time`; allowed: count, duration",
        ),
        ("count: 2, balance: duration", "there are no `shards` here"),
        ("shards: {f: [a]}, balance: [duration]", "expected text"),
    ] {
        let refused = spec(&format!(
            "steps: [{{parallel: {{{strategy}, shell: echo}}}}]"
        ));
        let refused = refused.expect_err("it is refused");
        assert!(refused.contains(told), "{refused}");
    }
}

#[test]
fn a_worker_runs_again_what_it_has_failed_itself() {
    let text = r#"
steps:
- shell: 'go test {{ rerun.go }}'
  container: {env: [{name: OF, value: "{{ rerun.of }}"}]}
- parallel:
    count: 2
    shell: 'pytest {{ rerun.pytest }} # {{ rerun.of }}'
- parallel: {count: 1, shell: 'echo {{ rerun.typo }}'}
"#;
    let plan = spec(text).expect("it is good").plan;
    let of = serde_json::to_string(&plan).expect("JSON");
    assert!(of.contains("go test \""), "nothing is run again: {of}");
    assert!(!plan.context.contains_key("rerun"), "it is put in");
    let rerun = Rerun {
        of: "smoke-3.s2.1".to_owned(),
        tests: vec![FailedTest {
            report: "report.xml".to_owned(),
            format: "junit".to_owned(),
            class: "test_a".to_owned(),
            name: "test_one".to_owned(),
            ..FailedTest::default()
        }],
    };
    let compiled = child(&Child {
        parent: &plan,
        spec: &parallel(&plan).spec,
        variables: &Map::new(),
        id: "child-1",
        given: &Given::default(),
        rerun: &rerun,
        service: None,
    });
    let worker = compiled.expect("it is good").plan;
    let text = serde_json::to_string(&worker).expect("JSON");
    assert!(
        text.contains("pytest test_a.py::test_one # smoke-3.s2.1"),
        "{text}"
    );
    let told = worker.env.iter().find(|it| it.name == "MUSTER_RERUN_OF");
    assert_eq!(told.map(|it| it.value.as_str()), Some("smoke-3.s2.1"));
    assert!(!worker.context.contains_key("rerun"), "it is put in");
}

#[test]
fn a_name_that_no_rerun_has_is_refused_with_a_cure() {
    let refused = spec("steps: [{shell: 'pytest {{ rerun.pytst }}'}]").expect_err("it is wrong");
    assert!(refused.contains("did you mean `pytest`?"), "{refused}");
}
