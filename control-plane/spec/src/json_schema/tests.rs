//! The schema against the reader.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::schema::known_fields;
use crate::yaml::{Limits, read};

type Known = BTreeMap<String, BTreeSet<String>>;

/// A document in which every field of a schema is, but no definition within itself. Of two
/// fields that exclude one another, `drop` says which one is left out.
struct Sample<'a> {
    root: &'a Value,
    drop: usize,
    within: Vec<String>,
    fields: Known,
}

impl Sample<'_> {
    fn value(&mut self, schema: &Value, path: &str) -> Option<Value> {
        if let Some(link) = schema["$ref"].as_str() {
            if self.within.iter().any(|outer| outer == link) {
                return None;
            }
            self.within.push(link.to_owned());
            let target = self.root.pointer(link.trim_start_matches('#')).unwrap();
            let value = self.value(target, path);
            self.within.pop();
            return value;
        }
        for (keyword, first) in [("const", &schema["const"]), ("enum", &schema["enum"][0])] {
            if schema.get(keyword).is_some() {
                return Some(first.clone());
            }
        }
        if let Some(example) = schema["examples"].get(0) {
            return Some(example.clone());
        }
        if let Some(first) = schema["anyOf"].get(0) {
            return self.value(first, path);
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds[0].as_str(),
            kind => kind.as_str(),
        };
        Some(match kind {
            Some("object") => self.object(schema, path),
            Some("array") => {
                let item = self.value(&schema["items"], &format!("{path}[0]"));
                item.into_iter().collect()
            }
            Some("boolean") => false.into(),
            Some("integer" | "number") => 1.into(),
            _ => "x".into(),
        })
    }

    fn object(&mut self, schema: &Value, path: &str) -> Value {
        let Some(properties) = schema["properties"].as_object() else {
            let value = self.value(&schema["additionalProperties"], &format!("{path}.key"));
            return value.map_or(json!({}), |value| json!({"key": value}));
        };
        let known = self.fields.entry(path.to_owned()).or_default();
        known.extend(properties.keys().cloned());
        let rules = schema["allOf"].as_array().into_iter().flatten();
        let left_out: Vec<&Value> = rules
            .map(|rule| &rule["not"]["required"][self.drop])
            .collect();
        let mut map = Map::new();
        for (name, property) in properties {
            if left_out.iter().any(|left_out| *left_out == name) {
                continue;
            }
            let separator = if path.is_empty() { "" } else { "." };
            if let Some(value) = self.value(property, &format!("{path}{separator}{name}")) {
                map.insert(name.clone(), value);
            }
        }
        Value::Object(map)
    }
}

#[test]
fn the_reader_knows_the_fields_of_the_schema_and_no_others() {
    for kind in kinds() {
        let root = schema(Some(kind));
        let mut of_schema = Known::new();
        let mut of_reader = Known::new();
        for drop in [0, 1] {
            let mut sample = Sample {
                root: &root,
                drop,
                within: Vec::new(),
                fields: std::mem::take(&mut of_schema),
            };
            let document = sample.value(&root, "").unwrap();
            of_schema = sample.fields;
            let nodes = read(&document.to_string(), Limits::default()).unwrap();
            let (known, problems) = known_fields(&nodes[0]);
            for problem in &problems.0 {
                let message = problem.to_string();
                assert!(!message.contains("unknown field"), "{message}");
            }
            for (path, fields) in known {
                of_reader.entry(path).or_default().extend(fields);
            }
        }
        for (path, fields) in &of_reader {
            assert_eq!(of_schema.get(path), Some(fields), "{kind}: {path:?}");
        }
        for path in of_schema.keys() {
            assert!(of_reader.contains_key(path), "{kind}: {path:?} is not read");
        }
        assert!(of_reader.len() > 3, "{of_reader:?}");
    }
}

#[test]
fn every_field_has_a_description() {
    fn walk(schema: &Value, path: &str) {
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                let line = property["description"].as_str().unwrap_or_default();
                assert!(line.len() > 3, "{path}.{name}");
                walk(property, &format!("{path}.{name}"));
            }
        }
    }
    let root = schema(None);
    walk(&root, "");
    for (name, definition) in root["$defs"].as_object().unwrap() {
        walk(definition, name);
        assert!(definition["description"].is_string(), "{name}");
    }
}
