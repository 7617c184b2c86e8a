//! `spec` of workflows and templates, which workers of `parallel` have too.

use serde_json::{Value, json};

use super::field::{
    Fields, anything, duration, flag, integer, kubernetes, list, map, number, object, one_of,
    one_of_or_template, scalar, see, text,
};
use crate::schema::{CLAIM, POD};

pub(super) fn definitions() -> Fields {
    let mut whole = fields();
    whole.insert(0, ("use", templates()));
    vec![
        ("spec", object("What is done.", &[], whole)),
        ("templateRef", template_ref()),
        ("parameter", parameter()),
        ("pod", pod()),
        ("pvcs", claims()),
        ("target", target()),
    ]
}

/// The fields of a workflow but `use`.
pub(super) fn fields() -> Fields {
    let step = see("step", "A step.");
    vec![
        (
            "config",
            map(
                &see("parameter", "A parameter."),
                "Parameters, read by `{{ config.NAME }}`.",
            ),
        ),
        (
            "content",
            see("content", "Files that are there before all steps."),
        ),
        (
            "container",
            see("container", "Defaults of the containers of all steps."),
        ),
        ("job", job()),
        ("pod", see("pod", "Settings of the pod.")),
        (
            "pvcs",
            see("pvcs", "Claims of volumes for each execution, by name."),
        ),
        (
            "system",
            object(
                "How steps are put into containers.",
                &[],
                vec![
                    (
                        "pureByDefault",
                        flag("Steps may share a container unless they say otherwise."),
                    ),
                    (
                        "isolatedContainers",
                        flag("Every step has a container of its own."),
                    ),
                ],
            ),
        ),
        ("execution", execution()),
        (
            "timeouts",
            object(
                "How long the stages of each execution may take.",
                &[],
                vec![
                    ("queue", duration("Longest time in the queue.")),
                    (
                        "initialization",
                        duration("Longest time from the agent to the first step."),
                    ),
                    ("run", duration("Longest time of the steps.")),
                    (
                        "grace",
                        duration("Time for `after` steps and artifacts when it is to end."),
                    ),
                ],
            ),
        ),
        ("services", services("the workflow")),
        ("setup", list(&step, "Steps before all others.")),
        ("steps", list(&step, "The steps, one after the other.")),
        (
            "after",
            list(
                &step,
                "Steps behind all others; give `condition: always` to run after a failure.",
            ),
        ),
        ("events", anything("Schedules; no effect yet.")),
        ("concurrency", concurrency()),
        ("notifications", anything("Deprecated; no effect.")),
    ]
}

/// The field `services`.
pub(super) fn services(owner: &str) -> Value {
    let mut services = map(
        &see("service", "A service."),
        &format!("Helpers that live as long as {owner}, by name."),
    );
    services["propertyNames"] = json!({"pattern": "^[A-Za-z0-9_-]{1,63}$"});
    services["maxProperties"] = 50.into();
    services
}

/// The field `use`.
pub(super) fn templates() -> Value {
    let reference = see("templateRef", "A template.");
    list(
        &reference,
        "Templates that are merged in: their values are defaults, their steps come first.",
    )
}

fn template_ref() -> Value {
    object(
        "A template with values for its parameters.",
        &["name"],
        vec![
            ("name", text("Its name; `/` stands for `--`.")),
            (
                "config",
                map(
                    &scalar("The value, a template."),
                    "Values of its parameters.",
                ),
            ),
        ],
    )
}

fn parameter() -> Value {
    object(
        "A parameter.",
        &[],
        vec![
            ("description", text("What it is for, for people.")),
            (
                "type",
                one_of(
                    &["string", "integer", "number", "boolean"],
                    "Its type, `string` when not said.",
                ),
            ),
            (
                "default",
                scalar("Its value when none is given; without it one is required."),
            ),
            (
                "enum",
                list(&scalar("A value."), "The only values allowed."),
            ),
            ("sensitive", flag("The value is a secret and is not shown.")),
            ("pattern", text("A regular expression for the value.")),
            ("minLength", integer(0, u32::MAX, "Fewest characters.")),
            ("maxLength", integer(0, u32::MAX, "Most characters.")),
            ("minimum", number("Smallest value.")),
            ("maximum", number("Largest value.")),
            ("exclusiveMinimum", number("The value is larger.")),
            ("exclusiveMaximum", number("The value is smaller.")),
            ("multipleOf", number("The value is a multiple of it.")),
            ("example", anything("For people.")),
            ("format", anything("For people.")),
        ],
    )
}

