//! Templates in templates, and the global template.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of test functions"
)]

use std::collections::BTreeMap;

use muster_spec::compile::{
    Compiled, ExecutionInfo, Findings, Input, MAX_TEMPLATE_DEPTH, Undeclared, builtin_templates,
    check, check_template, compile,
};
use muster_spec::manifest::{Document, parse};
use muster_spec::plan::{Operation, Step};
use muster_spec::problem::Problem;
use muster_spec::schema::{Template, Workflow};
use muster_spec::yaml::Limits;

/// Reads documents given as kind, name and `spec`.
fn read(documents: &[(&str, &str, &str)]) -> (Workflow, Vec<Template>) {
    let mut text = String::new();
    for (kind, name, spec) in documents {
        let spec = spec.replace('\n', "\n  ");
        text.push_str(&format!(
            "---\napiVersion: muster.dev/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  {spec}\n"
        ));
    }
    let mut workflow = None;
    let mut templates = Vec::new();
    for document in parse(&text, Limits::default()).unwrap_or_else(|e| panic!("{e}\n{text}")) {
        match document {
            Document::Workflow(read) => workflow = Some(read),
            Document::Template(template) => templates.push(template),
            Document::Request(_) | Document::Foreign(_) => {}
        }
    }
    (workflow.unwrap(), templates)
}

fn run_with(
    workflow: &Workflow,
    templates: &[Template],
    global: Option<&Template>,
) -> Result<Compiled, String> {
    let input = Input {
        workflow,
        templates,
        global,
        config: &BTreeMap::new(),
        undeclared: Undeclared::Refused,
        execution: &ExecutionInfo::default(),
    };
    compile(&input).map_err(|problems| problems.to_string())
}

fn run(documents: &[(&str, &str, &str)]) -> Result<Compiled, String> {
    let (workflow, templates) = read(documents);
    run_with(&workflow, &templates, None)
}

/// The scripts of all steps, in order.
fn scripts(compiled: &Compiled) -> Vec<String> {
    let plan = serde_json::to_value(&compiled.plan.steps).unwrap();
    let mut found = Vec::new();
    gather(&plan, "script", &mut found);
    found
}

fn gather(value: &serde_json::Value, key: &str, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                match value.as_str() {
                    Some(text) if name == key => found.push(text.to_owned()),
                    _ => gather(value, key, found),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|it| gather(it, key, found)),
        _ => {}
    }
}

const TEMPLATE: &str = "TestWorkflowTemplate";
const WORKFLOW: &str = "TestWorkflow";

#[test]
fn templates_use_templates_with_values_passed_on() {
    let compiled = run(&[
        (TEMPLATE, "inner", "config: {w: {type: string}}\nsteps: [{shell: 'inner {{ config.w }}'}]\nafter: [{shell: last}]"),
        (TEMPLATE, "middle", "config: {v: {type: string}}\nuse: [{name: inner, config: {w: '{{ config.v }}!'}}]\nsteps: [{shell: middle}]"),
        (TEMPLATE, "step", "steps: [{template: {name: inner, config: {w: in-step}}}]"),
        (WORKFLOW, "w", "use: [{name: middle, config: {v: hi}}]\nsteps: [{template: {name: step}}, {shell: own}]"),
    ])
    .unwrap();
    assert_eq!(
        scripts(&compiled),
        [
            "inner hi!",
            "middle",
            "inner in-step",
            "last",
            "own",
            "last"
        ]
    );
}

#[test]
fn a_cycle_of_templates_is_refused_with_its_chain() {
    let error = run(&[
        (TEMPLATE, "a", "steps: [{use: [{name: b}]}]"),
        (TEMPLATE, "b", "steps: [{steps: [{template: {name: c}}]}]"),
        (TEMPLATE, "c", "services: {db: {use: [{name: a}]}}"),
        (WORKFLOW, "w", "use: [{name: a}]\nsteps: [{shell: own}]"),
    ])
    .unwrap_err();
    assert!(
        error.contains("c, spec.services.db.use[0].name: templates use one another: a → b → c → a"),
        "{error}"
    );
    let own = run(&[
        (TEMPLATE, "a", "use: [{name: a}]\nsteps: [{shell: x}]"),
        (WORKFLOW, "w", "steps: [{template: {name: a}}]"),
    ]);
    assert!(own.unwrap_err().contains("use one another: a → a"));
}

