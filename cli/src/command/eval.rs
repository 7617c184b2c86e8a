//! `muster eval`: resolves an expression of the language here, without any workflow.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use muster_core::clock::Clock;
use muster_spec::expression::{
    Expression, Lookup, Moment, Scope, Template, Value, Variables, text,
};
use serde::Serialize;

use crate::{
    arguments::{Global, pair},
    error::Error,
    exit::Exit,
    json,
};

const EXAMPLES: &str = "\
Examples:
  muster eval 'config.workers * 2 > 5' --set config.workers=3
  muster eval 'join(map(list(\"a\", \"b\"), \"_.value + 1\"), \",\")'
  muster eval --template 'image:{{ config.tag }}-{{ env.ARCH }}' --set config.tag=1.2
  muster eval 'date(\"2006-01-02\")'
  muster eval 'jq(step.a.outputs, \".[]\")' --set step.a.outputs='{\"x\": 1}'
  muster eval 'join(services.db.*.ip)' --set services.db='[{\"ip\": \"10.0.0.1\"}]'
  muster eval '-5 + 3'
  muster eval 'passed && env.X == \"1\"' --output json";

/// Evaluate an expression and show what stays unresolved
///
/// What no --set names is left as it is: the rest is printed in its simplest form, and what is
/// missing goes to standard error: variables, and functions that need a run (file, glob, secret,
/// credential).
/// Exits with 0 also then, and with 2 when the expression is wrong.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The expression, without {{ }}
    #[arg(allow_hyphen_values = true)]
    expression: String,
    /// Value of a variable, such as config.x, env.HOME, execution or step.a.status; read as JSON where it is JSON, as text otherwise
    #[arg(long = "set", short, value_name = "PATH=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Take EXPRESSION for a text with {{ }} parts
    #[arg(long, short)]
    template: bool,
}

#[derive(Debug, Serialize)]
struct Document {
    /// The value, when all is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// What is left, when not.
    #[serde(skip_serializing_if = "Option::is_none")]
    rest: Option<String>,
    /// Variables that are missing.
    unresolved: Vec<String>,
    /// Functions that only a run has.
    functions: Vec<String>,
}

/// Functions that are answered where a step runs.
const OF_A_RUN: [&str; 4] = ["file", "glob", "secret", "credential"];

impl Document {
    fn known(value: Value) -> Self {
        Self {
            value: Some(value),
            rest: None,
            unresolved: Vec::new(),
            functions: Vec::new(),
        }
    }

    fn left(rest: String, expressions: &[Expression]) -> Self {
        let variables = expressions.iter().flat_map(Expression::variables);
        let variables: BTreeSet<String> = variables.collect();
        let functions = expressions.iter().flat_map(Expression::functions);
        let functions: BTreeSet<String> = functions
            .filter(|name| OF_A_RUN.contains(&name.as_str()))
            .collect();
        Self {
            value: None,
            rest: Some(rest),
            unresolved: variables.into_iter().collect(),
            functions: functions.into_iter().collect(),
        }
    }
}

/// Runs it.
pub(crate) fn execute(arguments: &Arguments, global: &Global) -> Result<Exit, Error> {
    let scope = Here {
        variables: variables(&arguments.set)?,
        now: Moment::from_unix_ms(Clock::system().now().as_millisecond()),
    };
    let document = match arguments.template {
        true => template(&arguments.expression, &scope)?,
        false => expression(&arguments.expression, &scope)?,
    };
    if global.json() {
        json::print(&document)?;
        return Ok(Exit::Success);
    }
    match (&document.value, &document.rest) {
        (Some(value), _) => super::print(&format!("{}\n", shown(value)))?,
        (None, rest) => super::print(&format!("{}\n", rest.as_deref().unwrap_or_default()))?,
    }
    if !document.unresolved.is_empty() {
        let names = document.unresolved.join(", ");
        super::note(
            global,
            &format!("not known here: {names}; give them with --set"),
        );
    }
    if !document.functions.is_empty() {
        let names = document.functions.join(", ");
        super::note(global, &format!("known only where a step runs: {names}"));
    }
    Ok(Exit::Success)
}

/// What is known here: the given variables, and the time.
struct Here {
    variables: Variables,
    now: Moment,
}

impl Scope for Here {
    fn variable(&self, path: &str) -> Lookup {
        match (self.variables.variable(path), path) {
            (Lookup::Unknown, "always") => Lookup::Known(true.into()),
            (Lookup::Unknown, "never") => Lookup::Known(false.into()),
            (found, _) => found,
        }
    }

