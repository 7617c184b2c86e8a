//! Values of parameters: given ones, defaults, and whether they are allowed.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use regex::RegexBuilder;

use crate::expression::{self, Value};
use crate::problem::{Place, Problem, Problems};
use crate::schema::{Kind, Parameter, Text};
use crate::suggest;

use super::scope::{Base, Config, Document};

/// A given value with the place it comes from.
struct Given<'a> {
    text: &'a str,
    place: Arc<Place>,
}

/// Values for the parameters of a workflow.
pub(super) fn of_workflow(
    parameters: &IndexMap<String, Parameter>,
    given: &BTreeMap<String, String>,
    base: &Base,
    problems: &mut Problems,
) -> Config {
    let place = |name: &str| {
        Arc::new(Place {
            path: format!("config.{name}").into(),
            ..Place::default()
        })
    };
    let given = given
        .iter()
        .map(|(name, text)| {
            let place = place(name);
            (name.as_str(), Given { text, place })
        })
        .collect();
    let cure = |name: &str| format!("give one with `--config {name}=value`, or a `default`");
    values(parameters, &given, base, problems, &cure, None)
}

/// Values for the parameters of a template, from where it is used.
pub(super) fn of_template(
    parameters: &IndexMap<String, Parameter>,
    name: &Text,
    given: &IndexMap<String, Text>,
    base: &Base,
    problems: &mut Problems,
) -> Config {
    let given = given
        .iter()
        .map(|(name, text)| {
            let place = Arc::clone(&text.place);
            let text = &text.text;
            (name.as_str(), Given { text, place })
        })
        .collect();
    let cure = |parameter: &str| {
        format!(
            "give one where the template `{}` is used, with `config: {{{parameter}: value}}`",
            name.text
        )
    };
    values(parameters, &given, base, problems, &cure, Some(&name.place))
}

fn values(
    parameters: &IndexMap<String, Parameter>,
    given: &BTreeMap<&str, Given<'_>>,
    base: &Base,
    problems: &mut Problems,
    cure: &dyn Fn(&str) -> String,
    used: Option<&Arc<Place>>,
) -> Config {
    for (name, value) in given {
        if !parameters.contains_key(*name) {
            let known: Vec<&str> = parameters.keys().map(String::as_str).collect();
            let message = format!("there is no parameter `{name}`");
            let mut problem = Problem::new(&value.place, message);
            problem.cure = match known.as_slice() {
                [] => Some(format!("declare it in `spec.config.{name}`")),
                known => suggest::advice(name, known),
            };
            problems.push(problem);
        }
    }
    let mut config = Config::new();
    for (name, parameter) in parameters {
        let value = match (given.get(name.as_str()), &parameter.default) {
            (Some(value), _) => Some((value.text.to_owned(), &value.place)),
            (None, Some(default)) => {
                default_text(default, base, problems).map(|text| (text, &default.place))
            }
            (None, None) => {
                let place = used.unwrap_or(&parameter.place);
                let message = format!("the parameter `{name}` has no value");
                problems.push(Problem::new(place, message).with_cure(cure(name)));
                None
            }
        };
        let Some((text, place)) = value else { continue };
        match check(parameter, &text) {
            Ok(value) => {
                config.insert(name.clone(), value);
            }
            Err(reason) => {
                let shown = if parameter.sensitive {
                    "its value".to_owned()
                } else {
                    format!("`{}`", text.chars().take(60).collect::<String>())
                };
                let message = format!("the parameter `{name}` can not be {shown}: {reason}");
                problems.push(Problem::new(place, message));
            }
        }
    }
    config
}

/// A default may ask of the execution, not of other parameters.
fn default_text(default: &Text, base: &Base, problems: &mut Problems) -> Option<String> {
    let none = Config::new();
    let scope = Document::new(base, &none);
    expression::resolve_template_final(&default.text, &scope)
        .map_err(|error| problems.push(Problem::of_text(&default.place, &error.to_string())))
        .ok()
}

/// The value of a text, if the parameter allows it.
fn check(parameter: &Parameter, text: &str) -> Result<Value, String> {
    let wrong_type = || format!("expected {}", parameter.kind.describe());
    let value = match parameter.kind {
        Kind::String => Value::from(text),
        Kind::Integer => Value::from(text.trim().parse::<i64>().ok().ok_or_else(wrong_type)?),
        Kind::Number => {
            let number: f64 = text.trim().parse().ok().ok_or_else(wrong_type)?;
            match text.trim().parse::<i64>() {
                Ok(int) => Value::from(int),
                Err(_) => serde_json::Number::from_f64(number)
                    .map(Value::Number)
                    .ok_or_else(wrong_type)?,
            }
        }
        Kind::Boolean => match text.trim() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err(wrong_type()),
        },
    };
    if !parameter.allowed.is_empty() && !parameter.allowed.iter().any(|allowed| allowed == text) {
        return Err(format!("allowed are {}", parameter.allowed.join(", ")));
    }
    match parameter.kind {
        Kind::String => check_text(parameter, text)?,
        Kind::Integer | Kind::Number => check_number(parameter, &value)?,
        Kind::Boolean => {}
    }
    Ok(value)
}

fn check_text(parameter: &Parameter, text: &str) -> Result<(), String> {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(least) = parameter.min_length.filter(|least| length < *least) {
        return Err(format!("expected at least {least} characters"));
    }
    if let Some(most) = parameter.max_length.filter(|most| length > *most) {
        return Err(format!("expected at most {most} characters"));
    }
    if let Some(pattern) = &parameter.pattern {
        let regex = RegexBuilder::new(&pattern.text)
            .size_limit(1024 * 1024)
            .build()
            .ok()
            .ok_or_else(|| format!("its pattern `{}` is not a regular expression", pattern.text))?;
        if !regex.is_match(text) {
            return Err(format!("expected the pattern `{}`", pattern.text));
        }
    }
    Ok(())
}

fn check_number(parameter: &Parameter, value: &Value) -> Result<(), String> {
    let number = value.as_f64().unwrap_or_default();
    let rules = [
        (
            parameter.minimum,
            "at least",
            number >= parameter.minimum.unwrap_or(number),
        ),
        (
            parameter.maximum,
            "at most",
            number <= parameter.maximum.unwrap_or(number),
        ),
        (
            parameter.exclusive_minimum,
            "more than",
            parameter
                .exclusive_minimum
                .is_none_or(|limit| number > limit),
        ),
        (
            parameter.exclusive_maximum,
            "less than",
            parameter
                .exclusive_maximum
                .is_none_or(|limit| number < limit),
        ),
        (
            parameter.multiple_of,
            "a multiple of",
            parameter.multiple_of.is_none_or(|unit| {
                unit == 0.0 || ((number / unit).round() * unit - number).abs() < 1e-9
            }),
        ),
    ];
    for (limit, words, holds) in rules {
        if let (Some(limit), false) = (limit, holds) {
            return Err(format!("expected {words} {limit}"));
        }
    }
    Ok(())
}
