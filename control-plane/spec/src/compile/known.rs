//! Variables where they can not be known. Those of instances (`index`, `matrix.browser`, `shard.files`, …)
//! outside of what has instances, and names that no strategy around them declares, are refused. Steps
//! and services that are not there, and parts that steps do not have, are warned of: a step that is
//! nothing makes a condition false. Asked when templates are merged, since a template may be used
//! inside and outside, and beside all steps.

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
/// may have more steps and services.
pub(super) fn check(spec: &Spec, complete: bool, problems: &mut Problems, warnings: &mut Problems) {
    let there = complete.then(|| {
        let mut there = There::default();
        there.add(spec);
        there
    });
    let mut spec = spec.clone();
    spec.visit(&mut Checker {
        blocks: Vec::new(),
        there,
        answers: HashMap::new(),
        problems,
        warnings,
    });
}

/// What a spec has, that of workers too: which of it a text can see depends on where it is.
#[derive(Default)]
struct There {
    /// Ids of steps.
    steps: BTreeSet<String>,
    /// A step has a name that is not known yet, and an id that is made of it.
    more_steps: bool,
    /// Names of services.
    services: BTreeSet<String>,
}

impl There {
    fn add(&mut self, spec: &Spec) {
        self.services.extend(spec.services.keys().cloned());
        for steps in [&spec.setup, &spec.steps, &spec.after] {
            self.add_steps(steps);
        }
    }

    fn add_steps(&mut self, steps: &[Step]) {
        for step in steps {
            match (&step.id, &step.name) {
                (Some(id), _) => _ = self.steps.insert(id.text.clone()),
                (None, Some(name)) if name.text.contains("{{") => self.more_steps = true,
                (None, Some(name)) => self.steps.extend(name::slug(&name.text)),
                (None, None) => {}
            }
            self.services.extend(step.services.keys().cloned());
            self.add_steps(&step.setup);
            self.add_steps(&step.steps);
            if let Some(parallel) = &step.parallel {
                self.add(&parallel.worker);
            }
        }
    }

    /// That there is no step or service of this name, if so.
    fn lacks(&self, what: &str, name: &str) -> Option<String> {
        let (known, text) = match what {
            "step" if !self.more_steps => (&self.steps, "there is no step with the id"),
            "services" => (&self.services, "there is no service"),
            _ => return None,
        };
        if known.contains(name) {
            return None;
        }
        let short: String = name.chars().take(60).collect();
        let text = format!("{text} `{short}`");
        Some(
            match suggest::nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("{text}; did you mean `{near}`?"),
                None => text,
            },
        )
    }
}

struct Checker<'a> {
    /// What the blocks around a text have of their own, the outermost first.
    blocks: Vec<Names>,
    /// All steps and services, when they are known.
    there: Option<There>,
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
            "step" | "services" => self
                .there
                .as_ref()
                .and_then(|there| there.lacks(root, first))
                .or_else(|| match root {
                    "step" => lacks("a step", &format!("step.{first}"), part?, &OF_STEPS),
                    _ => None,
                }),
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
    let roots = [
        "index",
        "count",
        "matrix",
        "shard",
        "step.",
        "self.",
        "services.",
    ];
    roots.iter().any(|name| text.contains(name))
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
