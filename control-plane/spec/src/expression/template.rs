//! Templates: texts with `{{ expression }}` parts.

use super::error::Error;
use super::print;
use super::resolve;
use super::scope::Scope;
use super::tree::{Argument, Path, Segment, Tree};
use super::value::{Value, text};
use super::{Budget, Expression, MAX_TEXT, parser};

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Expression(Tree),
}

impl Template {
    /// Parses a template. A literal `{{` is written `{{"{{"}}`.
    ///
    /// # Errors
    ///
    /// When an expression in it is wrong or not closed.
    pub fn parse(template: &str) -> Result<Self, Error> {
        let mut parts = Vec::new();
        let mut at = 0;
        if template.len() > MAX_TEXT {
            return Err(Error::Limit("a text of more than 1 MiB"));
        }
        while let Some(found) = template.get(at..).and_then(|rest| rest.find("{{")) {
            let start = at + found;
            parts.push(Part::Text(template[at..start].to_owned()));
            let (tree, end) = parser::parse_in_template(template, start + 2).map_err(advise)?;
            parts.extend(tree.map(Part::Expression));
            at = end;
        }
        parts.push(Part::Text(template[at..].to_owned()));
        Ok(Self { parts }.joined())
    }

    /// Resolves what `scope` knows and keeps the rest.
    ///
    /// # Errors
    ///
    /// As [`Expression::resolve`].
    pub fn resolve(&self, scope: &dyn Scope) -> Result<Self, Error> {
        self.resolve_within(scope, &Budget::default())
    }

    /// As [`Template::resolve`], with a budget that is shared with other texts.
    pub(crate) fn resolve_within(&self, scope: &dyn Scope, budget: &Budget) -> Result<Self, Error> {
        let mut length = 0;
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let part = match part {
                Part::Text(text) => Part::Text(text.clone()),
                Part::Expression(tree) => match resolve::resolve(tree, scope, budget)? {
                    Tree::Literal(value) => Part::Text(text(&value)),
                    rest => Part::Expression(rest),
                },
            };
            if let Part::Text(text) = &part {
                length += text.len();
            }
            if length > MAX_TEXT {
                return Err(Error::Limit("a text of more than 1 MiB"));
            }
            parts.push(part);
        }
        Ok(Self { parts }.joined())
    }

    /// The text, when nothing is left to resolve.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The expressions in it.
    pub fn expressions(&self) -> impl Iterator<Item = Expression> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Expression(tree) => Some(Expression { tree: tree.clone() }),
        })
    }

    /// The same with other texts between the expressions.
    #[must_use]
    pub fn map_texts(self, mut map: impl FnMut(&str) -> String) -> Self {
        let parts = self.parts.into_iter().map(|part| match part {
            Part::Text(text) => Part::Text(map(&text)),
            expression @ Part::Expression(_) => expression,
        });
        Self {
            parts: parts.collect(),
        }
    }

    /// The value when the template is a single expression with nothing around it, so that lists
    /// and numbers keep their kind.
    #[must_use]
    pub fn single(&self) -> Option<Expression> {
        match self.parts.as_slice() {
            [Part::Expression(tree)] => Some(Expression { tree: tree.clone() }),
            _ => None,
        }
    }

    /// An expression of the text that this will be.
    pub(crate) fn to_expression(&self) -> Expression {
        let argument = |tree| Argument {
            tree,
            spread: false,
        };
        let call = |name: &str, arguments: Vec<Argument>| Tree::Call {
            name: name.to_owned(),
            arguments,
        };
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => Tree::Literal(Value::from(text.as_str())),
            Part::Expression(tree) => tree.clone(),
        });
        let mut parts: Vec<Argument> = parts.map(argument).collect();
        let tree = match parts.len() {
            1 => call("string", parts),
            _ => {
                parts = vec![call("list", parts), Tree::Literal(Value::from(""))]
                    .into_iter()
                    .map(argument)
                    .collect();
                call("join", parts)
            }
        };
        Expression { tree }
    }

    /// Puts variables `env.NAME` in place of all calls of a function. `name_of` gets their
    /// arguments, or nothing when they are not all values.
    pub(crate) fn replace_calls(
        &mut self,
        function: &str,
        name_of: &mut dyn FnMut(Option<Vec<Value>>) -> String,
    ) {
        let mut with = |tree: &Tree| {
            let Tree::Call { name, arguments } = tree else {
                return None;
            };
            if name != function {
                return None;
            }
            let values = arguments.iter().map(|argument| match &argument.tree {
                Tree::Literal(value) if !argument.spread => Some(value.clone()),
                _ => None,
            });
            let name = name_of(values.collect());
            let segments = ["env".to_owned(), name].map(Segment::Name);
            Some(Tree::Variable(Path(segments.to_vec())))
        };
        for part in &mut self.parts {
            if let Part::Expression(tree) = part {
                tree.replace(&mut with);
            }
        }
    }

    /// Texts beside each other become one; empty ones go.
    fn joined(self) -> Self {
        let mut parts: Vec<Part> = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            match (parts.last_mut(), part) {
                (_, Part::Text(text)) if text.is_empty() => {}
                (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
                (_, part) => parts.push(part),
            }
        }
        Self { parts }
    }

    /// The template as text that parses back to it: braces in texts are escaped.
    #[must_use]
    pub fn print(&self) -> String {
        let mut out = String::new();
        let mut parts = self.parts.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Expression(tree) => {
                    out.push_str("{{");
                    out.push_str(&print::print(tree));
                    out.push_str("}}");
                }
                Part::Text(text) => {
                    let escaped = text.replace("{{", "{{\"{{\"}}");
                    match (escaped.strip_suffix('{'), parts.peek()) {
                        (Some(before), Some(_)) => {
                            out.push_str(before);
                            out.push_str("{{\"{\"}}");
                        }
                        _ => out.push_str(&escaped),
                    }
                }
            }
        }
        out
    }
}

