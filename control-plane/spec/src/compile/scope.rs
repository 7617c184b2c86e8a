//! The variables that are known when a workflow is compiled, and which others may be known
//! later, in the pod.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, json};

use crate::expression::{Expression, Lookup, Moment, Scope, Value, text};
use crate::rerun;
use crate::schema::Spec;
use crate::suggest;

use super::resolve::Stage;
use super::{ExecutionInfo, Input, Mode};

/// The parameters of a document.
#[derive(Debug, Clone, Default)]
pub(super) struct Config {
    /// Values by name.
    pub(super) values: BTreeMap<String, Value>,
    /// Names of those without a value: texts that ask for them stay as they are.
    pub(super) open: BTreeSet<String>,
}

impl Config {
    /// The values of some parameters, as texts show them.
    pub(super) fn texts(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        let values = names.iter().filter_map(|name| self.values.get(name));
        values.map(text).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.open.contains(name)
    }

    /// The names of all.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().chain(&self.open).map(String::as_str)
    }
}

/// Parameters of a template that were given what only workers, services or steps know.
pub(super) type Late = BTreeMap<String, Expression>;

/// What is the same for a workflow and its templates.
#[derive(Debug)]
pub(super) struct Base {
    variables: Map<String, Value>,
    given: BTreeMap<String, Value>,
    /// Something was asked for that another execution of the same workflow has otherwise.
    own_asked: Cell<bool>,
    /// A template is looked at by itself: what workflow uses it is not known.
    alone: bool,
}

/// Variables of the execution.
const EXECUTION: [&str; 9] = [
    "id",
    "groupId",
    "name",
    "number",
    "scheduledAt",
    "disableWebhooks",
    "tags",
    "runningContext",
    "lineage",
];

/// Variables that each execution has its own of.
const OWN: [&str; 3] = ["execution", "resource", "pvcs"];

/// Of `execution.lineage`: which execution it was begun again from.
const LINEAGE: [&str; 3] = ["baseId", "rootId", "attempt"];

/// Known only in the pod.
pub(super) const LATER: [&str; 15] = [
    "env",
    "status",
    "passed",
    "failed",
    "always",
    "never",
    "error",
    "success",
    "self",
    "step",
    "output",
    "services",
    "workingDir",
    NAMESPACE,
    "_",
];

/// Namespace of the Job: known before when the workflow says it.
pub(super) const NAMESPACE: &str = "namespace";

/// The namespace that a workflow asks for, unless it is an expression.
pub(super) fn namespace(spec: &Spec) -> Option<Value> {
    let text = &spec.job.namespace.as_ref()?.text;
    let plain = !text.is_empty() && !text.contains("{{");
    plain.then(|| Value::from(text.as_str()))
}

/// Addresses and settings inside of the system that the language comes from.
const INTERNAL: &str = "internal";

/// Known to each worker, service and member for itself.
pub(super) const OF_INSTANCES: [&str; 8] = [
    "index",
    "count",
    "matrix",
    "matrixIndex",
    "matrixCount",
    "shard",
    "shardIndex",
    "shardCount",
];

/// Parts of an edition with tenants; empty where there are none.
const EMPTY: [&str; 3] = ["organization", "environment", "dashboard"];

/// Name of a claim of an execution in the cluster. One that the cluster would refuse is made fit,
/// with the name's own bytes behind it, so that two names stay two.
pub(super) fn claim(execution: &str, name: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.chars().all(allowed) && !name.starts_with('-') && !name.ends_with('-') {
        return format!("muster-{execution}-{name}");
    }
    let fit: String = name
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .filter(|c| allowed(*c))
        .collect();
    let exact: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("muster-{execution}-{fit}-x{exact}")
}

