//! What expressions can see while the plan is walked.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use muster_spec::expression::{self, Lookup, Value};

/// Results of steps with an id, for `step.<id>.*`.
#[derive(Debug, Default)]
pub(super) struct Results(RefCell<HashMap<String, Known>>);

/// What is known of a step that ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) status: &'static str,
    pub(super) outputs: BTreeMap<String, String>,
}

impl Results {
    pub(super) fn set(&self, id: &str, known: Known) {
        self.0.borrow_mut().insert(id.to_owned(), known);
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

/// What a step sees of the run.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// The plan's context.
    pub(super) context: Rc<BTreeMap<String, Value>>,
    pub(super) results: Rc<Results>,
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
            "passed" => Some((own == "passed").into()),
            "failed" => Some(matches!(own, "failed" | "timeout" | "aborted").into()),
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
            _ => {}
        }
        if let Some(rest) = path.strip_prefix("self.") {
            return self.own(rest);
        }
        if let Some(rest) = path.strip_prefix("step.") {
            return self.results.get(rest);
        }
        let mut names = path.split('.');
        let mut value = self.context.get(names.next()?)?;
        for name in names {
            value = value.as_object()?.get(name)?;
        }
        Some(value.clone())
    }
}

/// A sight with an environment.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) sight: &'a Sight,
    pub(super) environment: &'a BTreeMap<String, String>,
}

impl expression::Scope for Scope<'_> {
    fn variable(&self, path: &str) -> Lookup {
        if let Some(name) = path.strip_prefix("env.") {
            let value = self.environment.get(name).cloned().unwrap_or_default();
            return Lookup::Known(value.into());
        }
        self.sight.look_up(path).into()
    }
}

#[cfg(test)]
mod tests {
    use muster_spec::expression::Expression;

    use super::*;

    fn eval(text: &str, sight: &Sight) -> bool {
        let environment = BTreeMap::from([("SET".to_owned(), "yes".to_owned())]);
        let scope = Scope {
            sight,
            environment: &environment,
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
            passed: false,
            own: Some("failed"),
        };
        sight.results.set(
            "build",
            Known {
                status: "passed",
                outputs: BTreeMap::from([("url".to_owned(), "x".to_owned())]),
            },
        );
        for text in [
            "failed",
            "!passed",
            "always",
            "self.failed",
            "step.build.passed",
            "step.build.outputs.url == 'x'",
            "step.other.status == 'queued'",
            "env.SET == 'yes' && env.MISSING == ''",
            "execution.name == 'smoke-1'",
        ] {
            assert!(eval(text, &sight), "{text}");
        }
        sight.passed = true;
        assert!(eval("passed && status == 'passed'", &sight));
    }
}
