//! Variables of instances (`index`, `matrix.browser`, `shard.files`, …) where they can not be known: outside
//! of what has instances, and names that no strategy around them declares. Asked when templates are
//! merged, since a template may be used inside and outside.

use crate::expression::{Expression, Template, Value};
use crate::problem::{Place, Problem, Problems};
use crate::schema::{Json, Names, Spec, Strategy, Text, Visitor};
use crate::suggest;

use super::scope::OF_INSTANCES;

/// Names each variable that can not be known.
pub(super) fn check(spec: &Spec, problems: &mut Problems) {
    let mut spec = spec.clone();
    spec.visit(&mut Checker {
        blocks: Vec::new(),
        problems,
    });
}

struct Checker<'a> {
    /// What the blocks around a text have of their own, the outermost first.
    blocks: Vec<Names>,
    problems: &'a mut Problems,
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
            return Err(format!(
                "`{path}` is known only in workers, services and members of a suite"
            ));
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

/// Whether a text is worth parsing.
fn may_name(text: &str) -> bool {
    ["index", "count", "matrix", "shard"]
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
