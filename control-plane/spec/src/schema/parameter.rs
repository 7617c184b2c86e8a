//! `config`: parameters of workflows and templates. Checking values is the compiler's business.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::problem::{Place, Problem};
use crate::suggest;

use super::field::{Found, Object, Reader, Text};

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Where it stands.
    pub place: Arc<Place>,
    /// `description`.
    pub description: Option<String>,
    /// `type`.
    pub kind: Kind,
    /// `default`, a template; without it a value is required.
    pub default: Option<Text>,
    /// `enum`: the only values allowed.
    pub allowed: Vec<String>,
    /// `sensitive`: the value is a secret.
    pub sensitive: bool,
    /// `pattern`: a regular expression.
    pub pattern: Option<Text>,
    /// `minLength`.
    pub min_length: Option<i64>,
    /// `maxLength`.
    pub max_length: Option<i64>,
    /// `minimum`.
    pub minimum: Option<f64>,
    /// `maximum`.
    pub maximum: Option<f64>,
    /// `exclusiveMinimum`.
    pub exclusive_minimum: Option<f64>,
    /// `exclusiveMaximum`.
    pub exclusive_maximum: Option<f64>,
    /// `multipleOf`.
    pub multiple_of: Option<f64>,
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// `string`.
    #[default]
    String,
    /// `integer`.
    Integer,
    /// `number`.
    Number,
    /// `boolean`.
    Boolean,
}

/// Reads the field `config`.
pub(super) fn read_all(reader: &mut Reader, spec: &mut Object<'_>) -> IndexMap<String, Parameter> {
    let mut parameters = IndexMap::new();
    let Some(found) = spec.take("config") else {
        return parameters;
    };
    for (entry, found) in found.entries(reader) {
        let name_is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if entry.key.is_empty() || !entry.key.chars().all(name_is_path) {
            let message = "the name of a parameter has letters, digits, `_` and `-`";
            reader.problem(entry.mark, &found.path, message);
        }
        if let Some(parameter) = Parameter::read(reader, &found) {
            parameters.insert(entry.key.clone(), parameter);
        }
    }
    parameters
}

impl Parameter {
    fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let number =
            |object: &mut Object<'_>, reader: &mut Reader, name| object.take(name)?.number(reader);
        let integer =
            |object: &mut Object<'_>, reader: &mut Reader, name| object.take(name)?.integer(reader);
        let kind = object
            .take("type")
            .and_then(|found| Kind::read(reader, &found))
            .unwrap_or_default();
        if let Some(default) = object.take("default").filter(|_| kind == Kind::String) {
            default.warn_of_number(reader);
        }
        let parameter = Self {
            place: object.place(reader),
            description: object.text(reader, "description").map(|text| text.text),
            kind,
            default: object.scalar(reader, "default"),
            allowed: object
                .list(reader, "enum", |reader, item| {
                    item.scalar(reader, "text or a number")
                })
                .into_iter()
                .map(|text| text.text)
                .collect(),
            sensitive: object.flag(reader, "sensitive").unwrap_or(false),
            pattern: object.text(reader, "pattern"),
            min_length: integer(&mut object, reader, "minLength"),
            max_length: integer(&mut object, reader, "maxLength"),
            minimum: number(&mut object, reader, "minimum"),
            maximum: number(&mut object, reader, "maximum"),
            exclusive_minimum: number(&mut object, reader, "exclusiveMinimum"),
            exclusive_maximum: number(&mut object, reader, "exclusiveMaximum"),
            multiple_of: number(&mut object, reader, "multipleOf"),
        };
        object.ignore(&["example", "format"]);
        object.finish(reader);
        Some(parameter)
    }
}

impl Kind {
    fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let text = found.text(reader)?;
        match text.text.as_str() {
            "string" => Some(Self::String),
            "integer" => Some(Self::Integer),
            "number" => Some(Self::Number),
            "boolean" => Some(Self::Boolean),
            other => {
                let short: String = other.chars().take(60).collect();
                let mut problem = Problem::new(&text.place, format!("unknown type `{short}`"));
                problem.cure = suggest::advice(other, &["string", "integer", "number", "boolean"]);
                reader.problems.push(problem);
                None
            }
        }
    }

    /// Its name in a manifest.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// The type for an error message.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::String => "text",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Boolean => "true or false",
        }
    }
}
