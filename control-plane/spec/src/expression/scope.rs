//! Where variables and functions of an expression come from.

use std::collections::BTreeMap;

use serde_json::Map;

use super::Expression;
use super::value::Value;

/// What a scope says of a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// This is its value.
    Known(Value),
    /// It stands for an expression of which a later stage knows the rest.
    Later(Expression),
    /// It may be known at a later stage: the expression keeps it.
    Unknown,
    /// It is wrong here; the text says why and names the cure.
    Refused(String),
}

impl From<Option<Value>> for Lookup {
    fn from(value: Option<Value>) -> Self {
        value.map_or(Self::Unknown, Self::Known)
    }
}

/// The variables and functions that are known at one stage.
pub trait Scope {
    /// The value of a variable by its whole dotted path, such as `env.HOME`.
    ///
    /// For a longer path that is unknown its beginnings are asked for too, longest first: a
    /// scope that knows `execution` as a map need not know `execution.id`.
    fn variable(&self, path: &str) -> Lookup;

    /// The result of a function that is not one of the language's own pure ones: `file`,
    /// `glob`, `date`, `secret`, …
    fn function(&self, name: &str, arguments: &[Value]) -> Lookup {
        let _ = (name, arguments);
        Lookup::Unknown
    }
}

/// Knows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoScope;

impl Scope for NoScope {
    fn variable(&self, _path: &str) -> Lookup {
        Lookup::Unknown
    }
}

/// Variables by their paths.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Variables {
    values: BTreeMap<String, Value>,
    /// Names below which all is known: what is not there has this value.
    complete: BTreeMap<String, Value>,
}

impl Variables {
    /// No variables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a variable by its dotted path. A map is known as a whole: what it lacks is `null`.
    pub fn set(&mut self, path: impl Into<String>, value: impl Into<Value>) {
        self.values.insert(path.into(), value.into());
    }

    /// Says that all of `name.*` is here, and `missing` is the value of what is not: `env` with
    /// the empty text.
    pub fn complete(&mut self, name: impl Into<String>, missing: impl Into<Value>) {
        self.complete.insert(name.into(), missing.into());
    }

    /// All of `name.*` as a map.
    fn gather(&self, name: &str) -> Value {
        let prefix = format!("{name}.");
        let below = self.values.range(prefix.clone()..);
        let mut map = Map::new();
        for (path, value) in below.take_while(|(path, _)| path.starts_with(&prefix)) {
            map.insert(path[prefix.len()..].to_owned(), value.clone());
        }
        Value::Object(map)
    }
}

impl Scope for Variables {
    fn variable(&self, path: &str) -> Lookup {
        if let Some(value) = self.values.get(path) {
            return Lookup::Known(value.clone());
        }
        if self.complete.contains_key(path) {
            return Lookup::Known(self.gather(path));
        }
        match path.split_once('.') {
            // A longer path asks for its beginning next, which may be a map.
            Some((root, name)) if !name.contains('.') => self.complete.get(root).cloned().into(),
            _ => Lookup::Unknown,
        }
    }
}

/// Two scopes: the first that knows a name answers.
pub(super) struct Layered<'a> {
    pub(super) inner: &'a dyn Scope,
    pub(super) outer: &'a dyn Scope,
}

impl Scope for Layered<'_> {
    fn variable(&self, path: &str) -> Lookup {
        match self.inner.variable(path) {
            Lookup::Unknown => self.outer.variable(path),
            found => found,
        }
    }

    fn function(&self, name: &str, arguments: &[Value]) -> Lookup {
        self.outer.function(name, arguments)
    }
}
