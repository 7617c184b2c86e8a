//! Pieces of a schema: what a field may hold, with a line for its reader.

use serde_json::{Map, Value, json};

/// Fields of an object with what they may hold.
pub(super) type Fields = Vec<(&'static str, Value)>;

fn with(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}

/// Text.
pub(super) fn text(description: &str) -> Value {
    with(json!({"type": "string"}), description)
}

/// Text, a number or a boolean, all taken as text.
pub(super) fn scalar(description: &str) -> Value {
    let types = ["string", "number", "boolean"];
    with(json!({"type": types}), description)
}

/// True or false.
pub(super) fn flag(description: &str) -> Value {
    with(json!({"type": "boolean"}), description)
}

/// A whole number in these bounds.
pub(super) fn integer(least: u32, most: u32, description: &str) -> Value {
    let bounds = json!({"type": "integer", "minimum": least, "maximum": most});
    with(bounds, description)
}

/// A number.
pub(super) fn number(description: &str) -> Value {
    with(json!({"type": "number"}), description)
}

/// Text of this form.
pub(super) fn pattern(pattern: &str, example: &str, description: &str) -> Value {
    let form = json!({"type": "string", "pattern": pattern, "examples": [example]});
    with(form, description)
}

/// A duration, or a template of one.
pub(super) fn duration(description: &str) -> Value {
    let form = r"^\s*([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+\s*$|^0$|^\s*$|\{\{";
    pattern(form, "1m30s", description)
}

/// One of these texts.
pub(super) fn one_of(allowed: &[&str], description: &str) -> Value {
    with(json!({"enum": allowed}), description)
}

/// One of these texts, or a template that gives one.
pub(super) fn one_of_or_template(allowed: &[&str], description: &str) -> Value {
    let template = json!({"type": "string", "pattern": r"\{\{"});
    with(json!({"anyOf": [{"enum": allowed}, template]}), description)
}

/// Anything.
pub(super) fn anything(description: &str) -> Value {
    with(json!({}), description)
}

/// A list.
pub(super) fn list(items: &Value, description: &str) -> Value {
    with(json!({"type": "array", "items": items}), description)
}

/// A map with names of the user's choice.
pub(super) fn map(values: &Value, description: &str) -> Value {
    let map = json!({"type": "object", "additionalProperties": values});
    with(map, description)
}

/// Another definition.
pub(super) fn see(name: &str, description: &str) -> Value {
    let link = json!({"$ref": format!("#/$defs/{name}")});
    with(link, description)
}

/// A list, or an expression of one.
pub(super) fn dynamic_list(description: &str) -> Value {
    let types = ["array", "string", "number", "boolean"];
    with(json!({"type": types}), description)
}

/// A map with known fields.
pub(super) fn object(description: &str, required: &[&str], fields: Fields) -> Value {
    let properties: Map<String, Value> = fields
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    let mut schema = json!({
        "type": "object",
        "description": description,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// The same, but not both of two fields.
pub(super) fn not_both(mut schema: Value, pairs: &[[&str; 2]]) -> Value {
    let rules = pairs.iter().map(|pair| json!({"not": {"required": pair}}));
    schema["allOf"] = rules.collect();
    schema
}

/// A Kubernetes object of which only the names of its fields are checked.
pub(super) fn kubernetes(name: &str, fields: &[&'static str], description: &str) -> Value {
    let line = format!("As Kubernetes has it in `{name}`.");
    let fields = fields.iter().map(|field| (*field, anything(&line)));
    object(
        &format!("{description}, a Kubernetes `{name}`"),
        &[],
        fields.collect(),
    )
}
