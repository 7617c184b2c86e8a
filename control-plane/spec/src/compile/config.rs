//! Values of parameters: given ones, defaults, and whether they are allowed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;
use regex::RegexBuilder;

use crate::expression::{self, Template, Value};
use crate::problem::{Missing, Place, Problem, Problems};
use crate::schema::{Kind, Parameter, Text};
use crate::suggest;

use super::scope::{Base, Config, Document, Late};
use super::{Input, Mode, Undeclared};

/// A given value with the place it comes from.
struct Given<'a> {
    text: &'a str,
    place: Arc<Place>,
}

/// Values for the parameters of a workflow.
pub(super) fn of_workflow(
    input: &Input<'_>,
    mode: Mode,
    base: &Base,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Config {
    let parameters = &input.workflow.spec.config;
    let place = |name: &str| {
        Arc::new(Place {
            path: format!("config.{name}").into(),
            ..Place::default()
        })
    };
    let given: BTreeMap<&str, Given<'_>> = input
        .config
        .iter()
        .map(|(name, text)| {
            let place = place(name);
            (name.as_str(), Given { text, place })
        })
        .collect();
    let cure = |name: &str| format!("give one with `--config {name}=value`, or a `default`");
    if input.undeclared == Undeclared::Refused {
        for (name, value) in &given {
            problems
                .0
                .extend(undeclared(parameters, name, &value.place));
        }
        return values(parameters, &given, mode, base, problems, &cure, None);
    }
    let before = problems.0.len();
    let mut config = values(parameters, &given, mode, base, problems, &cure, None);
    let known = problems.0.len() == before;
    pass_on(parameters, &given, known, &mut config, problems, warnings);
    config
}

/// Values for the parameters of a template, from where it is used.
pub(super) fn of_template(
    parameters: &IndexMap<String, Parameter>,
    name: &Text,
    given: &IndexMap<String, Text>,
    base: &Base,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> (Config, Late) {
    let (given, late) = split(parameters, given);
    let given: BTreeMap<&str, Given<'_>> = given
        .iter()
        .map(|(name, text)| {
            let place = Arc::clone(&text.place);
            let text = &text.text;
            (name.as_str(), Given { text, place })
        })
        .collect();
    let mut now = Cow::Borrowed(parameters);
    if !late.is_empty() {
        now.to_mut().retain(|name, _| !late.contains_key(name));
    }
    let cure = |parameter: &str| {
        format!(
            "give one where the template `{}` is used, with `config: {{{parameter}: value}}`",
            name.text
        )
    };
    let before = problems.0.len();
    let place = Some(&name.place);
    let mut config = values(&now, &given, Mode::Run, base, problems, &cure, place);
    let known = problems.0.len() == before;
    pass_on(parameters, &given, known, &mut config, problems, warnings);
    (config, late)
}

/// What is known of the values that a template is given, as plain texts, and what is known later.
fn split(
    parameters: &IndexMap<String, Parameter>,
    given: &IndexMap<String, Text>,
) -> (IndexMap<String, Text>, Late) {
    let (mut known, mut late) = (IndexMap::new(), Late::new());
    for (name, text) in given {
        let mut text = text.clone();
        if text.text.contains("{{")
            && let Ok(template) = Template::parse(&text.text)
        {
            match template.text() {
                Some(plain) => text.text = plain.to_owned(),
                None => {
                    let expression = template.to_expression();
                    let expression = match parameters.get(name).map(|one| one.kind) {
                        Some(Kind::Integer) => expression.called("int"),
                        Some(Kind::Number) => expression.called("float"),
                        Some(Kind::Boolean) => expression.called("bool"),
                        Some(Kind::String) | None => expression,
                    };
                    late.insert(name.clone(), expression);
                    continue;
                }
            }
        }
        known.insert(name.clone(), text);
    }
    (known, late)
}

/// Takes values for parameters that are not declared, with a warning; refuses them unless the
/// declared ones have values: a misspelt name is the likely reason why another one has none.
fn pass_on(
    parameters: &IndexMap<String, Parameter>,
    given: &BTreeMap<&str, Given<'_>>,
    declared_are_known: bool,
    config: &mut Config,
    problems: &mut Problems,
    warnings: &mut Problems,
) {
    for (name, value) in given {
        let Some(mut warning) = undeclared(parameters, name, &value.place) else {
            continue;
        };
        if declared_are_known {
            warning.message.push_str("; it is passed on as text");
            warnings.push(warning);
            config
                .values
                .insert((*name).to_owned(), Value::from(value.text));
        } else {
            problems.push(warning);
        }
    }
}

/// What is wrong with a value for a parameter that is not declared.
fn undeclared(
    parameters: &IndexMap<String, Parameter>,
    name: &str,
    place: &Arc<Place>,
) -> Option<Problem> {
    if parameters.contains_key(name) {
        return None;
    }
    let known: Vec<&str> = parameters.keys().map(String::as_str).collect();
    let mut problem = Problem::new(place, format!("there is no parameter `{name}`"));
    problem.cure = match known.as_slice() {
        [] => Some(format!("declare it in `spec.config.{name}`")),
        known => suggest::advice(name, known),
    };
    Some(problem)
}

fn values(
    parameters: &IndexMap<String, Parameter>,
    given: &BTreeMap<&str, Given<'_>>,
    mode: Mode,
    base: &Base,
    problems: &mut Problems,
    cure: &dyn Fn(&str) -> String,
    used: Option<&Arc<Place>>,
) -> Config {
    let mut config = Config::default();
    for (name, parameter) in in_order(parameters, given, problems) {
        let value = match (given.get(name.as_str()), &parameter.default) {
            (Some(value), _) => Some((value.text.to_owned(), &value.place)),
            (None, Some(default)) => {
                default_text(default, base, &config, problems).map(|text| (text, &default.place))
            }
            (None, None) if mode != Mode::Run => None,
            (None, None) => {
                let place = used.unwrap_or(&parameter.place);
                let message = format!("the parameter `{name}` has no value");
                let mut problem = Problem::new(place, message).with_cure(cure(name));
                problem.missing = used.is_none().then(|| Box::new(Missing::Value));
                problems.push(problem);
                None
            }
        };
        let Some((text, place)) = value else {
            config.open.insert(name.clone());
            continue;
        };
        match check(parameter, &text) {
            Ok(value) => {
                config.values.insert(name.clone(), value);
            }
            Err(reason) => {
                let shown = if parameter.sensitive {
                    "its value".to_owned()
                } else {
                    format!("`{}`", text.chars().take(60).collect::<String>())
                };
                let message = format!("the parameter `{name}` can not be {shown}: {reason}");
                problems.push(Problem::new(place, message));
                config.open.insert(name.clone());
            }
        }
    }
    // Those of a circle too.
    let all = parameters.keys();
    let open = all.filter(|name| !config.values.contains_key(*name));
    config.open.extend(open.cloned());
    config
}

/// The parameters, each behind those that its default asks for. Those whose defaults ask for one
/// another are refused and left out.
fn in_order<'a>(
    parameters: &'a IndexMap<String, Parameter>,
    given: &BTreeMap<&str, Given<'_>>,
    problems: &mut Problems,
) -> Vec<(&'a String, &'a Parameter)> {
    let mut ordered: Vec<(&String, &Parameter)> = Vec::with_capacity(parameters.len());
    let mut waiting: Vec<(&String, &Parameter, BTreeSet<String>)> = Vec::new();
    let mut known = BTreeSet::new();
    for (name, parameter) in parameters {
        let default = parameter.default.as_ref();
        let default = default.filter(|_| !given.contains_key(name.as_str()));
        let mut needs = default.map(|text| needs(&text.text)).unwrap_or_default();
        needs.retain(|other| parameters.contains_key(other));
        if needs.is_empty() {
            known.insert(name.clone());
            ordered.push((name, parameter));
        } else {
            waiting.push((name, parameter, needs));
        }
    }
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|(name, parameter, needs)| {
            let ready = needs.is_subset(&known);
            if ready {
                known.insert((*name).clone());
                ordered.push((name, parameter));
            }
            !ready
        });
        if waiting.len() == before {
            let names: Vec<&str> = waiting.iter().map(|(name, ..)| name.as_str()).collect();
            let place = waiting[0].1.default.as_ref().map(|text| &text.place);
            let place = place.unwrap_or(&waiting[0].1.place);
            let message = format!(
                "the defaults of these parameters ask for one another: `{}`",
                names.join("`, `")
            );
            problems.push(Problem::new(place, message));
            break;
        }
    }
    ordered
}

