//! The language's own functions. Those that hold an expression in a text (`map`, `filter`,
//! `eval`) are with the resolver; those that need the pod (`file`, `glob`, …) with its scope.

use super::error::Error;
use super::value::{Value, describe, from_numeric, integer, json, numeric, text, truthy};
use super::{MAX_ITEMS, MAX_TEXT};
use crate::suggest;

mod date;
mod list;
mod path;
mod shell;
mod yaml;

pub(crate) use shell::quote as shell_word;
pub(crate) use yaml::word as write_word;

pub use date::Moment;

type Body = fn(&[Value]) -> Result<Value, Error>;

/// A pure function with the least and greatest number of its arguments.
struct Function {
    name: &'static str,
    least: usize,
    most: usize,
    body: Body,
}

const fn function(name: &'static str, least: usize, most: usize, body: Body) -> Function {
    Function {
        name,
        least,
        most,
        body,
    }
}

const ANY: usize = usize::MAX;

static PURE: [Function; 27] = [
    function("string", 0, ANY, |values| {
        Ok(Value::String(values.iter().map(text).collect()))
    }),
    function("int", 1, 1, |values| Ok(Value::from(integer(&values[0])?))),
    function("float", 1, 1, |values| from_numeric(numeric(&values[0])?)),
    function("bool", 1, 1, |values| Ok(Value::Bool(truthy(&values[0])))),
    function("tojson", 1, 1, |values| Ok(Value::String(json(&values[0])))),
    function("json", 1, 1, |values| {
        serde_json::from_str(string("json", &values[0])?)
            .map_err(|error| Error::operation(format!("json: not JSON: {error}")))
    }),
    function("toyaml", 1, 1, |values| {
        Ok(Value::String(yaml::write(&values[0])))
    }),
    function("yaml", 1, 1, |values| {
        yaml::read(string("yaml", &values[0])?)
    }),
    function("trim", 1, 1, |values| {
        Ok(Value::from(string("trim", &values[0])?.trim()))
    }),
    function("shellquote", 0, ANY, |values| {
        let words: Vec<String> = values
            .iter()
            .map(|value| shell::quote(&text(value)))
            .collect();
        Ok(Value::String(words.join(" ")))
    }),
    function("shellparse", 1, 1, |values| shell::parse(&text(&values[0]))),
    function("floor", 1, 1, |values| round(&values[0], f64::floor)),
    function("ceil", 1, 1, |values| round(&values[0], f64::ceil)),
    function("round", 1, 1, |values| round(&values[0], f64::round)),
    function("any", 1, ANY, |values| {
        let found = values.iter().find(|value| !value.is_null());
        Ok(found.cloned().unwrap_or(Value::Null))
    }),
    function("list", 0, ANY, |values| Ok(Value::Array(values.to_vec()))),
    function("join", 1, 2, list::join),
    function("split", 1, 2, list::split),
    function("len", 1, 1, list::len),
    function("chunk", 2, 2, list::chunk),
    function("at", 2, 2, list::at),
    function("entries", 1, 1, list::entries),
    function("range", 1, 2, list::range),
    function("relpath", 2, 3, path::relative),
    function("abspath", 1, 2, path::absolute),
    function("makepath", 1, 2, path::absolute),
    function("_wc", 2, 2, |_| {
        Err(Error::Refused(
            "`_wc` is internal: write `list.*.key`".to_owned(),
        ))
    }),
];

/// Functions with an expression in a text, and those that only a scope knows, with the least and
/// greatest number of their arguments.
const OTHERS: [(&str, usize, usize); 9] = [
    ("map", 2, 2),
    ("filter", 2, 2),
    ("eval", 1, 1),
    ("file", 1, 1),
    ("glob", 1, ANY),
    ("date", 0, 1),
    ("jq", 2, 2),
    ("secret", 2, 3),
    ("credential", 1, 2),
];

/// Names of all functions of the language.
pub fn known_functions() -> impl Iterator<Item = &'static str> {
    let others = OTHERS.iter().map(|(name, _, _)| *name);
    PURE.iter().map(|function| function.name).chain(others)
}

