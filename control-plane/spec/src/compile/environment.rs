//! The environment of a step: an ordered list for the conductor, and references for the cluster.

use std::collections::{BTreeSet, HashMap};

use serde_json::json;

use crate::expression::Value;
use crate::plan;
use crate::schema::{EnvValue, EnvVar};

/// The environment of a step.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Environment {
    /// Values that travel with the order to start a process.
    pub(super) plain: Vec<plan::EnvVar>,
    /// Values that only the kubelet can find.
    pub(super) cluster: Vec<Value>,
}

/// Splits variables by who resolves them. Plain ones are ordered so that what a `$(NAME)` names
/// comes before it; missing keys in the cluster become empty values.
pub(super) fn split(variables: &[EnvVar]) -> Environment {
    let mut environment = Environment::default();
    let mut plain = Vec::new();
    for variable in variables {
        match &variable.value {
            EnvValue::Plain(text) => plain.push(plan::EnvVar {
                name: variable.name.clone(),
                value: text.text.clone(),
            }),
            EnvValue::From(from) => environment.cluster.push(json!({
                "name": variable.name,
                "valueFrom": optional(from.value.clone()),
            })),
        }
    }
    environment.plain = ordered(plain);
    environment
}

/// A reference whose missing key gives an empty value, unless it says that it is needed.
pub(super) fn optional(mut from: Value) -> Value {
    for kind in ["secretKeyRef", "configMapKeyRef"] {
        if let Some(Value::Object(reference)) = from.get_mut(kind) {
            let optional = reference.entry("optional");
            optional.or_insert(Value::Bool(true));
        }
    }
    from
}

fn ordered(variables: Vec<plan::EnvVar>) -> Vec<plan::EnvVar> {
    let mut last = HashMap::new();
    for (index, variable) in variables.iter().enumerate() {
        last.insert(variable.name.as_str(), index);
    }
    let mut order = Order {
        variables: &variables,
        last,
        seen: vec![false; variables.len()],
        result: Vec::with_capacity(variables.len()),
    };
    for index in 0..variables.len() {
        order.put(index, 0);
    }
    order.result
}

struct Order<'a> {
    variables: &'a [plan::EnvVar],
    /// Where each name stands last.
    last: HashMap<&'a str, usize>,
    seen: Vec<bool>,
    result: Vec<plan::EnvVar>,
}

impl Order<'_> {
    /// Puts a variable after those it refers to. Circles stay in the order of the manifest.
    fn put(&mut self, index: usize, depth: usize) {
        if self.seen[index] {
            return;
        }
        self.seen[index] = true;
        let variable = &self.variables[index];
        for name in references(&variable.value) {
            let before = if name == variable.name {
                let earlier = &self.variables[..index];
                earlier.iter().rposition(|before| before.name == name)
            } else {
                self.last.get(name).copied()
            };
            if let Some(before) = before.filter(|_| depth < 64) {
                self.put(before, depth + 1);
            }
        }
        self.result.push(variable.clone());
    }
}

/// Names in `$(NAME)`; `$$(NAME)` is no reference.
fn references(value: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        rest = after.strip_prefix('$').unwrap_or(after);
        if let Some(inner) = after.strip_prefix('(')
            && let Some(end) = inner.find(')')
        {
            names.insert(&inner[..end]);
            rest = &inner[end..];
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(variables: &[(&str, &str)]) -> String {
        let variables = variables
            .iter()
            .map(|(name, value)| plan::EnvVar {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            })
            .collect();
        let names: Vec<String> = ordered(variables)
            .into_iter()
            .map(|v| v.name + "=" + &v.value)
            .collect();
        names.join(" ")
    }

    #[test]
    fn variables_come_after_those_they_name() {
        assert_eq!(
            order(&[("URL", "http://$(HOST)"), ("X", "1"), ("HOST", "h")]),
            "HOST=h URL=http://$(HOST) X=1"
        );
        assert_eq!(order(&[("A", "$$(B)"), ("B", "b")]), "A=$$(B) B=b");
    }

    #[test]
    fn circles_and_own_names_end() {
        assert_eq!(order(&[("A", "$(B)"), ("B", "$(A)")]), "B=$(A) A=$(B)");
        assert_eq!(order(&[("P", "1"), ("P", "$(P):2")]), "P=1 P=$(P):2");
    }
}
