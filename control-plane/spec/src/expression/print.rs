//! From tree to text, with as few parentheses as parse back to the same tree.

use super::tree::{Argument, Tree};
use super::value::{Value, json};

/// The text of a tree.
pub(super) fn print(tree: &Tree) -> String {
    let mut out = String::new();
    whole(tree, &mut out);
    out
}

/// Where nothing but a closing bracket, a comma or the end follows.
fn whole(tree: &Tree, out: &mut String) {
    match tree {
        Tree::Literal(value) => out.push_str(&json(value)),
        Tree::Variable(path) => out.push_str(&path.to_string()),
        Tree::Property { base, segment } => {
            let bare = matches!(**base, Tree::Call { .. } | Tree::Property { .. });
            enclosed(base, bare, out);
            out.push('.');
            out.push_str(&segment.to_string());
        }
        Tree::Call { name, arguments } => call(name, arguments, out),
        Tree::Not(inner) => {
            out.push('!');
            operand(inner, i32::MAX, out);
        }
        Tree::Minus(inner) => {
            out.push('-');
            whole(inner, out);
        }
        Tree::Binary {
            operator,
            left,
            right,
        } => {
            operand(left, operator.priority(), out);
            out.push_str(operator.symbol());
            operand(right, operator.priority() + 1, out);
        }
        Tree::Choice { condition, yes, no } => {
            operand(condition, 0, out);
            out.push('?');
            operand(yes, 1, out);
            out.push(':');
            operand(no, 1, out);
        }
    }
}

/// Where only operators of at least `priority` can stand without parentheses.
fn operand(tree: &Tree, priority: i32, out: &mut String) {
    let bare = match tree {
        Tree::Literal(Value::Number(number)) => number.as_f64().is_some_and(|n| n >= 0.0),
        Tree::Literal(_)
        | Tree::Variable(_)
        | Tree::Property { .. }
        | Tree::Call { .. }
        | Tree::Not(_) => true,
        Tree::Binary { operator, .. } => operator.priority() >= priority,
        Tree::Minus(_) | Tree::Choice { .. } => false,
    };
    enclosed(tree, bare, out);
}

fn enclosed(tree: &Tree, bare: bool, out: &mut String) {
    if bare {
        whole(tree, out);
    } else {
        out.push('(');
        whole(tree, out);
        out.push(')');
    }
}

fn call(name: &str, arguments: &[Argument], out: &mut String) {
    out.push_str(name);
    out.push('(');
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        whole(&argument.tree, out);
        if argument.spread {
            out.push_str("...");
        }
    }
    out.push(')');
}
