//! Functions of paths. Purely of texts: no file is looked at.

use crate::expression::error::Error;
use crate::expression::value::{Value, text};

/// `abspath(path, directory)`.
pub(super) fn absolute(values: &[Value]) -> Result<Value, Error> {
    let base = values.get(1).map(text).unwrap_or_default();
    Ok(Value::String(format!(
        "/{}",
        resolve(&base, &text(&values[0])).join("/")
    )))
}

/// `relpath(path, directory)`; a third value is the working directory, when one of them begins there.
pub(super) fn relative(values: &[Value]) -> Result<Value, Error> {
    let (path, base) = (text(&values[0]), text(&values[1]));
    let directory = values.get(2).map(text).unwrap_or_default();
    let to = resolve(&directory, &path);
    let from = resolve(&directory, &base);
    let common = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let mut parts = vec![".."; from.len() - common];
    parts.extend(&to[common..]);
    Ok(Value::String(match parts.as_slice() {
        [] => ".".to_owned(),
        parts => parts.join("/"),
    }))
}

/// The parts of a path, from the root, without `.` and `..`.
fn resolve<'a>(base: &'a str, path: &'a str) -> Vec<&'a str> {
    let base = if path.starts_with('/') { "" } else { base };
    let mut parts = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}
