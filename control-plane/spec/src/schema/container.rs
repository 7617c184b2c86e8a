//! Container settings: `container` of a workflow or step, and `run`.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::problem::{Place, Problem};
use crate::suggest;

use super::field::{Found, Json, Object, Reader, Text};

/// Settings of a container; what is absent comes from the nearest level above.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Container {
    /// `workingDir`.
    pub working_dir: Option<Text>,
    /// `image`.
    pub image: Option<Text>,
    /// `imagePullPolicy`.
    pub image_pull_policy: Option<Text>,
    /// `env`.
    pub env: Vec<EnvVar>,
    /// `envFrom`: Kubernetes objects.
    pub env_from: Vec<Json>,
    /// `command`; an empty list stands for the image's ENTRYPOINT.
    pub command: Option<Vec<Text>>,
    /// `args`.
    pub args: Option<Vec<Text>>,
    /// `resources.limits`.
    pub limits: IndexMap<String, Text>,
    /// `resources.requests`.
    pub requests: IndexMap<String, Text>,
    /// `securityContext`.
    pub security_context: Option<Json>,
    /// `volumeMounts`: Kubernetes objects.
    pub volume_mounts: Vec<Json>,
}

/// A variable of the environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvVar {
    /// `name`.
    pub name: String,
    /// `value` or `valueFrom`.
    pub value: EnvValue,
    /// `global`: also for services and workers.
    pub global: bool,
    /// Where it stands.
    pub place: Arc<Place>,
}

/// Where the value of a variable comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum EnvValue {
    /// `value`, a template.
    Plain(Text),
    /// `valueFrom`: a Kubernetes object.
    From(Json),
}

/// `run` of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Where it begins.
    pub place: Arc<Place>,
    /// Settings over those of the step.
    pub container: Container,
    /// `shell`, a template of a script.
    pub shell: Option<Text>,
}

/// Fields of the Kubernetes `SecurityContext`.
pub(crate) const SECURITY_CONTEXT: [&str; 12] = [
    "allowPrivilegeEscalation",
    "appArmorProfile",
    "capabilities",
    "privileged",
    "procMount",
    "readOnlyRootFilesystem",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seLinuxOptions",
    "seccompProfile",
    "windowsOptions",
];

/// Fields of a Kubernetes `VolumeMount`.
pub(crate) const VOLUME_MOUNT: [&str; 7] = [
    "name",
    "mountPath",
    "subPath",
    "subPathExpr",
    "readOnly",
    "recursiveReadOnly",
    "mountPropagation",
];

/// Fields of a Kubernetes `EnvFromSource`.
pub(crate) const ENV_FROM: [&str; 3] = ["prefix", "secretRef", "configMapRef"];

impl Container {
    /// Reads the field `container`.
    pub(super) fn read(reader: &mut Reader, parent: &mut Object<'_>) -> Self {
        let Some(mut object) = parent
            .take("container")
            .and_then(|found| found.object(reader))
        else {
            return Self::default();
        };
        let container = Self::fields(reader, &mut object);
        object.finish(reader);
        container
    }

    /// Reads the fields of a container from an object that has others too.
    pub(super) fn fields(reader: &mut Reader, object: &mut Object<'_>) -> Self {
        let resources = object.take("resources");
        let (limits, requests) = resources
            .and_then(|found| resources_of(reader, &found))
            .unwrap_or_default();
        Self {
            working_dir: object.said(reader, "workingDir"),
            image: object.text(reader, "image"),
            image_pull_policy: object.text(reader, "imagePullPolicy"),
            env: limited(reader, object, "env", MAX_VARIABLES, EnvVar::read),
            env_from: limited(reader, object, "envFrom", MAX_ITEMS, env_from),
            command: object.text_list(reader, "command"),
            args: object.text_list(reader, "args"),
            limits,
            requests,
            security_context: object
                .take("securityContext")
                .and_then(|found| checked(reader, &found, &SECURITY_CONTEXT)),
            volume_mounts: limited(
                reader,
                object,
                "volumeMounts",
                MAX_ITEMS,
                |reader, found| checked(reader, found, &VOLUME_MOUNT),
            ),
        }
    }
}