impl Base {
    pub(super) fn new(input: &Input<'_>, mode: Mode) -> Self {
        let execution = input.execution;
        let metadata = &input.workflow.metadata;
        let mut variables = Map::new();
        variables.insert(
            "execution".to_owned(),
            json!({
                "id": execution.id,
                "groupId": execution.id,
                "name": execution.name,
                "number": execution.number,
                "scheduledAt": execution.scheduled_at,
                "disableWebhooks": false,
                "tags": {},
                "runningContext": {},
                // Each execution is a first one; what runs again is told by `rerun`.
                "lineage": {"baseId": "", "rootId": execution.id, "attempt": 1},
            }),
        );
        variables.insert(
            "workflow".to_owned(),
            json!({"name": metadata.name, "labels": metadata.labels}),
        );
        // Expressions have no way to write other characters in a name.
        let escaped = |name: &String| -> String {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            name.chars()
                .map(|c| if plain(c) { c } else { '_' })
                .collect()
        };
        let labels = metadata.labels.iter();
        let labels: Map<String, Value> = labels
            .map(|(name, value)| (escaped(name), Value::from(value.clone())))
            .chain(
                metadata
                    .labels
                    .iter()
                    .map(|(k, v)| (k.clone(), v.clone().into())),
            )
            .collect();
        variables.insert("labels".to_owned(), Value::Object(labels));
        variables.insert(
            "resource".to_owned(),
            json!({"id": execution.id, "root": execution.id, "fsPrefix": ""}),
        );
        variables.insert(rerun::NAME.to_owned(), execution.rerun.value());
        if let Some(namespace) = namespace(&input.workflow.spec) {
            variables.insert(NAMESPACE.to_owned(), namespace);
        }
        // A workflow may name claims of the templates that it uses.
        let own = input.workflow.spec.claims.keys();
        let templates = input.templates.iter();
        let claims = own.chain(templates.flat_map(|template| template.spec.claims.keys()));
        let claims: Map<String, Value> = claims
            .map(|name| (name.clone(), json!({"name": claim(&execution.id, name)})))
            .collect();
        if !claims.is_empty() {
            variables.insert("pvcs".to_owned(), Value::Object(claims));
        }
        let mut base = Self {
            variables,
            given: execution.variables.clone(),
            own_asked: Cell::new(false),
            alone: mode == Mode::Template,
        };
        let mut tags = super::execution::tags(input, &input.workflow.spec);
        // Others are not known yet.
        tags.retain(|_, value| !value.contains("{{"));
        base.set_tags(&tags);
        base
    }

    /// Whether what was resolved is the same for another execution with the same values.
    pub(super) fn is_common(&self) -> bool {
        self.given.is_empty() && !self.own_asked.get()
    }

    /// Sets `execution.tags`; whether they were others.
    pub(super) fn set_tags(&mut self, tags: &BTreeMap<String, String>) -> bool {
        let tags = json!(tags);
        let Some(execution) = self.variables.get_mut("execution") else {
            return false;
        };
        let new = execution["tags"] != tags;
        execution["tags"] = tags;
        new
    }
}

/// Puts the values of another execution into a context, for [`Base::is_common`] ones.
pub(super) fn set_execution(context: &mut BTreeMap<String, Value>, info: &ExecutionInfo) {
    if let Some(execution) = context.get_mut("execution") {
        for (name, value) in [
            ("id", json!(info.id)),
            ("groupId", json!(info.id)),
            ("name", json!(info.name)),
            ("number", json!(info.number)),
            ("scheduledAt", json!(info.scheduled_at)),
        ] {
            execution[name] = value;
        }
        execution["lineage"]["rootId"] = json!(info.id);
    }
    if let Some(resource) = context.get_mut("resource") {
        resource["id"] = json!(info.id);
        resource["root"] = json!(info.id);
    }
}

/// The variables of one document: the common ones and its own parameters.
#[derive(Debug)]
pub(super) struct Document<'a> {
    base: &'a Base,
    config: &'a Config,
    /// Parameters of which only a later stage knows the values.
    late: Option<&'a Late>,
    /// It is a template, which may be used where there are more variables.
    template: bool,
}