/// Whether the language has a function of this name.
#[must_use]
pub fn is_known_function(name: &str) -> bool {
    known_functions().any(|known| known == name)
}

/// Functions of newer versions of the language.
const NEWER: [&str; 3] = ["execution", "read_artifact", "hash_files"];

/// Refuses a name that no stage knows.
pub(super) fn check(name: &str) -> Result<(), Error> {
    if is_known_function(name) {
        return Ok(());
    }
    if NEWER.contains(&name) {
        let message = format!("not supported yet: the function `{name}`");
        return Err(Error::Refused(message));
    }
    let short: String = name.chars().take(60).collect();
    Err(Error::Refused(
        match suggest::nearest(name, known_functions()) {
            Some(near) => format!("there is no function `{short}`; did you mean `{near}`?"),
            None => {
                let known: Vec<_> = known_functions()
                    .filter(|known| !known.starts_with('_'))
                    .collect();
                let known = known.join(", ");
                format!("there is no function `{short}`; the language has {known}")
            }
        },
    ))
}

/// Calls a pure function; nothing when there is none of this name.
pub(super) fn call(name: &str, values: &[Value]) -> Option<Result<Value, Error>> {
    let function = PURE.iter().find(|function| function.name == name)?;
    if let Err(error) = count(name, values.len(), function.least, function.most) {
        return Some(Err(error));
    }
    let result = (function.body)(values);
    Some(result.map_err(|error| match error {
        Error::Operation(message) if !message.starts_with(name) => {
            Error::operation(format!("{name}: {message}"))
        }
        other => other,
    }))
}

/// Checks the number of arguments of a function that is no pure one.
pub(super) fn check_count(name: &str, found: usize) -> Result<(), Error> {
    match OTHERS.iter().find(|(known, _, _)| *known == name) {
        Some((_, least, most)) => count(name, found, *least, *most),
        None => Ok(()),
    }
}

fn count(name: &str, found: usize, least: usize, most: usize) -> Result<(), Error> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let wanted = match (least, most) {
        (least, ANY) => format!("at least {least}"),
        (least, most) if least == most => format!("{least}"),
        (least, most) => format!("{least} to {most}"),
    };
    let message = format!("{name} takes {wanted} argument(s), found {found}");
    Err(Error::operation(message))
}

/// Whether the working directory must be added as the last argument.
pub(super) fn needs_working_dir(name: &str, values: &[Value]) -> bool {
    match (name, values) {
        // Both from the working directory are the same way apart wherever that is.
        ("relpath", [path, base]) => text(path).starts_with('/') != text(base).starts_with('/'),
        ("abspath" | "makepath", [path]) => !text(path).starts_with('/'),
        _ => false,
    }
}

/// The items of a list argument; `null` is an empty one.
pub(super) fn items<'a>(name: &str, value: &'a Value) -> Result<&'a [Value], Error> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Null => Ok(&[]),
        other => Err(Error::operation(format!(
            "{name} needs a list, found {}",
            describe(other)
        ))),
    }
}

fn string<'a>(name: &str, value: &'a Value) -> Result<&'a str, Error> {
    value
        .as_str()
        .ok_or_else(|| Error::operation(format!("{name} needs a text, found {}", describe(value))))
}

fn round(value: &Value, how: fn(f64) -> f64) -> Result<Value, Error> {
    match numeric(value)? {
        super::value::Numeric::Float(float) => super::value::from_float(how(float)),
        int => from_numeric(int),
    }
}

fn check_items(count: usize) -> Result<(), Error> {
    if count > MAX_ITEMS {
        return Err(Error::Limit("a list of more than 100000 items"));
    }
    Ok(())
}

fn check_text(text: String) -> Result<Value, Error> {
    if text.len() > MAX_TEXT {
        return Err(Error::Limit("a text of more than 1 MiB"));
    }
    Ok(Value::String(text))
}
