//! Variables where they can not be known. Those of instances (`index`, `matrix.browser`, `shard.files`, …)
//! outside of what has instances, and names that no strategy around them declares, are refused. Steps
//! that are not there and parts that steps do not have are warned of: there they are nothing, so that
//! a condition is false. Asked when templates are merged, since a template may be used inside and
//! outside, and beside all steps.

use std::collections::{BTreeSet, HashMap};

use crate::expression::{Expression, Template, Value};
use crate::problem::{Place, Problem, Problems};
use crate::schema::{Json, Names, Spec, Step, Strategy, Text, Visitor};
use crate::suggest;

use super::name;
use super::scope::{OF_INSTANCES, only_in_instances};

/// What is known of a step: `step.<id>.status`.
const OF_STEPS: [&str; 7] = [
    "status", "passed", "failed", "skipped", "exitCode", "results", "outputs",
];
/// What a step knows of itself: `self.status`.
const OF_SELF: [&str; 5] = ["status", "passed", "success", "failed", "error"];

/// Names each variable that can not be known. Unless the spec is `complete`, a template that is not there
/// may have more steps.
pub(super) fn check(spec: &Spec, complete: bool, problems: &mut Problems, warnings: &mut Problems) {
    let steps = complete.then(|| {
        let mut steps = BTreeSet::new();
        ids(spec, &mut steps).map(|()| steps)
    });
    let steps = steps.flatten();
    let mut spec = spec.clone();
    spec.visit(&mut Checker {
        blocks: Vec::new(),
        steps,
        answers: HashMap::new(),
        problems,
        warnings,
    });
}

/// The ids of all steps, those of workers too: which of them a text can see depends on where it is.
/// Nothing when one comes of a name that is not known yet.
fn ids(spec: &Spec, all: &mut BTreeSet<String>) -> Option<()> {
    for steps in [&spec.setup, &spec.steps, &spec.after] {
        ids_of(steps, all)?;
    }
    Some(())
}

fn ids_of(steps: &[Step], all: &mut BTreeSet<String>) -> Option<()> {
    for step in steps {
        match (&step.id, &step.name) {
            (Some(id), _) => _ = all.insert(id.text.clone()),
            (None, Some(name)) if name.text.contains("{{") => return None,
            (None, Some(name)) => all.extend(name::slug(&name.text)),
            (None, None) => {}
        }
        ids_of(&step.setup, all)?;
        ids_of(&step.steps, all)?;
        if let Some(parallel) = &step.parallel {
            ids(&parallel.worker, all)?;
        }
    }
    Some(())
}

struct Checker<'a> {
    /// What the blocks around a text have of their own, the outermost first.
    blocks: Vec<Names>,
    /// The ids of all steps, when they are known.
    steps: Option<BTreeSet<String>>,
    /// What was said of variables that are nothing.
    answers: HashMap<String, String>,
    problems: &'a mut Problems,
    warnings: &'a mut Problems,
}

