//! Whole documents: their heads, and requests to run.

use serde_json::{Value, json};

use super::field::{Fields, anything, flag, map, object, one_of, pattern, scalar, see, text};
use crate::schema::{API_VERSIONS, OF_THE_CLUSTER, REQUEST, TEMPLATE, WORKFLOW};

pub(super) fn definitions() -> Fields {
    vec![
        (
            WORKFLOW,
            document(
                WORKFLOW,
                "A workflow: steps that test something.",
                see("spec", "What the workflow does."),
            ),
        ),
        (
            TEMPLATE,
            document(
                TEMPLATE,
                "A template that workflows, steps and other templates use.",
                see("spec", "What the template brings."),
            ),
        ),
        (
            REQUEST,
            document(
                REQUEST,
                "A request to run a workflow, for `muster run`.",
                request(),
            ),
        ),
        ("metadata", metadata()),
    ]
}

fn document(kind: &'static str, description: &str, spec: Value) -> Value {
    object(
        description,
        &["apiVersion", "kind", "metadata", "spec"],
        vec![
            (
                "apiVersion",
                one_of(&API_VERSIONS, "The version of the language."),
            ),
            (
                "kind",
                json!({"const": kind, "description": "What the document is."}),
            ),
            ("metadata", see("metadata", "Name and labels.")),
            ("description", text("What it is for, for people.")),
            ("spec", spec),
            (
                "status",
                anything("What a cluster recorded of earlier runs; no effect."),
            ),
        ],
    )
}

fn metadata() -> Value {
    let mut fields = vec![
        (
            "name",
            pattern(
                "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$",
                "smoke",
                "The name: up to 253 lower-case letters, digits, `-` and `.`.",
            ),
        ),
        ("namespace", text("Where it was exported from; no effect.")),
        (
            "labels",
            map(&text("The value."), "Labels, for selectors and lists."),
        ),
        (
            "annotations",
            map(&text("The value."), "Annotations, for people and programs."),
        ),
    ];
    let of_cluster = OF_THE_CLUSTER.iter();
    fields.extend(of_cluster.map(|name| (*name, anything("Written by a cluster; no effect."))));
    object("Name and labels.", &["name"], fields)
}

fn request() -> Value {
    let named = object(
        "The workflow to run.",
        &["name"],
        vec![(
            "name",
            text("Its name: one in the same file, or a stored one."),
        )],
    );
    let how = object(
        "How it is run.",
        &[],
        vec![
            ("name", anything("No effect.")),
            ("testWorkflowExecutionName", anything("No effect.")),
            ("disableWebhooks", flag("No effect.")),
            ("runningContext", anything("No effect.")),
            (
                "config",
                map(
                    &scalar("The value."),
                    "Values of the workflow's parameters.",
                ),
            ),
            ("tags", map(&scalar("The value."), "Tags of the execution.")),
            ("target", see("target", "Where it may run.")),
        ],
    );
    object(
        "What is run.",
        &["testWorkflow"],
        vec![("testWorkflow", named), ("executionRequest", how)],
    )
}
