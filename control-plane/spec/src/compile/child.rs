//! Plans of workers and services: compiled when a conductor asks for them, from the spec that
//! the parent's plan has kept and the variables that are known by then.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, json};

use crate::expression::{Budget, Expression, Lookup, Scope, Value};
use crate::plan::{self, Given, Operation, Plan, ServiceRole};
use crate::problem::{Place, Problems};
use crate::rerun::{self, Rerun};
use crate::schema::{Json, Names, Spec, Visitor as _};
use crate::suggest;

use super::resolve::{Resolver, Stage};
use super::scope::{self, LATER};
use super::{
    Compiled, MAX_COST, check_size, credential, environment_of, execution, pod, policy, probe,
};
use super::{build, build::Builder};

/// What is compiled.
#[derive(Debug, Clone, Copy)]
pub struct Child<'a> {
    /// The plan of the parent.
    pub parent: &'a Plan,
    /// What the child is.
    pub spec: &'a Spec,
    /// The variables of the instance, and `step` and `services` of the parent as far as it has
    /// come, by their first names.
    pub variables: &'a Map<String, Value>,
    /// UUID of the child's execution.
    pub id: &'a str,
    /// Files that come and go.
    pub given: &'a Given,
    /// Which execution it runs again, if it does.
    pub rerun: &'a Rerun,
    /// Set when it is a service.
    pub service: Option<&'a plan::Service>,
}

/// How often a service is started again; between the tries the conductor waits.
const RESTARTS: u32 = 1000;