    fn function(&self, name: &str, arguments: &[Value]) -> Lookup {
        match name {
            "date" => self.now.date(arguments),
            "jq" => filtered(arguments),
            _ => Lookup::Unknown,
        }
    }
}

/// The results of a filter, from a process of its own.
fn filtered(arguments: &[Value]) -> Lookup {
    let [value, filter] = arguments else {
        return Lookup::Unknown;
    };
    match muster_runner::jq::jq(&["runner"], value, &text(filter)) {
        Ok(results) => Lookup::Known(results),
        Err(error) => Lookup::Refused(format!("jq: {error}")),
    }
}

fn variables(set: &[(String, String)]) -> Result<Variables, Error> {
    let mut variables = Variables::new();
    let mut seen = BTreeMap::new();
    for (path, value) in set {
        if seen.insert(path, ()).is_some() {
            return Err(Error::Usage(format!("--set {path} is given twice")));
        }
        let read = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value.as_str()));
        variables.set(path, read);
    }
    Ok(variables)
}

fn expression(given: &str, scope: &dyn Scope) -> Result<Document, Error> {
    let resolved = Expression::parse(given)
        .and_then(|expression| expression.resolve(scope))
        .map_err(|error| Error::Usage(error.to_string()))?;
    Ok(match resolved.value() {
        Some(value) => Document::known(value.clone()),
        None => Document::left(resolved.to_string(), std::slice::from_ref(&resolved)),
    })
}

fn template(given: &str, scope: &dyn Scope) -> Result<Document, Error> {
    let resolved = Template::parse(given)
        .and_then(|template| template.resolve(scope))
        .map_err(|error| Error::Usage(error.to_string()))?;
    Ok(match resolved.text() {
        Some(text) => Document::known(Value::from(text)),
        None => {
            let expressions: Vec<Expression> = resolved.expressions().collect();
            Document::left(resolved.print(), &expressions)
        }
    })
}

/// A text as it is, anything else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) | Value::Array(_) => value.to_string(),
        other => text(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Variables {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(path, value)| ((*path).to_owned(), (*value).to_owned()))
            .collect();
        variables(&pairs).unwrap()
    }

    #[test]
    fn what_is_known_is_a_value_and_the_rest_is_named() {
        let scope = set(&[("config.x", "3"), ("config.name", "smoke")]);
        assert_eq!(
            expression("config.x + 1", &scope).unwrap().value,
            Some(4.into())
        );
        let left = expression("config.x * env.Y + step.a.outputs.b", &scope).unwrap();
        assert_eq!(left.rest.as_deref(), Some("3*env.Y+step.a.outputs.b"));
        assert_eq!(left.unresolved, ["env.Y", "step.a.outputs.b"]);
        let text = template("{{ config.name }}-{{ env.Z }}", &scope).unwrap();
        assert_eq!(text.rest.as_deref(), Some("smoke-{{env.Z}}"));
    }

    #[test]
    fn variables_of_all_roots_can_be_set() {
        let scope = set(&[
            ("config.x", "1"),
            ("execution", "{\"id\": \"e\"}"),
            ("step.a.outputs.b", "text"),
            ("services.db.0.ip", "10.0.0.1"),
            ("output.r", "{\"n\": 2}"),
            ("matrix.os", "linux"),
            ("index", "3"),
            ("env.HOME", "/root"),
            ("passed", "true"),
            ("workingDir", "/data"),
        ]);
        for (text, expected) in [
            ("config.x + index", Value::from(4)),
            ("execution.id", "e".into()),
            ("step.a.outputs.b + services.db.0.ip", "text10.0.0.1".into()),
            ("output.r.n", 2.into()),
            ("passed && matrix.os", "linux".into()),
            ("env.HOME", "/root".into()),
            ("abspath('x')", "/data/x".into()),
        ] {
            assert_eq!(
                expression(text, &scope).unwrap().value,
                Some(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn functions_of_a_run_are_named() {
        let left = expression("file('a') + secret('s', 'k') + x", &Variables::new()).unwrap();
        assert_eq!(left.functions, ["file", "secret"]);
        assert_eq!(left.unresolved, ["x"]);
    }

    #[test]
    fn a_wrong_expression_is_a_wrong_command_line() {
        let error = expression("1 +", &Variables::new()).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
    }
}