impl Checker<'_> {
    fn template(&mut self, place: &Place, text: &str) {
        if text.contains("{{")
            && may_name(text)
            && let Ok(template) = Template::parse(text)
        {
            for expression in template.expressions() {
                self.variables(place, &expression);
            }
        }
    }

    fn formula(&mut self, text: &Text) {
        if may_name(&text.text)
            && let Ok(expression) = Expression::parse(&text.text)
        {
            self.variables(&text.place, &expression);
        }
    }

    fn values(&mut self, place: &Place, value: &Value) {
        match value {
            Value::String(text) => self.template(place, text),
            Value::Array(items) => items.iter().for_each(|item| self.values(place, item)),
            Value::Object(map) => map.values().for_each(|item| self.values(place, item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn variables(&mut self, place: &Place, expression: &Expression) {
        for path in expression.variables() {
            if let Err(message) = self.variable(&path) {
                self.problems.push(Problem::of_text(place, &message));
            }
            // Each name is looked up once: for advice it is compared with all ids.
            if !self.warnings.is_full()
                && let Some(message) = self.answer(path)
            {
                self.warnings.push(Problem::of_text(place, &message));
            }
        }
    }

    /// As [`Checker::nothing`], remembered.
    fn answer(&mut self, path: String) -> Option<String> {
        if let Some(known) = self.answers.get(&path) {
            return Some(known.clone());
        }
        let answer = self.nothing(&path)?;
        self.answers.insert(path, answer.clone());
        Some(answer)
    }

    /// Why a variable of a step has no value, if so.
    fn nothing(&self, path: &str) -> Option<String> {
        let (root, rest) = path.split_once('.')?;
        let mut names = rest.split('.');
        let first = names.next().filter(|name| *name != "*")?;
        let part = names.next().filter(|name| *name != "*");
        match root {
            "self" => lacks("the step itself", "self", first, &OF_SELF),
            "step" if first == "results" && part.is_none() => None,
            "step" if self.steps.as_ref().is_some_and(|ids| !ids.contains(first)) => {
                let short: String = first.chars().take(60).collect();
                let text = format!("there is no step with the id `{short}`");
                let known = self.steps.iter().flatten().map(String::as_str);
                Some(match suggest::nearest(first, known) {
                    Some(near) => format!("{text}; did you mean `{near}`?"),
                    None => text,
                })
            }
            "step" => lacks("a step", &format!("step.{first}"), part?, &OF_STEPS),
            _ => None,
        }
    }

    fn variable(&self, path: &str) -> Result<(), String> {
        let mut parts = path.split('.');
        let root = parts.next().unwrap_or_default();
        let name = parts.next().filter(|name| *name != "*");
        if !OF_INSTANCES.contains(&root) {
            return Ok(());
        }
        let known = || self.blocks.iter().flatten().map(String::as_str);
        if !known().any(|name| OF_INSTANCES.contains(&name)) {
            return Err(only_in_instances(path));
        }
        let field = match root {
            "matrix" => "matrix",
            "shard" => "shards",
            _ => return Ok(()),
        };
        let own = || known().filter_map(|known| known.strip_prefix(root)?.strip_prefix('.'));
        let found = match name {
            Some(name) => own().any(|own| own == name),
            None => own().next().is_some(),
        };
        if found {
            return Ok(());
        }
        let cure = name.and_then(|name| suggest::nearest(name, own()));
        Err(match cure {
            Some(near) => format!("there is no `{path}` here; did you mean `{root}.{near}`?"),
            None => format!("there is no `{path}` here: no `{field}` around it declares that"),
        })
    }
}

/// That a step does not have a part of this name, if so.
fn lacks(what: &str, path: &str, part: &str, known: &[&str]) -> Option<String> {
    if known.contains(&part) {
        return None;
    }
    let short: String = part.chars().take(60).collect();
    let text = format!("{what} has no `{short}`");
    Some(match suggest::nearest(part, known.iter().copied()) {
        Some(near) => format!("{text}; did you mean `{path}.{near}`?"),
        None => format!("{text}, only `{}`", known.join("`, `")),
    })
}

/// Whether a text is worth parsing.
fn may_name(text: &str) -> bool {
    ["index", "count", "matrix", "shard", "step.", "self."]
        .iter()
        .any(|name| text.contains(name))
}

impl Visitor for Checker<'_> {
    fn template(&mut self, text: &mut Text) {
        Self::template(self, &text.place, &text.text);
    }

    fn inside(&mut self, text: &mut Text) {
        Self::template(self, &text.place, &text.text);
    }

    fn expression(&mut self, text: &mut Text) {
        Self::formula(self, text);
    }

    fn value(&mut self, value: &mut Json) {
        self.values(&value.place, &value.value);
    }

    fn early(&mut self, text: &mut Text) {
        Self::template(self, &text.place, &text.text);
    }

    fn formula(&mut self, text: &mut Text) {
        Self::formula(self, text);
    }

    fn late_value(&mut self, value: &mut Json) {
        self.values(&value.place, &value.value);
    }

    fn enter(&mut self, own: Names, _strategy: &Strategy) {
        self.blocks.push(own);
    }

    fn leave(&mut self) {
        self.blocks.pop();
    }
}
