//! Steps and what they start: services, workers, members of a suite.

use serde_json::{Value, json};

use super::container;
use super::field::{
    Fields, anything, duration, dynamic_list, flag, integer, kubernetes, list, map, object, one_of,
    pattern, scalar, see, text,
};
use super::spec;
use crate::schema::{Balance, OPERATORS, PROBE};

pub(super) fn definitions() -> Fields {
    vec![
        ("step", step()),
        ("parallel", parallel()),
        ("service", service()),
        ("execute", execute()),
        ("transfer", transfer()),
    ]
}

/// What steps and workers have in common.
fn operations() -> Fields {
    vec![
        ("paused", flag("It waits until somebody lets it go on.")),
        ("negative", flag("It passes when it fails.")),
        ("optional", flag("Its failure does not fail the workflow.")),
        (
            "retry",
            object(
                "It is run again.",
                &["count"],
                vec![
                    ("count", integer(1, 1000, "Most tries after the first one.")),
                    (
                        "until",
                        scalar("An expression that ends the tries; `passed` when not said."),
                    ),
                ],
            ),
        ),
        ("timeout", duration("After this time it is ended.")),
        (
            "template",
            see(
                "templateRef",
                "A template whose steps are the first ones of this step.",
            ),
        ),
        ("delay", duration("How long it waits before it begins.")),
        (
            "run",
            see("run", "A program or script with settings of its own."),
        ),
        ("shell", text("A script for the container's shell.")),
        ("execute", see("execute", "Other workflows that are run.")),
        ("artifacts", artifacts()),
        ("cache", anything("Not supported yet: refused.")),
        ("testCases", anything("Not supported yet: refused.")),
    ]
}

fn step() -> Value {
    let nested = see("step", "A step.");
    let mut fields = vec![
        (
            "id",
            pattern(
                "^[a-z0-9_]{1,63}$",
                "build",
                "Its name in expressions: `step.ID.outputs`.",
            ),
        ),
        ("name", text("Its name, for people.")),
        (
            "condition",
            scalar("An expression: whether it runs; `passed` when not said."),
        ),
        ("pure", flag("It may share a container with others.")),
        ("use", spec::templates()),
        (
            "content",
            see("content", "Files that are there before the step."),
        ),
        (
            "container",
            see("container", "Defaults of all that is in it."),
        ),
        ("workingDir", text("The folder to begin in.")),
        ("services", spec::services("the step")),
        ("setup", list(&nested, "Steps before what it does itself.")),
        ("steps", list(&nested, "Steps behind what it does itself.")),
        (
            "parallel",
            see("parallel", "Workers that run at the same time."),
        ),
    ];
    fields.extend(operations());
    object("A step.", &[], fields)
}

fn artifacts() -> Value {
    let mut artifacts = object(
        "Files that are kept.",
        &["paths"],
        vec![
            ("workingDir", text("Base of relative patterns.")),
            (
                "compress",
                object(
                    "They are kept as one archive.",
                    &["name"],
                    vec![("name", text("The name of the archive."))],
                ),
            ),
            (
                "paths",
                list(
                    &text("A pattern such as **/*.xml; `!` excludes."),
                    "Which files.",
                ),
            ),
        ],
    );
    artifacts["properties"]["paths"]["minItems"] = 1.into();
    artifacts
}

fn strategy() -> Fields {
    let lists = |description| {
        let mut lists = map(
            &dynamic_list("A list, or an expression of one."),
            description,
        );
        lists["maxProperties"] = 32.into();
        lists
    };
    vec![
        (
            "count",
            scalar("How many of each combination: a number or an expression."),
        ),
        (
            "maxCount",
            scalar("At most so many; fewer when shards have fewer values."),
        ),
        (
            "matrix",
            lists("One instance for each combination; read by `{{ matrix.NAME }}`."),
        ),
        (
            "shards",
            lists("Lists that are split over the instances; read by `{{ shard.NAME }}`."),
        ),
        (
            "balance",
            one_of(
                &Balance::NAMES,
                "What shards are made equal in: how many values, or how long they took in earlier runs.",
            ),
        ),
    ]
}

