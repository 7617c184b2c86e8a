//! YAML as a value and back.

use crate::expression::error::Error;
use crate::expression::value::{Value, json};
use crate::yaml::{Limits, read_value};

/// The value of a YAML text with one document.
pub(super) fn read(text: &str) -> Result<Value, Error> {
    read_value(text, Limits::default())
        .map_err(|problem| Error::operation(format!("yaml: {problem}")))
}

/// A value as YAML, in block style with sorted keys.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut out),
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        flat => {
            out.push_str(&scalar(flat));
            out.push('\n');
        }
    }
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Array(items) => {
            for item in items {
                out.push_str(&" ".repeat(indent));
                out.push('-');
                after(item, indent, out);
            }
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            for (key, item) in entries {
                out.push_str(&" ".repeat(indent));
                out.push_str(&word(key));
                out.push(':');
                after(item, indent, out);
            }
        }
        _ => {}
    }
}

fn after(item: &Value, indent: usize, out: &mut String) {
    let nested = match item {
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => false,
    };
    if nested {
        out.push('\n');
        block(item, indent + 4, out);
    } else {
        out.push(' ');
        out.push_str(&scalar(item));
        out.push('\n');
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => word(text),
        other => json(other),
    }
}

/// A text bare when no reader could take it for anything else, otherwise in double quotes.
pub(crate) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./ ".contains(c);
    let reserved = [
        "true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf",
    ];
    let bare = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !text.ends_with(' ')
        && text.chars().all(plain)
        && !reserved.contains(&text.to_ascii_lowercase().as_str());
    if bare {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}