impl<'a> Document<'a> {
    pub(super) fn new(base: &'a Base, config: &'a Config) -> Self {
        Self {
            base,
            config,
            late: None,
            template: base.alone,
        }
    }

    /// The same for a template.
    pub(super) fn of_template(base: &'a Base, config: &'a Config, late: &'a Late) -> Self {
        Self {
            template: true,
            late: Some(late),
            ..Self::new(base, config)
        }
    }

    /// The expression of a parameter whose value is known later.
    fn later(&self, name: &str) -> Option<&Expression> {
        self.late.and_then(|late| late.get(name))
    }

    /// Refuses a variable that no stage knows.
    fn check_variable(&self, path: &str, block: bool) -> Result<(), String> {
        let mut names = path.split('.');
        let root = names.next().unwrap_or_default();
        let name = names.next();
        if self.base.given.contains_key(path) || LATER.contains(&root) || EMPTY.contains(&root) {
            return Ok(());
        }
        match (root, name) {
            ("config", Some(name)) if !self.config.has(name) && self.later(name).is_none() => {
                Err(self.unknown_parameter(name))
            }
            ("execution", Some(name)) if !EXECUTION.contains(&name) => {
                Err(unknown("variable", path, EXECUTION))
            }
            ("execution", Some("lineage"))
                if names.next().is_some_and(|of| !LINEAGE.contains(&of)) =>
            {
                Err(unknown("variable", path, LINEAGE))
            }
            ("workflow", Some(name)) if !["name", "labels"].contains(&name) => {
                Err(unknown("variable", path, ["name", "labels"]))
            }
            (rerun::NAME, _) => check_rerun(path),
            ("pvcs", _) if self.base.alone => Ok(()),
            // A template may be used by a worker or a service that has the claim.
            ("pvcs", Some(_)) if block && self.template => Ok(()),
            ("pvcs", Some(name)) if !self.has_claim(name) => Err(no_claim(name)),
            ("config", _) => Ok(()),
            (root, _) if self.base.variables.contains_key(root) => Ok(()),
            (root, _) if OF_INSTANCES.contains(&root) && (block || self.template) => Ok(()),
            (root, _) if OF_INSTANCES.contains(&root) => Err(only_in_instances(path)),
            (INTERNAL, _) => Err(format!(
                "`{path}` is about the inside of another system, there is nothing like it here; \
                 use a parameter in `config`"
            )),
            (root, _) => {
                let known = self.base.variables.keys().map(String::as_str);
                let known = known.chain(LATER).chain(["config"]);
                Err(unknown("variable", root, known))
            }
        }
    }

    fn unknown_parameter(&self, name: &str) -> String {
        let longer = format!("{name}-");
        // `config.my-name` takes `name` away from `config.my`.
        match self.config.names().find(|known| known.starts_with(&longer)) {
            Some(whole) => {
                format!("there is no parameter `{name}`; did you mean `at(config, \"{whole}\")`?")
            }
            None => unknown("parameter", name, self.config.names()),
        }
    }

    fn has_claim(&self, name: &str) -> bool {
        let claims = self.base.variables.get("pvcs");
        name == "*" || claims.is_some_and(|claims| claims.get(name).is_some())
    }

    /// What expressions in the pod may ask: all but parameters that are secret.
    pub(super) fn context(&self, secret: &BTreeSet<String>) -> BTreeMap<String, Value> {
        let mut context: BTreeMap<String, Value> = self
            .base
            .variables
            .iter()
            // All of it is put in.
            .filter(|(name, _)| *name != rerun::NAME)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let public = self
            .config
            .values
            .iter()
            .filter(|(name, _)| !secret.contains(*name));
        let public: Map<String, Value> = public
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        context.insert("config".to_owned(), Value::Object(public));
        context
    }
}

impl Stage for Document<'_> {
    fn check(&self, path: &str, block: bool) -> Result<(), String> {
        self.check_variable(path, block)
    }

    /// When all that is known is put in, only parameters without a value are left.
    fn is_open(&self, expression: &Expression) -> bool {
        let variables = expression.variables();
        let mut paths = variables.iter();
        paths.any(|path| match path.split('.').next() {
            Some("config") => true,
            root => self.base.alone && (root == Some("pvcs") || of_instances(path)),
        })
    }
}

