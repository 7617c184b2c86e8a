//! Nodes of a YAML tree.

use serde_json::Map;

use crate::expression::Value;
use crate::problem::Place;

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Mark {
    /// The beginning of a file.
    pub const START: Self = Self { line: 1, column: 1 };

    /// This mark as a place with a field path.
    #[must_use]
    pub fn place(self, path: &str) -> Place {
        Place {
            line: self.line,
            column: self.column,
            path: path.into(),
            document: "".into(),
            open: false,
        }
    }
}

/// A node with its mark.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub mark: Mark,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A scalar.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file, without duplicate keys.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Key.
    pub key: String,
    /// Where the key begins.
    pub mark: Mark,
    /// Value.
    pub value: Node,
}

/// A scalar as it was written; what it means depends on what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// Its text.
    pub text: String,
    /// It is quoted, a block or tagged as text, so never anything else than text.
    pub quoted: bool,
}

impl Scalar {
    /// Its value: a plain `null`, boolean or number is one, everything else text.
    #[must_use]
    pub fn value(&self) -> Value {
        if self.quoted {
            return Value::from(self.text.as_str());
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Value::Null,
            "true" | "True" | "TRUE" => Value::Bool(true),
            "false" | "False" | "FALSE" => Value::Bool(false),
            text => number(text).unwrap_or_else(|| Value::from(text)),
        }
    }
}

/// A number as YAML writes it: octal with `0o` or, as Kubernetes reads it, with a leading `0`.
fn number(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let radix = |digits: &str, radix| {
        let valid = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        let int = valid.then(|| i64::from_str_radix(digits, radix).ok())??;
        Some(Value::from(if negative { -int } else { int }))
    };
    if let Some(hex) = digits.strip_prefix("0x") {
        return radix(hex, 16);
    }
    if let Some(octal) = digits.strip_prefix("0o") {
        return radix(octal, 8);
    }
    if digits.len() > 1 && digits.chars().all(|c| c.is_ascii_digit()) && digits.starts_with('0') {
        return radix(digits, 8);
    }
    if let Some(int) = radix(digits, 10) {
        return Some(int);
    }
    let float_like = digits
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'))
        && digits.contains(|c: char| c.is_ascii_digit());
    let float: f64 = float_like.then(|| text.parse().ok())??;
    serde_json::Number::from_f64(float).map(Value::Number)
}

impl Node {
    /// The node as a JSON value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(scalar) => scalar.value(),
            Content::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Content::Map(entries) => {
                let mut map = Map::new();
                for entry in entries {
                    map.insert(entry.key.clone(), entry.value.to_value());
                }
                Value::Object(map)
            }
        }
    }

    /// Whether it is absent in all but name: an empty or `null` scalar.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.value().is_null())
    }

    /// The value of a key, when this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.content {
            Content::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value),
            Content::Scalar(_) | Content::List(_) => None,
        }
    }

    /// What it is, for an error message.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.content {
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
            Content::Scalar(scalar) => {
                let kind = match scalar.value() {
                    Value::Null => return "nothing".to_owned(),
                    Value::Bool(_) => "the boolean",
                    Value::Number(_) => "the number",
                    _ => "the text",
                };
                let mut text: String = scalar.text.chars().take(40).collect();
                if text.len() < scalar.text.len() {
                    text.push('…');
                }
                format!("{kind} `{}`", text.escape_debug())
            }
        }
    }
}
