//! Functions of lists and maps.

use serde_json::json;

use super::{check_items, check_text, items};
use crate::expression::error::Error;
use crate::expression::value::{Value, describe, integer, text};

pub(super) fn join(values: &[Value]) -> Result<Value, Error> {
    if values[0].is_null() {
        return Ok(Value::Null);
    }
    let words: Vec<String> = items("join", &values[0])?.iter().map(text).collect();
    check_text(words.join(&separator(values)))
}

pub(super) fn split(values: &[Value]) -> Result<Value, Error> {
    let whole = text(&values[0]);
    let separator = separator(values);
    let words: Vec<Value> = if separator.is_empty() {
        whole.chars().map(|c| Value::from(c.to_string())).collect()
    } else {
        whole.split(separator.as_str()).map(Value::from).collect()
    };
    check_items(words.len())?;
    Ok(Value::Array(words))
}

fn separator(values: &[Value]) -> String {
    values.get(1).map_or_else(|| ",".to_owned(), text)
}

pub(super) fn len(values: &[Value]) -> Result<Value, Error> {
    match &values[0] {
        Value::Array(items) => Ok(Value::from(items.len())),
        Value::Object(map) => Ok(Value::from(map.len())),
        Value::String(text) => Ok(Value::from(text.chars().count())),
        other => Err(Error::operation(format!(
            "needs a text, list or map, found {}",
            describe(other)
        ))),
    }
}

pub(super) fn chunk(values: &[Value]) -> Result<Value, Error> {
    let list = items("chunk", &values[0])?;
    let size = usize::try_from(integer(&values[1])?).unwrap_or(0);
    if size == 0 {
        return Err(Error::operation("the size must be at least 1"));
    }
    let chunks = list.chunks(size).map(|part| Value::Array(part.to_vec()));
    Ok(Value::Array(chunks.collect()))
}

pub(super) fn at(values: &[Value]) -> Result<Value, Error> {
    let (count, found) = match &values[0] {
        Value::Object(map) => {
            let found = map.get(&text(&values[1]));
            return Ok(found.cloned().unwrap_or(Value::Null));
        }
        Value::Array(items) => (
            items.len(),
            usize::try_from(integer(&values[1])?)
                .ok()
                .and_then(|index| items.get(index).cloned()),
        ),
        Value::String(text) => (
            text.chars().count(),
            usize::try_from(integer(&values[1])?)
                .ok()
                .and_then(|index| text.chars().nth(index))
                .map(|c| Value::from(c.to_string())),
        ),
        other => {
            return Err(Error::operation(format!(
                "needs a list, map or text, found {}",
                describe(other)
            )));
        }
    };
    found.ok_or_else(|| {
        let index = text(&values[1]);
        Error::operation(format!("there is no item {index} among {count}"))
    })
}

pub(super) fn entries(values: &[Value]) -> Result<Value, Error> {
    let Value::Object(map) = &values[0] else {
        return Err(Error::operation(format!(
            "needs a map, found {}",
            describe(&values[0])
        )));
    };
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    let entries = entries
        .into_iter()
        .map(|(key, value)| json!({"key": key, "value": value}));
    Ok(Value::Array(entries.collect()))
}

/// From the first number, inclusive, to the second, exclusive.
pub(super) fn range(values: &[Value]) -> Result<Value, Error> {
    let first = integer(&values[0])?;
    let (start, end) = match values.get(1) {
        Some(second) => (first, integer(second)?),
        None => (0, first),
    };
    let count = end.saturating_sub(start).max(0);
    check_items(usize::try_from(count).unwrap_or(usize::MAX))?;
    Ok(Value::Array((start..end).map(Value::from).collect()))
}
