//! `muster lint` of suites, services and what instances know.

use serde_json::Value;

use crate::home::Home;

const HEAD: &str = "apiVersion: testworkflows.testkube.io/v1";

const MANIFEST: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: suite}
spec:
  steps:
  - execute:
      workflows:
      - {name: member, config: {greeting: hi, more: 1}}
      - {name: elsewhere}
---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: member}
spec:
  config: {greeting: {type: string}}
  services: {none: {timeout: 5s}}
  steps:
  - {template: {name: part}}
---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflowTemplate
metadata: {name: part}
spec:
  steps:
  - shell: echo "{{ shardIndex }}"
"#;

/// What `muster lint` finds wrong, as JSON.
fn report(home: &Home, path: &str) -> Value {
    let report = home.muster(["lint", path, "--output", "json"]);
    report.expect(1).json()
}

/// The messages of `problems` or `warnings`.
fn told(report: &Value, list: &str) -> Vec<String> {
    let all = report[list].as_array().unwrap().iter();
    all.map(|it| it["message"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_can_not_run_is_a_problem_and_what_may_be_stored_is_a_warning() {
    let home = Home::new();
    let file = home.write("suite.yaml", MANIFEST);
    let report = report(&home, &file);
    let told = |list| told(&report, list);
    assert_eq!(
        told("problems"),
        [
            "the service `none` has nothing to run",
            "`shardIndex` is known only in workers, services and members of a suite",
        ]
    );
    assert_eq!(
        told("warnings"),
        [
            "there is no parameter `more` of the workflow `member`; it is passed on as text",
            "there is no workflow `elsewhere` among these files",
        ]
    );
}

#[test]
fn files_that_can_not_be_read_are_problems_beside_the_others() {
    let home = Home::new();
    let folder = home.path().join("all");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    write("binary.yaml", b"a: 1\n\xff");
    write("large.yaml", &vec![b'#'; (1 << 20) + 1]);
    std::os::unix::fs::symlink("/nowhere", folder.join("gone.yaml")).unwrap();
    write(
        "last.yaml",
        format!(
            "{HEAD}\nkind: TestWorkflow\nmetadata: {{name: w}}\nspec:\n  use: [{{name: t}}]\n  \
             steps: [{{shell: a, timeout: 5x}}]\n"
        )
        .as_bytes(),
    );
    write(
        "template.yaml",
        format!(
            "# a template\n{HEAD}\nkind: TestWorkflowTemplate\nmetadata: {{name: t}}\nspec:\n  \
             container: {{image: '{{{{ config.nope }}}}'}}\n"
        )
        .as_bytes(),
    );
    let report = report(&home, folder.to_str().unwrap());
    let told: Vec<_> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let file = it["file"].as_str().unwrap().rsplit('/').next().unwrap();
            let message = it["message"].as_str().unwrap();
            (
                file.to_owned(),
                it["line"].as_u64().unwrap(),
                message.to_owned(),
            )
        })
        .collect();
    let expected = [
        ("binary.yaml", 2, "is not UTF-8 text"),
        (
            "gone.yaml",
            0,
            "can not be read: No such file or directory (os error 2)",
        ),
        (
            "large.yaml",
            0,
            "is larger than 1048576 bytes, the most that is allowed",
        ),
        (
            "last.yaml",
            6,
            "'5x' is not a duration: write numbers with units h, m, s or ms, such as `90s` or `1m30s`",
        ),
        (
            "template.yaml",
            6,
            "there is no parameter `nope`, and none is declared here",
        ),
    ];
    assert_eq!(told.len(), expected.len(), "{report:#}");
    for (found, (file, line, message)) in told.iter().zip(expected) {
        assert_eq!(found, &(file.to_owned(), line, message.to_owned()));
    }
}

#[test]
fn what_a_parameter_without_default_decides_is_no_problem() {
    let home = Home::new();
    let file = home.write(
        "open.yaml",
        &format!(
            "{HEAD}\nkind: TestWorkflow\nmetadata: {{name: w}}\nspec:\n  config: {{wait: {{type: \
             string}}}}\n  steps: [{{shell: a, timeout: '{{{{ config.wait }}}}'}}]\n"
        ),
    );
    home.muster(["lint", &file, "--strict"]).expect(0);
}

#[test]
fn a_document_that_breaks_the_schema_hides_no_other() {
    let home = Home::new();
    let document = |kind: &str, name: &str, spec: &str| {
        format!("---\n{HEAD}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let text = [
        document(
            "TestWorkflow",
            "user",
            "{use: [{name: broken}], steps: [{shell: a, timeout: 5x}]}",
        ),
        document("TestWorkflowTemplate", "broken", "{contaner: {}}"),
        document(
            "TestWorkflow",
            "suite",
            "{steps: [{execute: {workflows: [{name: other}]}}]}",
        ),
        document("TestWorkflow", "other", "{steps: [{shel: a}]}"),
    ];
    let file = home.write("all.yaml", &text.concat());
    let report = report(&home, &file);
    let told = report["problems"].as_array().unwrap().iter();
    let told: Vec<_> = told
        .map(|it| (it["document"].clone(), it["path"].clone()))
        .collect();
    let expected = [
        ("user", "spec.steps[0].timeout"),
        ("broken", "spec.contaner"),
        ("other", "spec.steps[0].shel"),
    ];
    let expected = expected.map(|(document, path)| (document.into(), path.into()));
    assert_eq!(told, expected, "{report:#}");
    assert_eq!(
        report["warnings"].as_array().unwrap().len(),
        0,
        "{report:#}"
    );
}

#[test]
fn a_document_alone_in_its_file_that_breaks_the_schema_is_not_missing() {
    let home = Home::new();
    let folder = home.path().join("all");
    std::fs::create_dir(&folder).unwrap();
    for (file, kind, name, spec) in [
        ("broken.yaml", "TestWorkflow", "broken", "{stpes: []}"),
        ("part.yaml", "TestWorkflowTemplate", "part", "{stpes: []}"),
        (
            "suite.yaml",
            "TestWorkflow",
            "suite",
            "{steps: [{execute: {workflows: [{name: broken}, {name: part}]}}]}",
        ),
    ] {
        let text = format!("{HEAD}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n");
        std::fs::write(folder.join(file), text).unwrap();
    }
    let report = report(&home, folder.to_str().unwrap());
    let warnings = report["warnings"].as_array().unwrap();
    // A template of this name is no workflow.
    let [warning] = warnings.as_slice() else {
        panic!("{report:#}");
    };
    assert_eq!(
        warning["message"],
        "there is no workflow `part` among these files"
    );
}

#[test]
fn all_that_is_wrong_at_a_place_is_told_and_the_same_only_once() {
    let home = Home::new();
    let file = home.write(
        "all.yaml",
        &format!(
            "{HEAD}
kind: TestWorkflow
metadata: {{name: one}}
spec: {{steps: [{{template: {{name: part}}}}, {{template: {{name: around}}}}]}}
---
{HEAD}
kind: TestWorkflowTemplate
metadata: {{name: around}}
spec: {{steps: [{{template: {{name: part}}}}]}}
---
{HEAD}
kind: TestWorkflowTemplate
metadata: {{name: part}}
spec: {{steps: [{{shell: '{{{{ config.a }}}} {{{{ config.b }}}}'}}]}}
"
        ),
    );
    assert_eq!(
        told(&report(&home, &file), "problems"),
        [
            "there is no parameter `a`, and none is declared here",
            "there is no parameter `b`, and none is declared here",
        ]
    );
}

#[test]
fn a_request_has_no_part_in_what_a_template_lacks() {
    let home = Home::new();
    let file = home.write(
        "all.yaml",
        &format!(
            "{HEAD}
kind: TestWorkflow
metadata: {{name: w}}
spec: {{config: {{own: {{}}}}, steps: [{{template: {{name: part}}}}]}}
---
{HEAD}
kind: TestWorkflowTemplate
metadata: {{name: part}}
spec: {{config: {{value: {{}}}}, steps: [{{shell: 'echo {{{{ config.value }}}}'}}]}}
---
{HEAD}
kind: TestWorkflowExecution
metadata: {{name: request}}
spec: {{testWorkflow: {{name: w}}}}
"
        ),
    );
    let report = report(&home, &file);
    let told = report["problems"].as_array().unwrap().iter();
    let told: Vec<_> = told
        .map(|it| (it["document"].as_str().unwrap(), &it["message"]))
        .collect();
    assert_eq!(
        told,
        [
            ("w", &"the parameter `value` has no value".into()),
            ("request", &"the parameter `own` has no value".into()),
        ]
    );
}

#[test]
fn values_of_members_are_checked_where_they_are_written() {
    let home = Home::new();
    let file = home.write(
        "all.yaml",
        &format!(
            "{HEAD}
kind: TestWorkflow
metadata: {{name: suite}}
spec:
  steps:
  - execute:
      workflows:
      - {{name: member, config: {{number: abc, name: x}}}}
      - {{name: member, config: {{number: '{{{{ env.NUMBER }}}}'}}}}
---
{HEAD}
kind: TestWorkflow
metadata: {{name: member}}
spec: {{config: {{number: {{type: integer}}, name: {{}}}}, steps: [{{shell: a}}]}}
"
        ),
    );
    assert_eq!(
        told(&report(&home, &file), "problems"),
        [
            "the parameter `number` of the workflow `member` can not be this: expected an integer",
            "the parameter `name` of the workflow `member` has no value",
        ]
    );
}