#[test]
fn what_is_wrong_in_a_chain_of_templates_names_the_chain() {
    let error = run(&[
        (TEMPLATE, "a", "use: [{name: b}]"),
        (TEMPLATE, "b", "use: [{name: official/k6/v2}]"),
        (WORKFLOW, "w", "use: [{name: a}]\nsteps: [{shell: own}]"),
    ])
    .unwrap_err();
    assert!(
        error.contains("b, spec.use[0].name: there is no template `official/k6/v2` (in a → b)"),
        "{error}"
    );
    let error = run(&[
        (TEMPLATE, "a", "use: [{name: b}]"),
        (TEMPLATE, "b", "config: {needed: {type: string}}"),
        (WORKFLOW, "w", "use: [{name: a}]\nsteps: [{shell: own}]"),
    ])
    .unwrap_err();
    assert!(
        error.contains("the parameter `needed` has no value (in a)"),
        "{error}"
    );
}

#[test]
fn templates_may_be_so_deep_and_no_deeper() {
    let chain = |length: usize| {
        let names: Vec<String> = (0..=length).map(|number| format!("t{number}")).collect();
        let specs: Vec<String> = (1..=length)
            .map(|number| format!("use: [{{name: t{number}}}]"))
            .chain(["steps: [{shell: end}]".to_owned()])
            .collect();
        let mut documents: Vec<(&str, &str, &str)> = Vec::new();
        for (name, spec) in names.iter().zip(&specs) {
            documents.push((TEMPLATE, name, spec));
        }
        documents.push((WORKFLOW, "w", "use: [{name: t0}]\nsteps: [{shell: own}]"));
        run(&documents)
    };
    assert_eq!(
        scripts(&chain(MAX_TEMPLATE_DEPTH - 1).unwrap()),
        ["end", "own"]
    );
    let error = chain(MAX_TEMPLATE_DEPTH).unwrap_err();
    assert!(
        error.contains("templates in templates, more than 16 deep (in t0 → t1"),
        "{error}"
    );
}

#[test]
fn templates_bring_steps_services_and_workers() {
    let compiled = run(&[
        (TEMPLATE, "step", "steps: [{shell: of-step}]"),
        (TEMPLATE, "settings", "container: {image: settings}"),
        (
            TEMPLATE,
            "all",
            "services:\n  db: {use: [{name: settings}]}\nsteps:\n- parallel: {count: 2, use: [{name: step}], shell: worker}\n- steps: [{shell: nested}]",
        ),
        (WORKFLOW, "w", "use: [{name: all}]\nsteps: [{shell: own}]"),
    ])
    .unwrap();
    let json = serde_json::to_string(&compiled.plan).unwrap();
    for expected in ["of-step", "worker", "nested", "own", "settings"] {
        assert!(json.contains(expected), "{expected}\n{json}");
    }
}

#[test]
fn the_global_template_is_below_all_and_reaches_workers_and_services() {
    let (workflow, mut templates) = read(&[
        (
            TEMPLATE,
            "base",
            "container:\n  image: base\n  env: [{name: SECRET, value: not-for-services}]\n  securityContext: {runAsNonRoot: true}\npod: {labels: {team: a}}\nsetup: [{shell: of-base}]\nservices: {log: {image: logger}}\nsteps: [{parallel: {count: 1, shell: base-worker}}]\nexecution: {target: {match: {region: east}}}",
        ),
        (
            TEMPLATE,
            "mine",
            "container: {image: mine}\nsteps: [{shell: of-mine}]",
        ),
        (
            WORKFLOW,
            "w",
            "use: [{name: mine}]\nservices: {db: {image: postgres}}\nsteps:\n- services: {cache: {image: redis}}\n  parallel: {count: 2, shell: worker, steps: [{parallel: {count: 1, shell: inner}}]}",
        ),
    ]);
    let base = templates.remove(0);
    let compiled = run_with(&workflow, &templates, Some(&base)).unwrap();
    assert_eq!(
        compiled.target.as_ref().unwrap().matches["region"],
        ["east"]
    );
    let images = compiled
        .plan
        .containers
        .iter()
        .map(|it| it.image.as_deref());
    assert!(
        images.clone().all(|image| image == Some("mine")),
        "{:?}",
        images.collect::<Vec<_>>()
    );
    let mut blocks = Vec::new();
    children(&compiled.plan.steps, &mut blocks);
    assert_eq!(
        blocks.len(),
        5,
        "db, log, cache and two parallels: {blocks:#?}"
    );
    for block in &blocks {
        assert!(
            block.contains("runAsNonRoot") && block.contains("\"team\""),
            "{block}"
        );
        let service = !block.contains("\"type\":\"parallel\"");
        assert!(!service || !block.contains("SECRET"), "{block}");
    }
    let worker = blocks.iter().find(|it| it.contains("\"worker\"")).unwrap();
    assert_eq!(
        worker.matches("of-base").count(),
        2,
        "worker and its own worker: {worker}"
    );
    assert!(!worker.contains("region"), "{worker}");
}

