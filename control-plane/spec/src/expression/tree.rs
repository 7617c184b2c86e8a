//! The tree of an expression. Parsing and printing it are elsewhere.

use std::fmt;

use super::value::Value;

/// An expression or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    /// A value.
    Literal(Value),
    /// `config.x`, `services.db.*.ip`.
    Variable(Path),
    /// Access to a property of anything that is not a variable: `at(x, 0).name`.
    Property { base: Box<Tree>, segment: Segment },
    /// `name(argument, list...)`.
    Call {
        name: String,
        arguments: Vec<Argument>,
    },
    /// `!x`.
    Not(Box<Tree>),
    /// `-x`; never of a number literal, which is a negative literal instead.
    Minus(Box<Tree>),
    /// `left operator right`.
    Binary {
        operator: Operator,
        left: Box<Tree>,
        right: Box<Tree>,
    },
    /// `condition ? yes : no`.
    Choice {
        condition: Box<Tree>,
        yes: Box<Tree>,
        no: Box<Tree>,
    },
}

/// An argument of a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Argument {
    pub(super) tree: Tree,
    /// `list...`: its items are arguments of their own.
    pub(super) spread: bool,
}

/// One step of an access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// A key of a map or an index of a list.
    Name(String),
    /// `*`: what follows is taken of each item.
    Each,
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Each => f.write_str("*"),
        }
    }
}

/// A dotted path; the first segment is a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<Segment>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            write!(f, "{segment}")?;
        }
        Ok(())
    }
}

/// An operator between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    And,
    Or,
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

impl Operator {
    /// Binds stronger when greater; all are left-associative.
    pub(super) fn priority(self) -> i32 {
        match self {
            Self::And | Self::Or => 0,
            Self::Equal
            | Self::NotEqual
            | Self::Greater
            | Self::GreaterOrEqual
            | Self::Less
            | Self::LessOrEqual => 1,
            Self::Add | Self::Subtract => 2,
            Self::Multiply | Self::Divide | Self::Remainder => 3,
            Self::Power => 4,
        }
    }

    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::And => "&&",
            Self::Or => "||",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Power => "**",
        }
    }
}

impl Tree {
    /// Calls `seen` for this part and all below it.
    pub(super) fn visit(&self, seen: &mut dyn FnMut(&Self)) {
        seen(self);
        match self {
            Self::Literal(_) | Self::Variable(_) => {}
            Self::Property { base: inner, .. } | Self::Not(inner) | Self::Minus(inner) => {
                inner.visit(seen);
            }
            Self::Call { arguments, .. } => {
                for argument in arguments {
                    argument.tree.visit(seen);
                }
            }
            Self::Binary { left, right, .. } => {
                left.visit(seen);
                right.visit(seen);
            }
            Self::Choice { condition, yes, no } => {
                condition.visit(seen);
                yes.visit(seen);
                no.visit(seen);
            }
        }
    }

    /// Puts other trees in place of parts, from the outside inwards: what is put there is not
    /// looked at again.
    pub(super) fn replace(&mut self, with: &mut dyn FnMut(&Self) -> Option<Self>) {
        if let Some(other) = with(self) {
            *self = other;
            return;
        }
        match self {
            Self::Literal(_) | Self::Variable(_) => {}
            Self::Property { base: inner, .. } | Self::Not(inner) | Self::Minus(inner) => {
                inner.replace(with);
            }
            Self::Call { arguments, .. } => {
                for argument in arguments {
                    argument.tree.replace(with);
                }
            }
            Self::Binary { left, right, .. } => {
                left.replace(with);
                right.replace(with);
            }
            Self::Choice { condition, yes, no } => {
                condition.replace(with);
                yes.replace(with);
                no.replace(with);
            }
        }
    }
}
