//! Values and how they turn into one another. Operators and functions are elsewhere.

use serde_json::Number;

use super::error::Error;

/// A value of the language: JSON.
pub use serde_json::Value;

/// The text of a value as it stands in a template and as `==` compares it: `null` is empty,
/// lists are joined by commas, maps are JSON with sorted keys, integers have no fraction.
#[must_use]
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number_text(number),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Object(_) => json(value),
    }
}

/// Whether a value counts as true: all but `null`, `false`, `0`, `off`, and empty texts,
/// lists and maps.
#[must_use]
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Number(_) | Value::String(_) => {
            !matches!(text(value).as_str(), "" | "false" | "0" | "off")
        }
    }
}

/// JSON with sorted keys and without needless fractions.
pub(super) fn json(value: &Value) -> String {
    let mut out = String::new();
    write_json(value, &mut out);
    out
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_json(item, out);
            }
            out.push('}');
        }
        Value::Number(number) => out.push_str(&number_text(number)),
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

fn number_text(number: &Number) -> String {
    let text = number.to_string();
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// A number as arithmetic sees it: integers stay exact as long as they fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Numeric {
    Int(i64),
    Float(f64),
}

impl Numeric {
    pub(super) fn as_float(self) -> f64 {
        match self {
            #[expect(
                clippy::cast_precision_loss,
                reason = "mixed arithmetic is done in floating point by definition"
            )]
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

/// Reads a value as a number: texts are parsed, `null` is 0.
pub(super) fn numeric(value: &Value) -> Result<Numeric, Error> {
    if let Value::Number(number) = value {
        return Ok(match number.as_i64() {
            Some(int) => Numeric::Int(int),
            None => Numeric::Float(number.as_f64().unwrap_or(0.0)),
        });
    }
    if value.is_null() {
        return Ok(Numeric::Int(0));
    }
    let text = text(value);
    if let Ok(int) = text.parse::<i64>() {
        return Ok(Numeric::Int(int));
    }
    match text.parse::<f64>() {
        Ok(float) if float.is_finite() => Ok(Numeric::Float(float)),
        _ => Err(Error::operation(format!(
            "{} is not a number",
            describe(value)
        ))),
    }
}

/// The value of a number; whole floats become integers.
pub(super) fn from_numeric(numeric: Numeric) -> Result<Value, Error> {
    match numeric {
        Numeric::Int(int) if int > i64::MIN => Ok(Value::from(int)),
        Numeric::Int(_) => from_float(Numeric::Int(i64::MIN).as_float()),
        Numeric::Float(float) => from_float(float),
    }
}

/// Largest integer that a float holds exactly, with all smaller ones.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub(super) fn from_float(float: f64) -> Result<Value, Error> {
    if float.fract() == 0.0 && float.abs() <= EXACT {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole and within the exact range"
        )]
        return Ok(Value::from(float as i64));
    }
    Number::from_f64(float)
        .map(Value::Number)
        .ok_or_else(|| Error::operation("the result is too large for a number"))
}

/// Reads a value as a whole number; fractions are cut.
pub(super) fn integer(value: &Value) -> Result<i64, Error> {
    match numeric(value)? {
        Numeric::Int(int) => Ok(int),
        Numeric::Float(float) if float.abs() <= EXACT =>
        {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "within the exact range; the fraction is cut on purpose"
            )]
            Ok(float.trunc() as i64)
        }
        Numeric::Float(_) => Err(Error::operation(format!(
            "{} is too large for an integer",
            describe(value)
        ))),
    }
}

/// A value for an error message: its kind and a short form.
pub(super) fn describe(value: &Value) -> String {
    let kind = match value {
        Value::Null => return "null".to_owned(),
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    };
    let full = json(value);
    let mut short: String = full.chars().take(40).collect();
    if short.len() < full.len() {
        short.push('…');
    }
    format!("{kind} {short}")
}