/// Compiles a child.
///
/// # Errors
///
/// All problems found, each with its place in the manifest of the parent.
pub fn child(input: &Child<'_>) -> Result<Compiled, Problems> {
    let scope = ChildScope::new(input);
    let budget = Budget::new(MAX_COST);
    let mut problems = Problems::default();
    let mut warnings = Problems::default();
    let mut spec = input.spec.clone();
    let mut resolver = Resolver::new(&scope, &budget, &mut problems);
    spec.visit(&mut resolver);
    let mut readiness = input.service.and_then(|service| {
        let path = format!("services.{}.readinessProbe", service.name);
        let place = Place {
            path: path.into(),
            ..Place::default()
        };
        Some(Json {
            value: service.readiness_probe.clone()?,
            place: Arc::new(place),
        })
    });
    if let Some(probe) = &mut readiness {
        resolver.value(probe);
        probe::check(probe, &mut problems);
    }
    let allowed = Some(&input.parent.credentials);
    let credentials = credential::names(&mut spec, allowed, &budget, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut builder = Builder::new(&spec, true, &mut problems, &mut warnings);
    let mut steps = builder.steps();
    builder.receive(&input.given.receive);
    let (containers, folders) = builder.into_containers();
    let mut pod = pod::build(&spec, input.id, &mut problems);
    pod.folders = folders;
    let above = &input.parent.pod;
    let claims = above.claims.keys().chain(&above.claims_above);
    pod.claims_above = claims.cloned().collect();
    let queue = policy::time(spec.timeouts.queue.as_ref(), &mut problems);
    let policy = policy::policy(&spec, &mut problems);
    let concurrency = policy::concurrency(&spec, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    if input.service.is_some_and(|service| service.restarts) {
        for step in &mut steps {
            step.retry = Some(plan::Retry {
                count: RESTARTS,
                until: "passed".to_owned(),
                backoff: true,
            });
        }
    }
    if !input.given.receive.is_empty() {
        let archives = input.given.receive.clone();
        let receive = build::step(
            "s0-receive",
            "Receive files",
            Operation::Receive { archives },
        );
        steps.insert(0, receive);
    }
    if !input.given.send.is_empty() {
        let archives = input.given.send.clone();
        let mut send = build::step("s9-send", "Send files", Operation::Send { archives });
        "always".clone_into(&mut send.condition);
        send.after = true;
        steps.push(send);
    }
    let plan = Plan {
        version: plan::PLAN_VERSION,
        context: scope.into_context(),
        env: environment_of(input.rerun),
        containers,
        pod,
        credentials,
        masked: input.parent.masked.clone(),
        service: input.service.map(|_| ServiceRole {
            readiness_probe: readiness.map(|probe| probe.value),
        }),
        steps,
    };
    check_size(&plan)?;
    Ok(Compiled {
        name: String::new(),
        plan,
        tags: BTreeMap::new(),
        labels: BTreeMap::new(),
        target: spec.execution.target.as_ref().map(execution::target),
        queue,
        policy,
        concurrency,
        warnings: warnings.0,
        common: false,
        resolved: None,
    })
}

/// What a child sees: the parent's context, and variables of its own above it.
#[derive(Debug)]
struct ChildScope {
    variables: BTreeMap<String, Value>,
    /// Steps and services that the child has itself.
    own: Names,
}

impl ChildScope {
    fn new(input: &Child<'_>) -> Self {
        let mut variables = input.parent.context.clone();
        let root = variables.get("resource").map(|it| it["root"].clone());
        let resource = json!({"id": input.id, "root": root, "fsPrefix": input.id});
        variables.insert("resource".to_owned(), resource);
        let claims = input.spec.claims.keys();
        let claims: Map<String, Value> = claims
            .map(|name| (name.clone(), json!({"name": scope::claim(input.id, name)})))
            .collect();
        variables.insert("pvcs".to_owned(), Value::Object(claims));
        // Its Job is one of its own.
        variables.remove(scope::NAMESPACE);
        variables
            .extend(scope::namespace(input.spec).map(|value| (scope::NAMESPACE.to_owned(), value)));
        let given = input.variables.iter();
        variables.extend(given.map(|(name, value)| (name.clone(), value.clone())));
        variables.insert(rerun::NAME.to_owned(), input.rerun.value());
        let mut own = Names::new();
        input.spec.own_names(&mut own);
        Self { variables, own }
    }

    fn into_context(mut self) -> BTreeMap<String, Value> {
        // All of it is put in.
        self.variables.remove(rerun::NAME);
        self.variables
    }

    fn is_own(&self, path: &str) -> bool {
        self.own.iter().any(|name| {
            let rest = path.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

impl Stage for ChildScope {
    fn check(&self, path: &str, block: bool) -> Result<(), String> {
        let (root, rest) = path.split_once('.').unwrap_or((path, ""));
        let of_instance = scope::OF_INSTANCES.contains(&root);
        if block && of_instance {
            return Ok(());
        }
        if of_instance {
            let name = rest
                .split('.')
                .next()
                .filter(|name| !name.is_empty() && *name != "*");
            let known = self.variables.get(root);
            let found = match (known, name) {
                (Some(Value::Object(map)), Some(name)) => map.contains_key(name),
                (known, _) => known.is_some(),
            };
            return match found {
                true => Ok(()),
                false => Err(format!(
                    "there is no `{path}` here: see `matrix`, `shards` and `count` of the strategy"
                )),
            };
        }
        if root == rerun::NAME {
            return scope::check_rerun(path);
        }
        if let ("pvcs", Some(claims)) = (root, self.variables.get(root)) {
            let name = rest.split('.').next().unwrap_or_default();
            return match name.is_empty() || name == "*" || claims.get(name).is_some() {
                true => Ok(()),
                false => Err(scope::no_claim(name)),
            };
        }
        if self.variables.contains_key(root) || LATER.contains(&root) {
            return Ok(());
        }
        let known = self.variables.keys().map(String::as_str).chain(LATER);
        Err(match suggest::nearest(root, known) {
            Some(near) => format!("there is no variable `{root}`; did you mean `{near}`?"),
            None => format!("there is no variable `{root}`"),
        })
    }

    fn is_open(&self, _expression: &Expression) -> bool {
        false
    }
}

impl Scope for ChildScope {
    fn variable(&self, path: &str) -> Lookup {
        let (root, rest) = path.split_once('.').unwrap_or((path, ""));
        if matches!(root, "step" | "services") {
            // Only what the parent has and the child has not is known now.
            let mut value = self.variables.get(root);
            for name in rest.split('.').filter(|name| !name.is_empty()) {
                value = value.and_then(|value| value.get(name));
            }
            let whole = rest.is_empty();
            return match value {
                Some(value) if !whole && !self.is_own(path) => Lookup::Known(value.clone()),
                _ => Lookup::Unknown,
            };
        }
        match self.variables.get(root) {
            Some(value) if rest.is_empty() => Lookup::Known(value.clone()),
            // One name of it may be known where another is a block's own.
            Some(Value::Object(map)) if root == "pvcs" || scope::of_instances(root) => {
                map.get(rest).cloned().into()
            }
            _ => Lookup::Unknown,
        }
    }

    fn function(&self, name: &str, arguments: &[Value]) -> Lookup {
        match name {
            "date" => scope::date(self.variables.get("execution"), arguments),
            _ => Lookup::Unknown,
        }
    }
}
