//! Values as YAML for people: block style, keys in their order, texts of several lines as blocks.

use crate::expression::{Value, write_word};

/// Writes a document.
#[must_use]
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    if is_nested(value) {
        block(value, 0, &mut out);
    } else {
        scalar(value, 0, &mut out);
    }
    out
}

fn is_nested(value: &Value) -> bool {
    match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Array(items) => {
            for item in items {
                out.push_str(&pad);
                out.push_str("- ");
                if is_nested(item) {
                    let mut nested = String::new();
                    block(item, indent + 2, &mut nested);
                    // Its first line stands behind the dash.
                    out.push_str(nested.trim_start_matches(' '));
                } else {
                    scalar(item, indent + 2, out);
                }
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                out.push_str(&pad);
                out.push_str(&write_word(key));
                out.push(':');
                match item {
                    Value::Array(_) if is_nested(item) => {
                        out.push('\n');
                        block(item, indent, out);
                    }
                    Value::Object(_) if is_nested(item) => {
                        out.push('\n');
                        block(item, indent + 2, out);
                    }
                    flat => {
                        out.push(' ');
                        scalar(flat, indent + 2, out);
                    }
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn scalar(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::String(text) if is_literal(text) => {
            let body = text.strip_suffix('\n');
            out.push_str(if body.is_some() { "|\n" } else { "|-\n" });
            for line in body.unwrap_or(text).split('\n') {
                if !line.is_empty() {
                    out.push_str(&" ".repeat(indent));
                    out.push_str(line);
                }
                out.push('\n');
            }
        }
        Value::String(text) => {
            out.push_str(&write_word(text));
            out.push('\n');
        }
        other => {
            out.push_str(&other.to_string());
            out.push('\n');
        }
    }
}

/// Whether a text of several lines can stand as a literal block: without an indentation that would
/// have to be told, without characters that a block can not hold, and with at most one line break at
/// its end.
fn is_literal(text: &str) -> bool {
    let plain = |c: char| {
        c == '\n'
            || c == '\t'
            || !(c.is_control() || matches!(c, '\u{feff}' | '\u{85}' | '\u{2028}' | '\u{2029}'))
    };
    text.trim_end_matches('\n').contains('\n')
        && !text.ends_with("\n\n")
        && !text.starts_with([' ', '\t', '\n'])
        && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::yaml::{Limits, read_value};

    #[test]
    fn scripts_are_blocks_and_keys_keep_their_order() {
        let value = json!({"b": [{"shell": "one\ntwo\n", "x": [1, "2"]}, []], "a": {"t": "a\n\n b", "e": ""}});
        let text = "b:\n- shell: |\n    one\n    two\n  x:\n  - 1\n  - \"2\"\n- []\na:\n  t: |-\n    a\n\n     b\n  e: \"\"\n";
        assert_eq!(write(&value), text);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let flat = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[ -~\n\t]{0,20}".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        flat.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("[a-z ]{1,6}", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(value in any_value()) {
            let text = write(&value);
            let read = read_value(&text, Limits::default());
            prop_assert_eq!(read.map_err(|e| format!("{e}\n{text}")), Ok(value));
        }
    }
}
