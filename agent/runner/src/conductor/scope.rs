//! What expressions can see while the plan is walked.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use muster_spec::{
    expression::{self, Lookup, Moment, Value},
    plan::Plan,
};
use serde_json::{Map, json};

use super::{
    asked::{ANSWERED, Asked},
    instruction::Outputs,
    surroundings::Surroundings,
};
use crate::clock::now_ms;

/// Results of steps with an id, for `step.<id>.*`.
#[derive(Debug, Default)]
pub(super) struct Results(RefCell<HashMap<String, Known>>);

/// Services that run, for `services.<name>.*`.
#[derive(Debug, Default)]
pub(super) struct Services(RefCell<Map<String, Value>>);

impl Services {
    /// Says where the instances of a service are.
    pub(super) fn set(&self, name: &str, instances: Vec<Value>) {
        let instances = Value::Array(instances);
        self.0.borrow_mut().insert(name.to_owned(), instances);
    }

    /// All of them.
    pub(super) fn all(&self) -> Value {
        Value::Object(self.0.borrow().clone())
    }
}

/// Where steps leave what later ones read: a folder for each.
pub(super) const RESULTS: &str = "/data/.steps";

/// The folder of a step, by its id.
pub(super) fn results_of(id: &str) -> String {
    format!("{RESULTS}/{id}")
}

/// What is known of a step that ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) status: &'static str,
    /// Exit code of its last process.
    pub(super) code: Option<i32>,
    pub(super) outputs: BTreeMap<String, String>,
}

impl Results {
    pub(super) fn set(&self, id: &str, known: Known) {
        self.0.borrow_mut().insert(id.to_owned(), known);
    }

    /// All that is known, as expressions of children see it.
    pub(super) fn all(&self) -> Value {
        let results = self.0.borrow();
        let all = results.iter().map(|(id, known)| {
            let status = known.status;
            let value = json!({
                "status": status,
                "passed": status == "passed",
                "failed": matches!(status, "failed" | "timeout" | "aborted"),
                "skipped": status == "skipped",
                "exitCode": known.code,
                "results": results_of(id),
                "outputs": known.outputs,
            });
            (id.clone(), value)
        });
        Value::Object(all.collect())
    }

    fn knows(&self, path: &str) -> bool {
        let id = path.split('.').next().unwrap_or_default();
        self.0.borrow().contains_key(id)
    }

    fn get(&self, path: &str) -> Option<Value> {
        let (id, what) = path.split_once('.')?;
        let results = self.0.borrow();
        let known = results.get(id);
        let status = known.map_or("queued", |known| known.status);
        match what.split_once('.') {
            None => match what {
                "status" => Some(status.into()),
                "passed" => Some((status == "passed").into()),
                "failed" => Some(matches!(status, "failed" | "timeout" | "aborted").into()),
                "skipped" => Some((status == "skipped").into()),
                "exitCode" => Some(known.and_then(|known| known.code).into()),
                "results" => Some(results_of(id).into()),
                _ => None,
            },
            Some(("outputs", key)) => {
                let value = known.and_then(|known| known.outputs.get(key).cloned());
                Some(value.unwrap_or_default().into())
            }
            Some(_) => None,
        }
    }
}

/// The plan's context with what is known only here: the namespace, unless the workflow says it.
pub(super) fn context(plan: &Plan, namespace: &str) -> BTreeMap<String, Value> {
    let mut context = plan.context.clone();
    let own = context.entry("namespace".to_owned());
    own.or_insert_with(|| namespace.into());
    context
}

/// What a step sees of the run.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// The plan's context.
    pub(super) context: Rc<BTreeMap<String, Value>>,
    pub(super) results: Rc<Results>,
    pub(super) services: Rc<Services>,
    pub(super) outputs: Rc<Outputs>,
    /// Where the step leaves what later ones read.
    pub(super) folder: String,
    /// All that counts passed so far in the group around it.
    pub(super) passed: bool,
    /// Status of the step itself, when it has one.
    pub(super) own: Option<&'static str>,
}

