//! Workflows written back: every manifest of the conformance suite gives the same when it is read again.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of test functions"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use muster_spec::compile::{ExecutionInfo, HIDDEN, Input, Undeclared, compile};
use muster_spec::manifest::{self, Document};
use muster_spec::schema::Workflow;
use muster_spec::yaml::Limits;

/// The workflow without places, and without what is not written.
fn bare(workflow: &Workflow) -> serde_json::Value {
    let mut value = serde_json::to_value(&workflow.spec).unwrap();
    strip(&mut value);
    let config: Vec<String> = workflow.spec.config.keys().cloned().collect();
    let uses: Vec<String> = workflow
        .uses
        .iter()
        .map(|one| one.name.text.clone())
        .collect();
    serde_json::json!({
        "spec": value,
        "config": config,
        "uses": uses,
        "name": workflow.metadata.name,
        "labels": workflow.metadata.labels,
    })
}

fn strip(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.remove("place");
            map.values_mut().for_each(strip);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn only(text: &str) -> Workflow {
    let documents = manifest::parse(text, Limits::default()).expect("it is read");
    let mut found = documents.into_iter().filter_map(|document| match document {
        Document::Workflow(workflow) => Some(workflow),
        _ => None,
    });
    found.next().expect("a workflow")
}

#[test]
fn what_is_written_is_read_as_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![
        root.join("tests/manifests/whole.yaml"),
        root.join("../../examples/shards.yaml"),
    ];
    let folder = root.join("../../tests/conformance/manifests");
    files.extend(
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    let mut count = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for part in text.split("\n---\n") {
            let Ok(documents) = manifest::parse(part, Limits::default()) else {
                continue;
            };
            for document in documents {
                let Document::Workflow(workflow) = document else {
                    continue;
                };
                let written = manifest::write(&workflow);
                assert_eq!(bare(&only(&written)), bare(&workflow), "{written}");
                count += 1;
            }
        }
    }
    assert!(count > 80, "only {count} workflows");
}

const SECRET: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: w}
spec:
  config:
    password: {type: string, sensitive: true}
    user: {type: string, default: me}
    url: {type: string, default: "http://{{ config.user }}:{{ config.password }}@host"}
    all: {type: string, default: "{{ eval('config.password') }}"}
  use: [{name: t}]
  steps:
  - shell: |
      login {{ config.user }} {{ config.password }}
      echo {{ env.HOME }}
      get {{ config.url }} {{ config.all }}
---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflowTemplate
metadata: {name: t}
spec:
  setup: [{shell: prepare}]
"#;

#[test]
fn the_resolved_workflow_has_templates_and_parameters_and_no_secret() {
    let mut workflow = None;
    let mut templates = Vec::new();
    for document in manifest::parse(SECRET, Limits::default()).unwrap() {
        match document {
            Document::Workflow(read) => workflow = Some(read),
            Document::Template(template) => templates.push(template),
            _ => {}
        }
    }
    let config = BTreeMap::from([("password".to_owned(), "pa55word".to_owned())]);
    let compiled = compile(&Input {
        workflow: &workflow.unwrap(),
        templates: &templates,
        global: None,
        config: &config,
        undeclared: Undeclared::Refused,
        execution: &ExecutionInfo::default(),
    });
    let compiled = compiled.unwrap();
    let context = serde_json::to_string(&compiled.plan.context).unwrap();
    assert!(!context.contains("pa55word"), "{context}");
    let resolved = compiled.resolved.expect("it can be shown");
    assert!(!resolved.contains("pa55word"), "{resolved}");
    assert!(
        resolved.contains(&format!("login me {HIDDEN}\n")),
        "{resolved}"
    );
    assert!(resolved.contains("echo {{env.HOME}}"), "{resolved}");
    let again = only(&resolved);
    assert!(again.uses.is_empty() && again.spec.config.is_empty());
    assert_eq!(again.spec.setup.len(), 1);
}
