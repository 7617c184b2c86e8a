//! Properties of values.

use std::fmt::Display;

use crate::expression::error::Error;
use crate::expression::tree::Segment;
use crate::expression::value::{Value, describe};

/// Follows a path into a value. After a `*` the rest is taken of each item, and a further `*`
/// changes nothing.
pub(super) fn walk(value: Value, path: &[Segment], whole: &dyn Display) -> Result<Value, Error> {
    let mut value = value;
    for (index, segment) in path.iter().enumerate() {
        match segment {
            Segment::Name(name) => value = property(value, name, whole)?,
            Segment::Each => {
                let rest: Vec<Segment> = path[index + 1..]
                    .iter()
                    .filter(|segment| **segment != Segment::Each)
                    .cloned()
                    .collect();
                return each(value, whole)?
                    .into_iter()
                    .map(|item| walk(item, &rest, whole))
                    .collect::<Result<_, _>>()
                    .map(Value::Array);
            }
        }
    }
    Ok(value)
}

fn property(value: Value, name: &str, whole: &dyn Display) -> Result<Value, Error> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::Object(mut map) => Ok(map.shift_remove(name).unwrap_or(Value::Null)),
        Value::Array(mut items) => {
            let Ok(index) = name.parse::<usize>() else {
                return Err(Error::operation(format!(
                    "a list has no property `{name}` in `{whole}` (use `.*.{name}` for that of each item)"
                )));
            };
            if index >= items.len() {
                return Err(Error::operation(format!(
                    "no item {index} in a list of {} in `{whole}`",
                    items.len()
                )));
            }
            Ok(items.swap_remove(index))
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(Error::operation(format!(
            "{} has no property `{name}` in `{whole}`",
            describe(&value)
        ))),
    }
}

fn each(value: Value, whole: &dyn Display) -> Result<Vec<Value>, Error> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => Ok(items),
        Value::Object(map) => Ok(map.into_iter().map(|(_, value)| value).collect()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(Error::operation(format!(
            "{} has no items for `*` in `{whole}`",
            describe(&value)
        ))),
    }
}