/// Parameters whose values are secret: those that say so, and those whose defaults are made of one.
pub(super) fn secret(
    parameters: &IndexMap<String, Parameter>,
    given: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let own = parameters.iter().filter(|(_, one)| one.sensitive);
    let mut secret: BTreeSet<String> = own.map(|(name, _)| name.clone()).collect();
    loop {
        let before = secret.len();
        for (name, parameter) in parameters {
            let default = parameter.default.as_ref();
            let default = default.filter(|_| !given.contains_key(name));
            let made_of_one = |text: &Text| {
                !needs(&text.text).is_disjoint(&secret)
                    || (!secret.is_empty() && may_need_any(&text.text))
            };
            if default.is_some_and(made_of_one) {
                secret.insert(name.clone());
            }
        }
        if secret.len() == before {
            return secret;
        }
    }
}

/// Whether a default may ask for parameters that it does not name: for all of them, or by an
/// expression in a text.
fn may_need_any(text: &str) -> bool {
    let Ok(template) = Template::parse(text) else {
        return true;
    };
    template.expressions().any(|one| {
        let names = one.variables();
        let functions = one.functions();
        names.contains("config")
            || names.contains("config.*")
            || ["eval", "map", "filter"]
                .iter()
                .any(|name| functions.contains(*name))
    })
}

/// The parameters that a default asks for by their names.
fn needs(text: &str) -> BTreeSet<String> {
    let Ok(template) = Template::parse(text) else {
        return BTreeSet::new();
    };
    let paths = template.expressions().flat_map(|one| one.variables());
    paths
        .filter_map(|path| path.strip_prefix("config.").map(str::to_owned))
        .collect()
}

/// A default may ask of the execution and of other parameters; nothing when it asks for one without
/// a value.
fn default_text(
    default: &Text,
    base: &Base,
    config: &Config,
    problems: &mut Problems,
) -> Option<String> {
    let asks_for_open = || {
        !needs(&default.text).is_disjoint(&config.open)
            || (Template::parse(&default.text).is_ok() && may_need_any(&default.text))
    };
    if !config.open.is_empty() && asks_for_open() {
        return None;
    }
    let scope = Document::new(base, config);
    expression::resolve_template_final(&default.text, &scope)
        .map_err(|error| problems.push(Problem::of_text(&default.place, &error.to_string())))
        .ok()
}

/// The value of a text, if the parameter allows it.
///
/// # Errors
///
/// What the parameter expects.
pub fn check(parameter: &Parameter, text: &str) -> Result<Value, String> {
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
