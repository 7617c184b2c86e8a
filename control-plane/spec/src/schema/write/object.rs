//! A map that is being written: what is not said is left out.

use serde_json::Map;

use crate::expression::Value;
use crate::schema::Text;

/// The map.
#[derive(Debug, Default)]
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    pub(super) fn some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    pub(super) fn text(&mut self, name: &str, text: Option<&Text>) {
        self.some(name, text.map(|text| text.text.as_str()));
    }

    /// A flag that is false when it is not said.
    pub(super) fn flag(&mut self, name: &str, flag: bool) {
        self.some(name, flag.then_some(true));
    }

    /// Another map, unless it is empty.
    pub(super) fn object(&mut self, name: &str, object: Self) {
        if !object.0.is_empty() {
            self.set(name, object.into_value());
        }
    }

    pub(super) fn list<T>(&mut self, name: &str, items: &[T], write: impl Fn(&T) -> Value) {
        if !items.is_empty() {
            self.set(name, Value::from_iter(items.iter().map(write)));
        }
    }

    pub(super) fn map<'a, T: 'a>(
        &mut self,
        name: &str,
        entries: impl Iterator<Item = (&'a String, &'a T)>,
        write: impl Fn(&T) -> Value,
    ) {
        let map: Map<String, Value> = entries
            .map(|(name, value)| (name.clone(), write(value)))
            .collect();
        if !map.is_empty() {
            self.set(name, Value::Object(map));
        }
    }

    pub(super) fn texts<'a>(
        &mut self,
        name: &str,
        entries: impl Iterator<Item = (&'a String, &'a Text)>,
    ) {
        self.map(name, entries, |text| text.text.as_str().into());
    }
}
