//! Resolving a tree as far as a scope knows its variables.
//!
//! What is reached only under a condition that is not known yet (the right side of `&&` and
//! `||`, the branches of `? :`) must not fail the whole: it is kept as it is and tried again at
//! a later stage. Thereby stages give what one evaluation gives.

use std::cell::Cell;

use super::MAX_STEPS;
use super::error::Error;
use super::functions;
use super::scope::{Lookup, Scope};
use super::tree::{Argument, Operator, Path, Segment, Tree};
use super::value::{Value, describe, truthy};

mod access;
mod operate;
mod text;

/// What resolving may cost. One budget may serve many texts.
#[derive(Debug)]
pub(crate) struct Budget {
    steps: Cell<usize>,
    /// How deep the resolver is in trees and texts within them.
    depth: Cell<usize>,
}

/// Deepest recursion: a small stack must be enough for it.
const MAX_RECURSION: usize = 150;

impl Budget {
    /// A budget of so many steps.
    pub(crate) fn new(steps: usize) -> Self {
        Self {
            steps: Cell::new(steps),
            depth: Cell::new(0),
        }
    }

    /// Pays for variables that were put together.
    pub(crate) fn charge_for(
        &self,
        variables: &serde_json::Map<String, Value>,
    ) -> Result<(), Error> {
        self.charge(variables.values().map(weight).sum())
    }

    /// Pays for work and memory.
    pub(crate) fn charge(&self, units: usize) -> Result<(), Error> {
        let left = self.steps.get().checked_sub(units);
        self.steps.set(left.unwrap_or(0));
        match left {
            Some(_) => Ok(()),
            None => Err(Error::Limit("it takes too many steps")),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(MAX_STEPS)
    }
}

/// Resolves a tree.
pub(super) fn resolve(tree: &Tree, scope: &dyn Scope, budget: &Budget) -> Result<Tree, Error> {
    Resolver {
        scope,
        budget,
        nesting: 0,
    }
    .resolve(tree)
}

/// One pass with one budget.
struct Resolver<'a> {
    scope: &'a dyn Scope,
    budget: &'a Budget,
    nesting: usize,
}