fn job() -> Value {
    let texts = |description| map(&text("The value, a template."), description);
    object(
        "Settings of the Kubernetes Job.",
        &[],
        vec![
            ("labels", texts("Labels.")),
            ("annotations", texts("Annotations.")),
            ("namespace", text("Its namespace, if the agent allows it.")),
            (
                "activeDeadlineSeconds",
                scalar("After so many seconds the cluster ends it."),
            ),
        ],
    )
}

fn pod() -> Value {
    let deadline = scalar("After so many seconds the cluster ends it.");
    let mut fields = vec![("activeDeadlineSeconds", deadline)];
    fields.extend(POD.map(|name| (name, pod_field(name))));
    object("Settings of the Kubernetes Pod.", &[], fields)
}

fn pod_field(name: &'static str) -> Value {
    let line = format!("As Kubernetes has it in `PodSpec`: `{name}`.");
    let any = json!({"type": "object"});
    match name {
        "labels" | "annotations" | "nodeSelector" => map(&text("The value, a template."), &line),
        "imagePullSecrets"
        | "volumes"
        | "tolerations"
        | "hostAliases"
        | "topologySpreadConstraints"
        | "schedulingGates"
        | "resourceClaims" => list(&any, &line),
        "securityContext" | "affinity" | "dnsConfig" => {
            json!({"type": "object", "description": line})
        }
        "disableFsGroupDefaulting" => flag("The group of volumes is left to the image."),
        "hostPID" => flag(&line),
        "priority" => scalar(&line),
        _ => text(&line),
    }
}

fn claims() -> Value {
    let claim = kubernetes("PersistentVolumeClaimSpec", &CLAIM, "A claim");
    let mut claims = map(
        &claim,
        "Claims of volumes, by name; `{{ pvcs.NAME.name }}` is its name in the cluster.",
    );
    claims["propertyNames"] = json!({"pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"});
    claims["maxProperties"] = 20.into();
    claims
}

fn execution() -> Value {
    object(
        "Defaults of each execution.",
        &[],
        vec![
            ("tags", map(&scalar("The value, a template."), "Tags.")),
            ("target", see("target", "Where it may run.")),
            ("recovery", recovery()),
            ("silent", anything("No effect yet.")),
        ],
    )
}

fn recovery() -> Value {
    object(
        "What follows when an attempt ends badly; what is not said is left to the project.",
        &[],
        vec![
            (
                "lostAgent",
                one_of_or_template(
                    &["wait", "rerun", "fail"],
                    "When an agent is lost after steps have begun.",
                ),
            ),
            (
                "lostAgentAfter",
                duration("How long an agent may be away until it counts as lost."),
            ),
            (
                "interrupted",
                one_of_or_template(
                    &["rerun", "fail"],
                    "When the cluster takes a begun attempt away.",
                ),
            ),
            (
                "infrastructureRetries",
                scalar("Further attempts after those that the infrastructure ended, 0 to 100."),
            ),
            (
                "testRetries",
                scalar("Further attempts after those that failed, 0 to 100."),
            ),
        ],
    )
}

fn concurrency() -> Value {
    object(
        "Executions of one group do not all run at once.",
        &[],
        vec![
            (
                "group",
                text("Name of the group in the project, a template."),
            ),
            ("max", scalar("How many of it may run; 1 when not said.")),
            (
                "cancelInProgress",
                flag("A new execution cancels older ones that are too many."),
            ),
        ],
    )
}

fn target() -> Value {
    let values = json!({"anyOf": [
        {"type": "array", "items": {"type": "string"}},
        {"type": ["string", "number", "boolean"]},
    ]});
    object(
        "Labels of agents.",
        &[],
        vec![
            (
                "match",
                map(
                    &values,
                    "Labels that the agent must have, each with any of the values.",
                ),
            ),
            (
                "not",
                map(
                    &values,
                    "Labels that the agent must not have, with any of the values.",
                ),
            ),
            (
                "replicate",
                json!({
                    "description": "Labels for each of whose values among the agents that match it is run \
                        once. Of an execution alone.",
                    "type": "array",
                    "items": {"type": "string"},
                }),
            ),
        ],
    )
}
