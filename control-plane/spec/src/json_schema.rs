//! A JSON Schema of the documents, for editors. The reader ([`crate::schema`]) decides what is
//! allowed; a test compares the fields of both, in both directions.

mod container;
mod content;
mod document;
mod field;
mod spec;
mod step;

use serde_json::{Map, Value, json};

use crate::schema::KINDS;

/// The kinds that a schema can be made for.
#[must_use]
pub fn kinds() -> &'static [&'static str] {
    &KINDS
}

/// The schema (draft 2020-12) of one kind, or of all: then `kind` decides.
///
/// Texts may hold `{{ }}` wherever the language allows it, so a value that depends on parameters
/// is not refused. A kind that is not among [`kinds`] gives the schema of all.
#[must_use]
pub fn schema(kind: Option<&str>) -> Value {
    let kind = kind.filter(|kind| KINDS.contains(kind));
    let mut root = Map::new();
    let dialect = "https://json-schema.org/draft/2020-12/schema";
    root.insert("$schema".to_owned(), dialect.into());
    root.insert("title".to_owned(), kind.unwrap_or("Muster").into());
    match kind {
        Some(kind) => {
            let link = format!("#/$defs/{kind}");
            root.insert("$ref".to_owned(), link.into());
        }
        None => {
            let rules = KINDS.iter().map(|kind| {
                json!({
                    "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                    "then": {"$ref": format!("#/$defs/{kind}")},
                })
            });
            root.insert("type".to_owned(), "object".into());
            root.insert("required".to_owned(), json!(["apiVersion", "kind"]));
            root.insert(
                "properties".to_owned(),
                json!({"kind": {"enum": KINDS, "description": "What the document is."}}),
            );
            root.insert("allOf".to_owned(), rules.collect());
        }
    }
    let mut definitions = Map::new();
    for (name, definition) in document::definitions()
        .into_iter()
        .chain(spec::definitions())
        .chain(step::definitions())
        .chain(container::definitions())
        .chain(content::definitions())
    {
        definitions.insert(name.to_owned(), definition);
    }
    root.insert("$defs".to_owned(), Value::Object(definitions));
    Value::Object(root)
}

#[cfg(test)]
mod tests;