/// Text with braces is often meant for another program.
fn advise(mut error: Error) -> Error {
    if let Error::Syntax {
        message, advice, ..
    } = &mut error
    {
        message.insert_str(0, "in `{{ }}`: ");
        *advice = "; write a literal `{{` as `{{\"{{\"}}`";
    }
    error
}

/// Resolves a template as far as `scope` knows its variables; the rest is printed back, so that
/// the result is a template again.
///
/// ```
/// use muster_spec::expression::{Variables, resolve_template};
/// let mut scope = Variables::new();
/// scope.set("config.name", "a {{ b");
/// let kept = resolve_template("{{ config.name }} in {{ env.HOME }}", &scope)?;
/// assert_eq!(kept, r#"a {{"{{"}} b in {{env.HOME}}"#);
/// # Ok::<(), muster_spec::expression::Error>(())
/// ```
///
/// # Errors
///
/// As [`Template::parse`] and [`Expression::resolve`].
pub fn resolve_template(template: &str, scope: &dyn Scope) -> Result<String, Error> {
    if !template.contains("{{") {
        return Ok(template.to_owned());
    }
    Ok(Template::parse(template)?.resolve(scope)?.print())
}

/// Resolves all of a template; the result is plain text.
///
/// # Errors
///
/// As [`resolve_template`], and [`Error::Unresolved`] when something stays unknown.
pub fn resolve_template_final(template: &str, scope: &dyn Scope) -> Result<String, Error> {
    if !template.contains("{{") {
        return Ok(template.to_owned());
    }
    let resolved = Template::parse(template)?.resolve(scope)?;
    match (resolved.text(), resolved.expressions().next()) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, Some(rest)) => Err(Error::unresolved(&rest.tree)),
        (None, None) => Ok(text(&Value::Null)),
    }
}