impl Sight {
    fn status(&self) -> &'static str {
        if self.passed { "passed" } else { "failed" }
    }

    fn own(&self, path: &str) -> Option<Value> {
        let own = self.own.unwrap_or("running");
        match path {
            "status" => Some(own.into()),
            "passed" | "success" => Some((own == "passed").into()),
            "failed" | "error" => Some(matches!(own, "failed" | "timeout" | "aborted").into()),
            _ => None,
        }
    }

    fn look_up(&self, path: &str) -> Option<Value> {
        match path {
            "passed" | "success" => return Some(self.passed.into()),
            "failed" | "error" => return Some((!self.passed).into()),
            "always" => return Some(true.into()),
            "never" => return Some(false.into()),
            "status" => return Some(self.status().into()),
            "output" => return Some(self.outputs.all()),
            "step.results" => return Some(self.folder.clone().into()),
            "services" => return Some(self.services()),
            _ => {}
        }
        if let Some(name) = path.strip_prefix("output.") {
            return self.outputs.get(name);
        }
        if let Some(rest) = path.strip_prefix("self.") {
            return self.own(rest);
        }
        if let Some(rest) = path.strip_prefix("step.") {
            // A step of the parent, unless one here has its name.
            return match self.in_context(path) {
                Some(value) if !self.results.knows(rest) => Some(value),
                _ => self.results.get(rest),
            };
        }
        if let Some(name) = path.strip_prefix("services.")
            && let Some(instances) = self.services.0.borrow().get(name)
        {
            return Some(instances.clone());
        }
        self.in_context(path)
    }

    /// All services by name: those of the parent, and own ones above them.
    fn services(&self) -> Value {
        let above = self.context.get("services").and_then(Value::as_object);
        let mut all = above.cloned().unwrap_or_default();
        let own = self.services.0.borrow();
        all.extend(own.iter().map(|(name, one)| (name.clone(), one.clone())));
        Value::Object(all)
    }

    fn in_context(&self, path: &str) -> Option<Value> {
        let mut names = path.split('.');
        let mut value = self.context.get(names.next()?)?;
        for name in names {
            value = value.as_object()?.get(name)?;
        }
        Some(value.clone())
    }
}

/// A sight with what is around a text, and what its functions were answered.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) sight: &'a Sight,
    pub(super) around: &'a Surroundings,
    pub(super) asked: &'a Asked,
}

impl expression::Scope for Scope<'_> {
    fn variable(&self, path: &str) -> Lookup {
        if let Some(name) = path.strip_prefix("env.") {
            let value = self.around.environment.get(name).cloned();
            return Lookup::Known(value.unwrap_or_default().into());
        }
        if path == "workingDir" {
            return Lookup::Known(self.around.directory.to_string_lossy().into());
        }
        let found = self.sight.look_up(path);
        if let (None, Some(name)) = (&found, path.strip_prefix("services."))
            && !name.contains('.')
        {
            // Else the map of all services would make nothing of it.
            return Lookup::Refused(format!("there is no service `{name}` here"));
        }
        found.into()
    }

    fn function(&self, name: &str, arguments: &[Value]) -> Lookup {
        match name {
            "date" => Moment::from_unix_ms(now_ms()).date(arguments),
            name if ANSWERED.contains(&name) => self.asked.ask(name, arguments),
            _ => Lookup::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_spec::expression::Expression;

    use super::*;

    fn eval(text: &str, sight: &Sight) -> bool {
        let around = Surroundings {
            environment: BTreeMap::from([("SET".to_owned(), "yes".to_owned())]),
            ..Surroundings::default()
        };
        let scope = Scope {
            sight,
            around: &around,
            asked: &Asked::default(),
        };
        Expression::parse(text)
            .and_then(|expression| expression.evaluate_bool(&scope))
            .expect("it can be evaluated")
    }

    #[test]
    fn conditions_see_the_group_the_step_itself_and_others() {
        let mut sight = Sight {
            context: Rc::new(BTreeMap::from([(
                "execution".to_owned(),
                serde_json::json!({"name": "smoke-1"}),
            )])),
            results: Rc::default(),
            services: Rc::default(),
            outputs: Rc::default(),
            folder: results_of("own"),
            passed: false,
            own: Some("failed"),
        };
        sight.results.set(
            "build",
            Known {
                status: "passed",
                code: Some(0),
                outputs: BTreeMap::from([("url".to_owned(), "x".to_owned())]),
            },
        );
        for text in [
            "failed",
            "!passed",
            "always",
            "self.failed",
            "self.error && !self.success",
            "step.results == '/data/.steps/own'",
            "step.build.results == '/data/.steps/build' && step.build.exitCode == 0",
            "step.build.passed",
            "step.build.outputs.url == 'x'",
            "step.other.status == 'queued'",
            "env.SET == 'yes' && env.MISSING == ''",
            "execution.name == 'smoke-1'",
            "abspath('x') == '/data/x'",
            "output.none == null && output.none.deeper == null && len(output) == 0",
        ] {
            assert!(eval(text, &sight), "{text}");
        }
        sight.passed = true;
        assert!(eval("passed && status == 'passed'", &sight));
    }
}