fn transfer() -> Value {
    object(
        "Files of one folder.",
        &["from"],
        vec![
            ("from", text("The folder.")),
            (
                "files",
                dynamic_list("Patterns below it; all of it when not said."),
            ),
            (
                "to",
                text("The folder on the other side; the same one when not said."),
            ),
            ("mount", flag("No need: all folders are shared.")),
        ],
    )
}

fn parallel() -> Value {
    let files = see("transfer", "Files of one folder.");
    let mut fields = vec![
        ("use", spec::templates()),
        ("target", see("target", "Where workers may run.")),
        ("parallelism", scalar("Most workers at a time.")),
        ("failFast", flag("The first failure ends the others.")),
        ("description", text("Of a worker, for people.")),
        ("logs", scalar("Logs are always kept, whatever this says.")),
        ("transfer", list(&files, "Files that each worker gets.")),
        ("fetch", list(&files, "Files that come back.")),
    ];
    fields.extend(strategy());
    fields.extend(operations());
    fields.extend(spec::fields());
    object("Workers: each is a workflow of its own.", &[], fields)
}

fn service() -> Value {
    let mut fields = vec![
        ("use", spec::templates()),
        ("description", text("Of an instance, for people.")),
        ("logs", scalar("Logs are always kept, whatever this says.")),
        (
            "timeout",
            duration("Longest time until all instances are ready."),
        ),
        (
            "transfer",
            list(
                &see("transfer", "Files of one folder."),
                "Files that each instance gets.",
            ),
        ),
        (
            "content",
            see("content", "Files that are there before it starts."),
        ),
        ("shell", text("A script for the container's shell.")),
        ("pod", see("pod", "Settings of its pod.")),
        (
            "restartPolicy",
            one_of(
                &["OnFailure", "Never"],
                "Whether it is started again when it fails.",
            ),
        ),
        (
            "pvcs",
            see("pvcs", "Claims of volumes for each instance, by name."),
        ),
        (
            "readinessProbe",
            kubernetes("Probe", &PROBE, "How it is known to be ready"),
        ),
    ];
    fields.extend(strategy());
    fields.extend(container::fields());
    object("A service.", &[], fields)
}

fn execute() -> Value {
    let mut suite = object(
        "Other workflows that are run.",
        &["workflows"],
        vec![
            ("parallelism", scalar("Most members at a time.")),
            ("async", flag("The step does not wait for them.")),
            ("workflows", list(&member(), "The workflows.")),
            ("tests", anything("Of a format before workflows: refused.")),
        ],
    );
    suite["properties"]["workflows"]["minItems"] = 1.into();
    suite
}

fn member() -> Value {
    let tarball = object(
        "Files of one folder.",
        &["from"],
        vec![
            ("from", text("The folder.")),
            (
                "files",
                dynamic_list("Patterns below it; all of it when not said."),
            ),
        ],
    );
    let mut fields = vec![
        ("name", text("The name of the workflow.")),
        ("selector", selector()),
        ("description", text("Of an execution, for people.")),
        ("executionName", text("Describes an execution.")),
        ("as", anything("Not supported yet: refused.")),
        ("fetch", anything("Not supported yet: refused.")),
        (
            "config",
            map(
                &scalar("The value, a template."),
                "Values of its parameters.",
            ),
        ),
        (
            "tarball",
            map(&tarball, "Parameters that get the address of an archive."),
        ),
        ("target", see("target", "Where it may run.")),
    ];
    fields.extend(strategy());
    let mut member = object("A workflow, or all that labels select.", &[], fields);
    member["oneOf"] = json!([{"required": ["name"]}, {"required": ["selector"]}]);
    member
}

fn selector() -> Value {
    let requirement = object(
        "A condition on a label.",
        &["key", "operator"],
        vec![
            ("key", text("The label.")),
            ("operator", one_of(&OPERATORS, "How it is compared.")),
            (
                "values",
                list(&text("A value."), "The values of `In` and `NotIn`."),
            ),
        ],
    );
    object(
        "Labels of workflows; all must hold.",
        &[],
        vec![
            (
                "matchLabels",
                map(&scalar("The value."), "Labels with these values."),
            ),
            ("matchExpressions", list(&requirement, "More conditions.")),
        ],
    )
}