/// What services and workers are compiled from.
fn children(steps: &[Step], found: &mut Vec<String>) {
    for step in steps {
        for operation in &step.operations {
            match operation {
                Operation::Steps { steps } => children(steps, found),
                Operation::Parallel { .. } => found.push(serde_json::to_string(operation).unwrap()),
                Operation::Services { services, .. } => {
                    let all = services
                        .iter()
                        .map(|it| serde_json::to_string(&it.spec).unwrap());
                    found.extend(all);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_global_template_with_a_parameter_without_default_is_refused_by_name() {
    let (workflow, templates) = read(&[
        (TEMPLATE, "base", "config: {needed: {type: string}}"),
        (WORKFLOW, "w", "steps: [{shell: own}]"),
    ]);
    let error = run_with(&workflow, &[], templates.first()).unwrap_err();
    assert!(
        error.starts_with("global template base: the parameter `needed` has no value"),
        "{error}"
    );
}

#[test]
fn uses_of_templates_are_counted() {
    let mut documents = Vec::new();
    let specs: Vec<(String, String)> = (0..12)
        .map(|number| {
            let next = number + 1;
            (
                format!("t{number}"),
                format!("use: [{{name: t{next}}}, {{name: t{next}}}, {{name: t{next}}}]"),
            )
        })
        .collect();
    for (name, spec) in &specs {
        documents.push((TEMPLATE, name.as_str(), spec.as_str()));
    }
    documents.push((TEMPLATE, "t12", "container: {image: x}"));
    documents.push((WORKFLOW, "w", "use: [{name: t0}]\nsteps: [{shell: own}]"));
    let error = run(&documents).unwrap_err();
    assert!(
        error.contains("more than 10000 uses of templates"),
        "{error}"
    );
}

/// Names, images with the default version, and what `run` is when nothing is given.
const OFFICIAL: [(&str, &str, &str); 17] = [
    (
        "artillery/v1",
        "artilleryio/artillery:2.0.23",
        "artillery run script.yaml",
    ),
    (
        "artillery/beta",
        "artilleryio/artillery:2.0.9",
        "artillery run",
    ),
    ("cypress/v1", "cypress/included:13.6.4", "npx cypress run"),
    ("cypress/beta", "cypress/included:13.6.4", "npx cypress run"),
    (
        "gradle/v1",
        "gradle:8.7.0-jdk21-alpine",
        "gradle --no-daemon test",
    ),
    (
        "gradle/beta",
        "gradle:8.7.0-jdk21-alpine",
        "gradle --no-daemon test",
    ),
    ("jmeter/v1", "justb4/jmeter:5.5", "jmeter -n"),
    ("jmeter/v2", "alpine/jmeter:5.6", "jmeter -n"),
    ("jmeter/beta", "justb4/jmeter:5.5", "jmeter -n"),
    ("k6/v1", "grafana/k6:1.1.0", "k6 run k6.js"),
    ("k6/beta", "grafana/k6:0.49.0", "k6 run"),
    (
        "maven/v1",
        "maven:3.9.6-eclipse-temurin-22-alpine",
        "mvn test",
    ),
    (
        "maven/beta",
        "maven:3.9.6-eclipse-temurin-22-alpine",
        "mvn test",
    ),
    (
        "playwright/v1",
        "mcr.microsoft.com/playwright:v1.43.0",
        "npx playwright test",
    ),
    (
        "playwright/beta",
        "mcr.microsoft.com/playwright:v1.43.0",
        "npx playwright test",
    ),
    ("postman/v1", "postman/newman:6-alpine", "newman run"),
    ("postman/beta", "postman/newman:6-alpine", "newman run"),
];

#[test]
fn official_templates_compile_with_and_without_their_parameters() {
    assert_eq!(builtin_templates().len(), OFFICIAL.len() + 1);
    for (name, image, command) in OFFICIAL {
        let stored = format!("official--{}", name.replace('/', "--"));
        let template = builtin_templates()
            .iter()
            .find(|it| it.metadata.name == stored);
        let template = template.unwrap_or_else(|| panic!("{stored}"));
        assert!(template.description.is_some(), "{stored}");
        let plain = run(&[(
            WORKFLOW,
            "w",
            &format!("steps: [{{template: {{name: official/{name}}}}}]"),
        )]);
        let plain = plain.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            plain.plan.containers[0].image.as_deref(),
            Some(image),
            "{name}"
        );
        assert!(scripts(&plain).concat().contains(command), "{name}");

        let config = template.spec.config.keys();
        let config: Vec<String> = config.map(|key| format!("{key}: my-{key}")).collect();
        let given = run(&[(
            WORKFLOW,
            "w",
            &format!(
                "use: [{{name: official/{name}, config: {{{}}}}}]\nsteps: [{{shell: own}}]",
                config.join(", ")
            ),
        )]);
        let given = given.unwrap_or_else(|error| panic!("{name}: {error}"));
        let image = given.plan.containers[0]
            .image
            .as_deref()
            .unwrap_or_default();
        assert!(image.ends_with("my-version"), "{name}: {image}");
        let scripts = scripts(&given).concat();
        for key in template.spec.config.keys().filter(|key| *key != "version") {
            assert!(scripts.contains(&format!("my-{key}")), "{name}: {scripts}");
        }
    }
}

#[test]
fn a_template_of_ones_own_wins_over_an_official_one() {
    let compiled = run(&[
        (TEMPLATE, "official--k6--v1", "steps: [{shell: mine}]"),
        (WORKFLOW, "w", "steps: [{template: {name: official/k6/v1}}]"),
    ]);
    assert_eq!(scripts(&compiled.unwrap()), ["mine"]);
}

#[test]
fn a_misspelt_official_template_is_suggested() {
    let error = run(&[(WORKFLOW, "w", "steps: [{template: {name: official/k7/v1}}]")]);
    let error = error.unwrap_err();
    assert!(
        error.contains("did you mean `official--k6--v1`?"),
        "{error}"
    );
}

/// What is found, apart from line and column.
fn told(problems: &[Problem]) -> Vec<String> {
    let line = |problem: &Problem| format!("{}: {}", problem.place.path, problem.message);
    problems.iter().map(line).collect()
}

fn check_of(documents: &[(&str, &str, &str)]) -> Findings {
    let (workflow, templates) = read(documents);
    check(&Input {
        workflow: &workflow,
        templates: &templates,
        global: None,
        config: &BTreeMap::new(),
        undeclared: Undeclared::Refused,
        execution: &ExecutionInfo::default(),
    })
}

fn checked(documents: &[(&str, &str, &str)]) -> Vec<String> {
    let findings = check_of(documents);
    assert!(findings.warnings.is_empty(), "{:?}", findings.warnings);
    told(&findings.problems)
}

#[test]
fn a_check_names_all_that_is_wrong_beside_a_template_that_is_not_there() {
    let found = checked(&[(
        "TestWorkflow",
        "w",
        "use: [{name: gone}]
steps:
- {shell: 'echo {{ config.nope }}', timeout: 5x, delay: 1d}
- {content: {git: {}}, shell: x}
- parallel: {}
- run: {args: [x]}
- {use: [{name: gone}], content: {git: {}}}
- {template: {name: gone}, content: {files: [{path: /x, content: y}]}}
- parallel: {use: [{name: gone}]}
- parallel: {count: x, shell: y}
- parallel: {matrix: {browser: '1'}, shell: y}
- {shell: x, condition: step.of_the_template.passed}",
    )]);
    assert_eq!(
        found,
        [
            "spec.use[0].name: there is no template `gone`",
            "spec.steps[0].shell: there is no parameter `nope`, and none is declared here",
            "spec.steps[0].timeout: '5x' is not a duration: write numbers with units h, m, s or ms, such as `90s` or `1m30s`",
            "spec.steps[0].delay: '1d' is not a duration: write numbers with units h, m, s or ms, such as `90s` or `1m30s`",
            "spec.steps[1].content.git: the URI of the repository is missing",
            "spec.steps[2].parallel: the workers have nothing to do",
            "spec.steps[4].use[0].name: there is no template `gone`",
            "spec.steps[5].template.name: there is no template `gone`",
            "spec.steps[6].parallel.use[0].name: there is no template `gone`",
            "spec.steps[7].parallel.count: there is no variable `x`",
            "spec.steps[8].parallel.matrix.browser: expected a list, `1` is 1; make one of a text with `split` or `json`",
        ]
    );
}

#[test]
fn a_check_says_nothing_of_what_parameters_without_a_value_decide() {
    let parameters = "config:
  text: {type: string}
  number: {type: integer}
  made: {type: string, default: '{{ config.text }}s'}
  all: {type: string, default: '{{ tojson(config) }}'}";
    let fields = "content:
  tarball: [{url: '{{ config.text }}', path: '{{ config.text }}'}]
  git: {uri: '{{ config.text }}', mountPath: '{{ config.made }}'}
  files: [{path: '{{ config.text }}', content: x}]
container: {image: '{{ config.text }}', resources: {limits: {memory: '{{ config.made }}'}}}
job: {activeDeadlineSeconds: '{{ config.text }}'}
timeouts: {queue: '{{ config.made }}'}
services: {db: {image: '{{ config.text }}', timeout: '{{ config.made }}', count: config.text}}
steps:
- {run: {}, timeout: '{{ config.made }}', delay: '{{ config.all }}'}
- {shell: 'echo {{ credential(config.text) }} {{ secret(config.text, config.made) }}'}
- {shell: 'echo {{ 10 / config.number }}', condition: config.number > 5}
- content:
    files: [{path: '/data/{{ config.text }}', content: x}]
    git: {uri: '{{ config.text }}', mountPath: '/x/{{ config.text }}'}
- parallel: {count: config.text, matrix: {a: config.made}, shell: 'echo {{ matrix.a }}'}
- parallel: {use: [{name: t, config: {seconds: '{{ config.text }}'}}], shell: x}
- {use: [{name: t, config: {seconds: '{{ config.text }}'}}], shell: x}";
    let template = (
        "TestWorkflowTemplate",
        "t",
        "config: {seconds: {type: integer}}
job: {activeDeadlineSeconds: '{{ config.seconds }}'}
steps: [{shell: x, timeout: '{{ config.seconds }}'}]",
    );
    let found = checked(&[
        ("TestWorkflow", "w", &format!("{parameters}\n{fields}")),
        template,
    ]);
    assert_eq!(found, [""; 0]);
    // All that is wrong whatever they are is said.
    let wrong = fields.replace("{{ config.made }}", "{{ config.mode }}");
    let found = checked(&[
        ("TestWorkflow", "w", &format!("{parameters}\n{wrong}")),
        template,
    ]);
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(
        found.iter().all(|line| line.contains("`mode`")),
        "{found:#?}"
    );
}

#[test]
fn templates_are_checked_by_themselves() {
    let (_, templates) = read(&[
        ("TestWorkflow", "w", "steps: [{shell: x}]"),
        (
            "TestWorkflowTemplate",
            "bad",
            "container: {image: '{{ config.nope }}'}\nsteps: [{shell: x, timeout: 5x}]",
        ),
        (
            "TestWorkflowTemplate",
            "good",
            "config: {wait: {type: string}}
content: {git: {revision: main}}
use: [{name: other}]
steps:
- {delay: '{{ config.wait }}', shell: 'echo {{ matrix.browser }} {{ pvcs.cache.name }}'}
- {run: {args: [x]}}",
        ),
        (
            "TestWorkflowTemplate",
            "other",
            "container: {workingDir: /data}",
        ),
        ("TestWorkflowTemplate", "loop", "use: [{name: loop}]"),
        (
            "TestWorkflowTemplate",
            "inside",
            "container: {image: 'app:{{ matrix.version }}', resources: {limits: {cpu: '{{ shard.cpu }}'}}}
content:
  files: [{path: '/data/{{ index }}', content: x}]
  tarball: [{url: 'http://a/{{ matrix.v }}', path: '/data/{{ matrix.v }}'}]
pod: {volumes: [{name: v, persistentVolumeClaim: {claimName: '{{ pvcs.cache.name }}'}}]}
use: [{name: given, config: {tag: '{{ matrix.version }}'}}]
steps:
- run: {image: 'tool:{{ matrix.v }}', args: [x]}
- {shell: x, container: {image: 'app:{{ env.TAG }}{{ matrix.v }}'}}",
        ),
        (
            "TestWorkflowTemplate",
            "given",
            "config: {tag: {}}
container: {image: 'base:{{ config.tag }}'}
steps: [{run: {image: 'tool:{{ config.tag }}', args: ['{{ tojson(config) }}']}}]",
        ),
    ]);
    let found: Vec<_> = templates
        .iter()
        .map(|template| {
            told(&check_template(template, &templates, "2026-01-02T15:04:05Z").problems)
        })
        .collect();
    assert_eq!(
        found[0],
        [
            "spec.container.image: there is no parameter `nope`, and none is declared here",
            "spec.steps[0].timeout: '5x' is not a duration: write numbers with units h, m, s or ms, such as `90s` or `1m30s`",
        ]
    );
    assert_eq!(found[1], [""; 0]);
    assert_eq!(found[2], [""; 0]);
    assert_eq!(
        found[3],
        ["spec.use[0].name: templates use one another: loop → loop (in loop)"]
    );
    // What workers and services know is known where it is used; what the pod knows is too late there.
    assert_eq!(
        found[4],
        [
            "spec.steps[1].container.image: `env.TAG` is known only in the pod, too late for this field"
        ]
    );
    assert_eq!(found[5], [""; 0]);
}

#[test]
fn what_is_not_known_in_one_use_of_a_template_hides_nothing_of_another() {
    let found = checked(&[
        (
            "TestWorkflow",
            "w",
            "config: {wait: {}, tag: {}}
steps:
- {template: {name: pause, config: {wait: '{{ config.wait }}', tag: '{{ config.tag }}'}}}
- {template: {name: pause, config: {wait: soon, tag: x}}}
- {shell: x, container: {image: '{{ env.A }}{{ config.tag }}'}}",
        ),
        (
            "TestWorkflowTemplate",
            "pause",
            "config: {wait: {}, tag: {}}
steps: [{delay: '{{ config.wait }}', shell: 'echo {{ shellquote(tojson(config)) }}'}]",
        ),
    ]);
    assert_eq!(
        found,
        [
            "spec.steps[2].container.image: `env.A` is known only in the pod, too late for this field",
            "spec.steps[0].delay: 'soon' is not a duration: write numbers with units h, m, s or ms, such as `90s` or `1m30s`",
        ]
    );
}

#[test]
fn steps_whose_names_are_not_known_yet_may_have_any_id() {
    for (name, warned) in [("Build {{ config.what }}", false), ("Build it", true)] {
        let workflow = format!(
            "config: {{what: {{}}}}
steps:
- {{name: '{name}', shell: x}}
- {{shell: x, condition: step.build_app.passed}}"
        );
        let warnings = check_of(&[("TestWorkflow", "w", &workflow)]).warnings;
        assert_eq!(!warnings.is_empty(), warned, "{warnings:?}");
    }
}

#[test]
fn variables_of_steps_that_are_nothing_are_warned_of() {
    let (workflow, templates) = read(&[(
        "TestWorkflow",
        "w",
        "steps:
- {id: build, shell: x, retry: {count: 2, until: self.pased || self.passed}}
- {name: Run all, shell: 'echo {{ step.run_all.exitCode }} {{ step.results }} {{ step.build.* }}'}
- {shell: x, condition: step.bild.status == 'passed'}
- {shell: x, condition: step.build.statsu == 'passed'}
- parallel:
    steps:
    - {id: inner, shell: 'echo {{ step.build.outputs.x }} {{ step.inner.passed }}'}
    - {shell: 'echo {{ step.gone.passed }}'}",
    )]);
    let compiled = run_with(&workflow, &templates, None).unwrap();
    assert_eq!(
        told(&compiled.warnings),
        [
            "spec.steps[0].retry.until: the step itself has no `pased`",
            "spec.steps[2].condition: there is no step with the id `bild`",
            "spec.steps[3].condition: a step has no `statsu`",
            "spec.steps[4].parallel.steps[1].shell: there is no step with the id `gone`",
        ]
    );
}

#[test]
fn what_templates_say_of_the_pod_reaches_it_once() {
    let cache = "pvcs: {c: {accessModes: [ReadWriteOnce]}}
pod: {volumes: [{name: c, persistentVolumeClaim: {claimName: '{{ pvcs.c.name }}'}}], imagePullSecrets: [{name: reg}]}
container: {image: app, volumeMounts: [{name: c, mountPath: /c}]}";
    let compiled = run(&[
        (
            WORKFLOW,
            "w",
            "use: [{name: cache}]
services: {db: {use: [{name: cache}], shell: sleep 5}}
steps:
- {use: [{name: cache}], shell: a}
- {template: {name: cache}, shell: b}",
        ),
        (TEMPLATE, "cache", cache),
    ])
    .unwrap();
    let pod = &compiled.plan.pod;
    let claims = Vec::from_iter(pod.claims.keys());
    let [claim] = claims[..] else {
        panic!("{claims:?}");
    };
    assert_eq!(
        pod.spec["volumes"],
        serde_json::json!([{"name": "c", "persistentVolumeClaim": {"claimName": claim}}])
    );
    assert_eq!(
        pod.spec["imagePullSecrets"],
        serde_json::json!([{"name": "reg"}])
    );
    let services = compiled.plan.steps.iter().flat_map(|step| &step.operations);
    let service = services.filter_map(|operation| match operation {
        Operation::Services { services, .. } => services.first(),
        _ => None,
    });
    let spec = service.map(|service| &service.spec).next().unwrap();
    // One of its own: where it is made is known when the service is compiled.
    assert!(spec.claims.contains_key("c"));
    let volumes = &spec.pod.fields["volumes"].value;
    assert_eq!(
        volumes[0]["persistentVolumeClaim"]["claimName"],
        "{{pvcs.c.name}}"
    );
}

#[test]
fn more_is_known_of_parameters_services_and_probes_before_a_run() {
    let findings = check_of(&[(
        "TestWorkflow",
        "w",
        "config: {my-tag: {default: 1.10}, n: {type: number, default: 1.0}}
services:
  db: {shell: x, readinessProbe: {httpGet: {path: /, port: abc}, exec: {command: [x]}, periodSeconds: soon, timeoutSeconds: 0, failureThreshold: }}
  ok: {count: 2, shell: x, timeout: '{{ index + 1 }}m', readinessProbe: {tcpSocket: {port: '{{ 80 + index }}'}}}
steps:
- {shell: 'echo {{ config.my-tag }}'}
- {shell: 'echo {{ services.bd.0.ip }} {{ services.ok.*.ip }}'}
- {parallel: {parallelism: -1, config: {x: {}}, shell: x}}",
    )]);
    assert_eq!(
        told(&findings.problems),
        [
            "spec.services.db.readinessProbe: a probe asks in one way, not in `exec` and `httpGet`",
            "spec.services.db.readinessProbe: `periodSeconds`: expected a whole number from 0 on, found `soon`",
            "spec.services.db.readinessProbe: `httpGet.port`: expected 1 to 65535, found `abc`",
            "spec.steps[0].shell: there is no parameter `my`",
            "spec.steps[0].shell: there is no variable `tag`",
            "spec.steps[2].parallel.parallelism: expected a whole number from 0 on, found -1",
        ]
    );
    let cure = findings.problems[3].cure.as_deref();
    assert_eq!(cure, Some("did you mean `at(config, \"my-tag\")`?"));
    assert_eq!(
        told(&findings.warnings),
        [
            "spec.config.my-tag.default: `1.10` is a number, read as `1.1`",
            "spec.steps[2].parallel.config: `config` has no effect: workers know the parameters of their workflow",
            "spec.steps[1].shell: there is no service `bd`",
        ]
    );
}