impl Scope for Document<'_> {
    fn variable(&self, path: &str) -> Lookup {
        if let Some(value) = self.base.given.get(path) {
            return Lookup::Known(value.clone());
        }
        let (root, rest) = path.split_once('.').unwrap_or((path, ""));
        if root == "config" {
            if let Some(expression) = self.later(rest) {
                return Lookup::Later(expression.clone());
            }
            if rest.is_empty() {
                let mut late = self.late.iter().copied().flatten();
                if let Some((name, _)) = late.find(|(_, value)| !self.is_open(value)) {
                    let text =
                        format!("`config` as a whole is not known: `config.{name}` is known later");
                    return Lookup::Refused(text);
                }
                if !self.config.open.is_empty() || self.late.is_some_and(|late| !late.is_empty()) {
                    return Lookup::Unknown;
                }
                let all = self.config.values.iter();
                return Lookup::Known(all.map(|(k, v)| (k.clone(), v.clone())).collect());
            }
            return self.config.values.get(rest).cloned().into();
        }
        if EMPTY.contains(&root) && !rest.is_empty() {
            return Lookup::Known(Value::from(""));
        }
        if OWN.contains(&root) {
            self.base.own_asked.set(true);
        }
        match self.base.variables.get(root) {
            // Properties are taken of the whole by the caller.
            Some(value) if rest.is_empty() => Lookup::Known(value.clone()),
            // One name of it may be known where another is a block's own.
            Some(claims) if root == "pvcs" => claims.get(rest).cloned().into(),
            _ => Lookup::Unknown,
        }
    }

    fn function(&self, name: &str, arguments: &[Value]) -> Lookup {
        match name {
            "date" => {
                self.base.own_asked.set(true);
                date(self.base.variables.get("execution"), arguments)
            }
            _ => Lookup::Unknown,
        }
    }
}

/// `date` at the time when an execution was asked for, so that it always resolves to the same.
pub(super) fn date(execution: Option<&Value>, arguments: &[Value]) -> Lookup {
    let scheduled = execution.and_then(|execution| execution["scheduledAt"].as_str());
    match scheduled.and_then(Moment::from_rfc3339) {
        Some(moment) => moment.date(arguments),
        None => Lookup::Unknown,
    }
}

/// Whether a variable is one of instances.
pub(super) fn of_instances(path: &str) -> bool {
    OF_INSTANCES.contains(&path.split('.').next().unwrap_or(path))
}

/// Refuses a variable of instances where none is.
pub(super) fn only_in_instances(path: &str) -> String {
    format!("`{path}` is known only in workers, services and members of a suite")
}

/// Refuses what is not known of a rerun.
pub(super) fn check_rerun(path: &str) -> Result<(), String> {
    match path.split('.').nth(1) {
        Some(name) if !rerun::names().any(|known| known == name) => {
            Err(unknown("variable", path, rerun::names()))
        }
        _ => Ok(()),
    }
}

/// Refuses a claim that is not there.
pub(super) fn no_claim(name: &str) -> String {
    format!("there is no claim `{name}`; declare it in `pvcs` of what asks for it")
}

/// Most names that a message lists.
const MAX_LISTED: usize = 12;

fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let short: String = name.chars().take(60).collect();
    let last = name.rsplit('.').next().unwrap_or(name);
    match suggest::nearest(last, known.iter().copied()) {
        Some(near) => format!("there is no {what} `{short}`; did you mean `{near}`?"),
        None if known.is_empty() => {
            format!("there is no {what} `{short}`, and none is declared here")
        }
        None if known.len() <= MAX_LISTED => {
            let known = known.join("`, `");
            format!("there is no {what} `{short}`; there is `{known}`")
        }
        None => format!("there is no {what} `{short}`"),
    }
}
