//! The JSON Schema against manifests: what runs is valid, what is broken is not.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of test functions"
)]

use std::path::{Path, PathBuf};

use jsonschema::{Validator, draft202012};
use muster_spec::json_schema::{kinds, schema};
use muster_spec::manifest;
use muster_spec::yaml::{Limits, Node, read};
use serde_json::Value;

fn validator(kind: Option<&str>) -> Validator {
    let schema = schema(kind);
    draft202012::meta::validate(&schema).unwrap_or_else(|error| panic!("{error}"));
    draft202012::new(&schema).unwrap()
}

/// All YAML files of the repository that hold manifests, and the blocks of the language guide.
fn texts() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut texts = Vec::new();
    for folder in [
        "tests/conformance/manifests",
        "examples",
        "control-plane/spec/src/compile/builtin",
    ] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                texts.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let guide = root.join("docs/language.md");
    let text = std::fs::read_to_string(&guide).unwrap();
    let blocks = text.split("```yaml\n").skip(1);
    texts.extend(blocks.map(|block| {
        let (block, _) = block.split_once("```").unwrap();
        (guide.clone(), block.to_owned())
    }));
    texts
}

/// Whether the reader takes a document by itself.
fn is_read(node: &Node) -> bool {
    manifest::parse(&node.to_value().to_string(), Limits::default()).is_ok()
}

#[test]
fn what_the_reader_takes_is_valid_and_what_it_refuses_is_not() {
    let all = validator(None);
    let mut seen = (0, 0);
    for (path, text) in texts() {
        for node in read(&text, Limits::default()).unwrap() {
            let value = node.to_value();
            let errors: Vec<String> = all
                .iter_errors(&value)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            let name = &value["metadata"]["name"];
            // What the compiler refuses may be valid here or not: the schema knows single fields.
            let expected = &value["metadata"]["annotations"]["conformance.muster.dev/expect"];
            match is_read(&node) {
                true if expected == "refused" => {}
                true => {
                    seen.0 += 1;
                    assert!(errors.is_empty(), "{}: {name}: {errors:#?}", path.display());
                }
                false => {
                    seen.1 += 1;
                    assert!(
                        !errors.is_empty(),
                        "{}: {name} is refused by the reader alone",
                        path.display()
                    );
                }
            }
        }
    }
    assert!(seen.0 > 80 && seen.1 > 0, "{seen:?}");
}

fn document(kind: &str, spec: &str) -> Value {
    let text =
        format!("apiVersion: muster.dev/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}");
    read(&text, Limits::default()).unwrap()[0].to_value()
}

#[test]
fn broken_documents_are_not_valid() {
    let all = validator(None);
    assert!(all.is_valid(&document("TestWorkflow", "{steps: [{shell: echo}]}")));
    for spec in [
        "{stps: []}",
        "{steps: [{shel: echo}]}",
        "{steps: [{steps: [{steps: [{shell: [a]}]}]}]}",
        "{steps: [{id: Not-An-Id}]}",
        "{steps: [{retry: {until: passed}}]}",
        "{steps: [{retry: {count: 0}}]}",
        "{steps: [{timeout: soon}]}",
        "{steps: [{optional: perhaps}]}",
        "{steps: [{artifacts: {paths: []}}]}",
        "{steps: [{parallel: {count: 2, fetch: [{to: /x}]}}]}",
        "{steps: [{execute: {workflows: [{name: a, selector: {matchLabels: {a: b}}}]}}]}",
        "{steps: [{execute: {workflows: [{selector: {matchExpressions: [{key: a, operator: Is}]}}]}}]}",
        "{services: {'no name': {image: x}}}",
        "{services: {db: {restartPolicy: Always}}}",
        "{config: {a: {type: int}}}",
        "{container: {env: [{name: A, value: a, valueFrom: {secretKeyRef: {}}}]}}",
        "{container: {securityContext: {runAsUsr: 5}}}",
        "{content: {git: {retry: {count: 21}}}}",
        "{content: {files: [{path: /a, mode: 99999}]}}",
        "{pod: {volumes: {}}}",
        "{pvcs: {Data: {}}}",
        "{use: [{config: {}}]}",
        "[]",
    ] {
        assert!(!all.is_valid(&document("TestWorkflow", spec)), "{spec}");
    }
    for (kind, spec) in [
        ("TestWorkflowExecution", "{}"),
        (
            "TestWorkflowExecution",
            "{testWorkflow: {name: a}, executionRequest: {confg: {}}}",
        ),
        ("TestWorkflowTemplate", "{step: []}"),
        ("TestWorkflw", "{}"),
    ] {
        assert!(!all.is_valid(&document(kind, spec)), "{kind} {spec}");
    }
}

#[test]
fn the_schema_of_one_kind_takes_no_other() {
    let execution = "{testWorkflow: {name: a}}";
    for kind in kinds() {
        let one = validator(Some(kind));
        for other in kinds() {
            let spec = if *other == "TestWorkflowExecution" {
                execution
            } else {
                "{}"
            };
            assert_eq!(
                one.is_valid(&document(other, spec)),
                kind == other,
                "{kind} {other}"
            );
        }
    }
}