impl Resolver<'_> {
    fn resolve(&self, tree: &Tree) -> Result<Tree, Error> {
        self.charge(1)?;
        let depth = self.budget.depth.get();
        if depth >= MAX_RECURSION {
            return Err(Error::Limit("too deep"));
        }
        self.budget.depth.set(depth + 1);
        let result = self.resolve_one(tree);
        self.budget.depth.set(depth);
        result
    }

    fn resolve_one(&self, tree: &Tree) -> Result<Tree, Error> {
        match tree {
            Tree::Literal(value) => self.known(value.clone()),
            Tree::Variable(path) => self.variable(path),
            Tree::Property { .. } => self.property(tree),
            Tree::Call { name, arguments } => self.call(name, arguments),
            Tree::Not(inner) => match self.resolve(inner)? {
                Tree::Literal(value) => self.known(Value::Bool(!truthy(&value))),
                rest => Ok(Tree::Not(Box::new(rest))),
            },
            Tree::Minus(inner) => match self.resolve(inner)? {
                Tree::Literal(value) => self.known(operate::operate(
                    Operator::Subtract,
                    &Value::from(0),
                    &value,
                )?),
                rest => Ok(Tree::Minus(Box::new(rest))),
            },
            Tree::Binary {
                operator,
                left,
                right,
            } => self.binary(*operator, left, right),
            Tree::Choice { condition, yes, no } => self.choice(condition, yes, no),
        }
    }

    /// Pays for work and memory from the budget.
    fn charge(&self, units: usize) -> Result<(), Error> {
        self.budget.charge(units)
    }

    fn known(&self, value: Value) -> Result<Tree, Error> {
        self.charge(weight(&value))?;
        Ok(Tree::Literal(value))
    }

    /// Resolves what may never be reached: an error is left for the time when it is.
    fn attempt(&self, tree: &Tree) -> Result<Tree, Error> {
        match self.resolve(tree) {
            Err(error) if !error.is_limit() => Ok(tree.clone()),
            result => result,
        }
    }

    fn binary(&self, operator: Operator, left: &Tree, right: &Tree) -> Result<Tree, Error> {
        let left = self.resolve(left)?;
        let lazy = matches!(operator, Operator::And | Operator::Or);
        let right = match (&left, lazy) {
            (Tree::Literal(value), true) => {
                let decided = truthy(value) == (operator == Operator::Or);
                return if decided {
                    Ok(left)
                } else {
                    self.resolve(right)
                };
            }
            (_, true) => self.attempt(right)?,
            (_, false) => self.resolve(right)?,
        };
        match (&left, &right, lazy) {
            (Tree::Literal(a), Tree::Literal(b), false) => {
                self.known(operate::operate(operator, a, b)?)
            }
            _ => Ok(Tree::Binary {
                operator,
                left: Box::new(left),
                right: Box::new(right),
            }),
        }
    }

    fn choice(&self, condition: &Tree, yes: &Tree, no: &Tree) -> Result<Tree, Error> {
        match self.resolve(condition)? {
            Tree::Literal(value) if truthy(&value) => self.resolve(yes),
            Tree::Literal(_) => self.resolve(no),
            rest => Ok(Tree::Choice {
                condition: Box::new(rest),
                yes: Box::new(self.attempt(yes)?),
                no: Box::new(self.attempt(no)?),
            }),
        }
    }

    /// Asks the scope for the whole path, then for its beginnings, the longest first.
    fn variable(&self, path: &Path) -> Result<Tree, Error> {
        let names = path
            .0
            .iter()
            .take_while(|segment| **segment != Segment::Each)
            .count();
        for length in (1..=names).rev() {
            let (known, rest) = path.0.split_at(length);
            let asked = Path(known.to_vec()).to_string();
            match self.scope.variable(&asked) {
                Lookup::Known(value) => {
                    self.charge(weight(&value))?;
                    return self.known(access::walk(value, rest, path)?);
                }
                Lookup::Later(expression) if rest.is_empty() => {
                    self.charge(1 + expression.to_string().len() / 16)?;
                    return Ok(expression.tree);
                }
                Lookup::Later(_) => {
                    let text = format!("`{asked}` is known later, and has no parts before");
                    return Err(Error::Refused(text));
                }
                Lookup::Unknown => self.charge(1)?,
                Lookup::Refused(message) => return Err(Error::Refused(message)),
            }
        }
        Ok(Tree::Variable(path.clone()))
    }

    /// A chain of properties: taken together, since `*` reaches over all that follow.
    fn property(&self, tree: &Tree) -> Result<Tree, Error> {
        let mut segments = Vec::new();
        let mut base = tree;
        while let Tree::Property {
            base: inner,
            segment,
        } = base
        {
            segments.push(segment.clone());
            base = inner;
        }
        segments.reverse();
        match self.resolve(base)? {
            Tree::Literal(value) => self.known(access::walk(value, &segments, &"value")?),
            // A wildcard that was found only now must not reach over what follows it.
            rest if has_wildcard(&rest) => Ok(with_properties(
                Tree::Call {
                    name: "any".to_owned(),
                    arguments: vec![Argument {
                        tree: rest,
                        spread: false,
                    }],
                },
                segments,
            )),
            Tree::Variable(mut path) => {
                path.0.extend(segments);
                Ok(Tree::Variable(path))
            }
            rest => Ok(with_properties(rest, segments)),
        }
    }

    fn call(&self, name: &str, arguments: &[Argument]) -> Result<Tree, Error> {
        functions::check(name)?;
        let mut resolved = Vec::with_capacity(arguments.len());
        for argument in arguments {
            self.argument(argument, &mut resolved)?;
        }
        let keep = |arguments: Vec<Argument>| {
            Ok(Tree::Call {
                name: name.to_owned(),
                arguments,
            })
        };
        let values: Option<Vec<Value>> = resolved
            .iter()
            .map(|argument| match &argument.tree {
                Tree::Literal(value) if !argument.spread => Some(value.clone()),
                _ => None,
            })
            .collect();
        let Some(mut values) = values else {
            return keep(resolved);
        };
        functions::check_count(name, values.len())?;
        if let Some(tree) = self.text_function(name, &values)? {
            return Ok(tree);
        }
        if functions::needs_working_dir(name, &values) {
            match self.scope.variable("workingDir") {
                Lookup::Known(directory) => values.push(directory),
                _ => return keep(resolved),
            }
        }
        if let Some(result) = functions::call(name, &values) {
            return self.known(result?);
        }
        match self.scope.function(name, &values) {
            Lookup::Known(value) => self.known(value),
            Lookup::Unknown | Lookup::Later(_) => keep(resolved),
            Lookup::Refused(message) => Err(Error::Refused(message)),
        }
    }

    /// Resolves an argument; a known spread list becomes several.
    fn argument(&self, argument: &Argument, into: &mut Vec<Argument>) -> Result<(), Error> {
        let plain = |tree| Argument {
            tree,
            spread: false,
        };
        match (self.resolve(&argument.tree)?, argument.spread) {
            (Tree::Literal(Value::Array(items)), true) => {
                into.extend(items.into_iter().map(Tree::Literal).map(plain));
            }
            (Tree::Literal(Value::Null), true) => {}
            (Tree::Literal(other), true) => {
                return Err(Error::operation(format!(
                    "`...` needs a list, found {}",
                    describe(&other)
                )));
            }
            (tree, spread) => into.push(Argument { tree, spread }),
        }
        Ok(())
    }
}

/// Whether properties after this tree would be taken of each item.
fn has_wildcard(tree: &Tree) -> bool {
    match tree {
        Tree::Variable(path) => path.0.contains(&Segment::Each),
        Tree::Property { base, segment } => *segment == Segment::Each || has_wildcard(base),
        _ => false,
    }
}

fn with_properties(base: Tree, segments: Vec<Segment>) -> Tree {
    segments
        .into_iter()
        .fold(base, |base, segment| Tree::Property {
            base: Box::new(base),
            segment,
        })
}

/// What a value costs: its parts, and its bytes in parts of 16.
pub(crate) fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len() / 16,
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Object(map) => {
            1 + map
                .iter()
                .map(|(key, value)| 1 + key.len() / 16 + weight(value))
                .sum::<usize>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}
