//! The expression language: parsing, printing, resolving in stages, and `{{ }}` templates.
//!
//! An expression is resolved as far as a [`Scope`] knows its variables; the rest stays, is
//! printed into the plan and resolved by the conductor. Which variables exist at which stage is
//! the business of the scopes, not of this module.
//!
//! ```
//! use muster_spec::expression::{Expression, Variables};
//!
//! let mut scope = Variables::new();
//! scope.set("config.workers", 3);
//! let kept = Expression::parse("config.workers * 2 > int(env.LIMIT)")?.resolve(&scope)?;
//! assert_eq!(kept.to_string(), "6>int(env.LIMIT)");
//!
//! scope.set("env.LIMIT", "5");
//! assert!(kept.evaluate_bool(&scope)?);
//! # Ok::<(), muster_spec::expression::Error>(())
//! ```
//!
//! # Quirks that existing manifests rely on
//!
//! `&&` and `||` have one priority and give back an operand; `==` compares texts; a unary minus
//! takes all that follows (`-5+3` is -8); a branch of `? :` must put `&&` and `||` in
//! parentheses; lists have no brackets for access (`list.0`, `at(list, 0)`).

mod error;
mod functions;
mod lexer;
mod literal;
mod parser;
mod print;
mod resolve;
mod scope;
mod template;
mod tree;
mod value;

use std::collections::BTreeSet;
use std::fmt;

pub use error::Error;
pub use functions::{Moment, is_known_function, known_functions};
pub(crate) use functions::{shell_word, write_word};
pub use scope::{Lookup, NoScope, Scope, Variables};
pub use template::{Template, resolve_template, resolve_template_final};
pub use value::{Value, text, truthy};

pub(crate) use resolve::{Budget, weight};

use tree::Tree;

/// Longest text of an expression, also of one within a template, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;
/// Deepest nesting of parentheses, calls, lists and maps.
pub const MAX_NESTING: usize = 64;
/// Longest list that an expression makes.
pub const MAX_ITEMS: usize = 100_000;
/// Longest text that an expression makes, in bytes.
pub const MAX_TEXT: usize = 1024 * 1024;
/// Most steps of one evaluation; large values cost a step for each 16 bytes.
pub const MAX_STEPS: usize = 1_000_000;

/// A parsed expression, resolved in part or whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    tree: Tree,
}

impl Expression {
    /// A call of a function with this as its argument.
    pub(crate) fn called(self, function: &str) -> Self {
        let argument = tree::Argument {
            tree: self.tree,
            spread: false,
        };
        Self {
            tree: Tree::Call {
                name: function.to_owned(),
                arguments: vec![argument],
            },
        }
    }

    /// Parses the text of an expression; an empty one is `null`.
    ///
    /// # Errors
    ///
    /// [`Error::Syntax`] with the offset, or [`Error::Limit`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        Ok(Self {
            tree: parser::parse(text)?,
        })
    }

    /// An expression that is just this value.
    #[must_use]
    pub fn literal(value: Value) -> Self {
        Self {
            tree: Tree::Literal(value),
        }
    }

    /// Resolves what `scope` knows and keeps the rest.
    ///
    /// # Errors
    ///
    /// When the scope refuses a variable, or an operation on known values is wrong and would be
    /// reached whatever the unknown ones are.
    pub fn resolve(&self, scope: &dyn Scope) -> Result<Self, Error> {
        self.resolve_within(scope, &Budget::default())
    }

    /// As [`Expression::resolve`], with a budget that is shared with other texts.
    pub(crate) fn resolve_within(&self, scope: &dyn Scope, budget: &Budget) -> Result<Self, Error> {
        Ok(Self {
            tree: resolve::resolve(&self.tree, scope, budget)?,
        })
    }

    /// The value, when nothing is left to resolve.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        match &self.tree {
            Tree::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// Resolves all of it.
    ///
    /// # Errors
    ///
    /// As [`Expression::resolve`], and [`Error::Unresolved`] when something stays unknown.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Value, Error> {
        match resolve::resolve(&self.tree, scope, &Budget::default())? {
            Tree::Literal(value) => Ok(value),
            rest => Err(Error::unresolved(&rest)),
        }
    }

    /// Resolves all of it and tells whether the value is true by the rules of [`truthy`].
    ///
    /// # Errors
    ///
    /// As [`Expression::evaluate`].
    pub fn evaluate_bool(&self, scope: &dyn Scope) -> Result<bool, Error> {
        Ok(truthy(&self.evaluate(scope)?))
    }

    /// Dotted paths of all variables in it, such as `env.HOME`; a wildcard is `*`.
    #[must_use]
    pub fn variables(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.tree.visit(&mut |tree| {
            if let Tree::Variable(path) = tree {
                found.insert(path.to_string());
            }
        });
        found
    }

    /// Arguments of all calls of a function; nothing for those where a list is spread.
    pub(crate) fn calls(&self, function: &str) -> Vec<Option<Vec<Self>>> {
        let mut calls = Vec::new();
        self.tree.visit(&mut |tree| {
            if let Tree::Call { name, arguments } = tree
                && name == function
            {
                let arguments = arguments.iter().map(|argument| {
                    let tree = argument.tree.clone();
                    (!argument.spread).then_some(Self { tree })
                });
                calls.push(arguments.collect());
            }
        });
        calls
    }

    /// Names of all functions in it.
    #[must_use]
    pub fn functions(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.tree.visit(&mut |tree| {
            if let Tree::Call { name, .. } = tree {
                found.insert(name.clone());
            }
        });
        found
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print::print(&self.tree))
    }
}

#[cfg(test)]
mod tests;