impl Run {
    pub(super) fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let run = Self {
            place: object.place(reader),
            container: Container::fields(reader, &mut object),
            shell: object.text(reader, "shell"),
        };
        object.finish(reader);
        Some(run)
    }
}

/// Most variables of one list, and most items of other lists: they are copied to many steps.
const MAX_VARIABLES: usize = 1000;
const MAX_ITEMS: usize = 100;

/// A list of at most so many items.
fn limited<'n, T>(
    reader: &mut Reader,
    object: &mut Object<'n>,
    name: &'static str,
    most: usize,
    read: impl Fn(&mut Reader, &Found<'n>) -> Option<T>,
) -> Vec<T> {
    let items = object.list(reader, name, read);
    if items.len() > most {
        let path = format!("{}.{name}", object.path());
        let message = format!("{} items, at most {most} are allowed", items.len());
        reader.problem(object.mark(), &path, message);
        return Vec::new();
    }
    items
}

type Quantities = IndexMap<String, Text>;

fn resources_of(reader: &mut Reader, found: &Found<'_>) -> Option<(Quantities, Quantities)> {
    let mut object = found.object(reader)?;
    let mut quantities = |reader: &mut Reader, name| {
        object
            .take(name)
            .map(|found| found.scalars(reader, "a quantity"))
            .unwrap_or_default()
    };
    let limits = quantities(reader, "limits");
    let requests = quantities(reader, "requests");
    object.finish(reader);
    Some((limits, requests))
}

impl EnvVar {
    fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let name = object.text(reader, "name");
        let value = object.take("value");
        let from = object.take("valueFrom");
        let global = object.flag(reader, "global").unwrap_or(false);
        let place = object.place(reader);
        if name.is_none() {
            let path = format!("{}.name", object.path());
            reader.problem(object.mark(), &path, "the name of a variable is missing");
        }
        object.finish(reader);
        let value = match (value, from) {
            (Some(_), Some(from)) => {
                let message = "a variable has either `value` or `valueFrom`";
                reader.problem(from.node.mark, &from.path, message);
                return None;
            }
            (Some(value), None) => EnvValue::Plain(value.text(reader)?),
            (None, Some(from)) => EnvValue::From(checked(reader, &from, &super::content::SOURCES)?),
            (None, None) => EnvValue::Plain(Text {
                text: String::new(),
                place: Arc::clone(&place),
            }),
        };
        let name = name?;
        if name.text.is_empty() || name.text.contains(['=', '\0']) {
            let problem = Problem::new(
                &name.place,
                format!(
                    "`{}` is not the name of a variable",
                    name.text.escape_debug()
                ),
            );
            reader.problems.push(problem);
            return None;
        }
        Some(Self {
            name: name.text,
            value,
            global,
            place,
        })
    }
}

fn env_from(reader: &mut Reader, found: &Found<'_>) -> Option<Json> {
    checked(reader, found, &ENV_FROM)
}

/// A Kubernetes object: passed on as it is, with its own fields checked.
pub(super) fn checked(reader: &mut Reader, found: &Found<'_>, fields: &[&str]) -> Option<Json> {
    let before = reader.problems.0.len();
    found.object(reader)?;
    reader.record(&found.path, fields);
    for (entry, _) in found.entries(reader) {
        if fields.contains(&entry.key.as_str()) {
            continue;
        }
        let key: String = entry.key.chars().take(60).collect();
        let place = reader.place(entry.mark, &format!("{}.{key}", found.path));
        let mut problem = Problem::new(&place, format!("unknown field `{key}`"));
        problem.cure = suggest::advice(&key, fields);
        reader.problems.push(problem);
    }
    (reader.problems.0.len() == before).then(|| found.json(reader))
}
