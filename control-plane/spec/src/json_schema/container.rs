//! Container settings and environments.

use serde_json::Value;

use super::field::{
    Fields, flag, kubernetes, list, map, not_both, object, one_of_or_template, scalar, see, text,
};
use crate::schema::{ENV_FROM, SECURITY_CONTEXT, SOURCES, VOLUME_MOUNT};

pub(super) fn definitions() -> Fields {
    let mut run = fields();
    run.push(("shell", text("A script for the container's shell.")));
    vec![
        (
            "container",
            object("Settings of containers.", &[], fields()),
        ),
        (
            "run",
            object("A program or script with settings of its own.", &[], run),
        ),
        ("env", variable()),
        ("source", source("Where a value comes from")),
    ]
}

/// Settings of a container.
pub(super) fn fields() -> Fields {
    let quantities = |description| map(&scalar("A quantity such as 500m or 1Gi."), description);
    let texts = |item, description| list(&text(item), description);
    vec![
        ("image", text("The image.")),
        (
            "imagePullPolicy",
            one_of_or_template(
                &["Always", "IfNotPresent", "Never"],
                "When the image is pulled.",
            ),
        ),
        ("workingDir", text("The folder to begin in.")),
        (
            "command",
            texts(
                "A word.",
                "The program; an empty list is the image's ENTRYPOINT.",
            ),
        ),
        ("args", texts("A word.", "Its arguments.")),
        ("env", list(&see("env", "A variable."), "The environment.")),
        (
            "envFrom",
            list(
                &kubernetes("EnvFromSource", &ENV_FROM, "Many variables"),
                "Environments of Secrets and ConfigMaps.",
            ),
        ),
        (
            "resources",
            object(
                "What it needs and may use.",
                &[],
                vec![
                    ("limits", quantities("What it may use.")),
                    ("requests", quantities("What it needs.")),
                ],
            ),
        ),
        (
            "securityContext",
            kubernetes("SecurityContext", &SECURITY_CONTEXT, "What it may do"),
        ),
        (
            "volumeMounts",
            list(
                &kubernetes("VolumeMount", &VOLUME_MOUNT, "A mount"),
                "Where volumes are mounted.",
            ),
        ),
    ]
}

/// A value that the cluster knows.
pub(super) fn source(description: &str) -> Value {
    kubernetes("EnvVarSource", &SOURCES, description)
}

fn variable() -> Value {
    let variable = object(
        "A variable of the environment.",
        &["name"],
        vec![
            ("name", text("Its name.")),
            ("value", text("Its value, a template.")),
            ("valueFrom", see("source", "Where its value comes from.")),
            ("global", flag("Services have it too.")),
        ],
    );
    not_both(variable, &[["value", "valueFrom"]])
}
