//! Operators on values. `&&` and `||` are not here: they do not always need both operands.

use std::cmp::Ordering;

use crate::expression::MAX_TEXT;
use crate::expression::error::Error;
use crate::expression::tree::Operator;
use crate::expression::value::{Numeric, Value, from_numeric, numeric, text, truthy};

/// The value of `left operator right`.
pub(super) fn operate(operator: Operator, left: &Value, right: &Value) -> Result<Value, Error> {
    let result = match operator {
        Operator::And | Operator::Or => {
            let first = truthy(left) == (operator == Operator::Or);
            Ok(if first { left } else { right }.clone())
        }
        Operator::Equal => Ok(Value::Bool(text(left) == text(right))),
        Operator::NotEqual => Ok(Value::Bool(text(left) != text(right))),
        Operator::Greater => compare(left, right, Ordering::is_gt),
        Operator::GreaterOrEqual => compare(left, right, Ordering::is_ge),
        Operator::Less => compare(left, right, Ordering::is_lt),
        Operator::LessOrEqual => compare(left, right, Ordering::is_le),
        Operator::Add if left.is_string() || right.is_string() => concatenate(left, right),
        Operator::Add
        | Operator::Subtract
        | Operator::Multiply
        | Operator::Divide
        | Operator::Remainder
        | Operator::Power => arithmetic(operator, left, right),
    };
    result.map_err(|error| match error {
        Error::Operation(message) => {
            Error::operation(format!("cannot compute `{}`: {message}", operator.symbol()))
        }
        other => other,
    })
}

fn concatenate(left: &Value, right: &Value) -> Result<Value, Error> {
    let joined = text(left) + &text(right);
    if joined.len() > MAX_TEXT {
        return Err(Error::Limit("a text of more than 1 MiB"));
    }
    Ok(Value::String(joined))
}

fn compare(left: &Value, right: &Value, wanted: fn(Ordering) -> bool) -> Result<Value, Error> {
    let ordering = match (numeric(left)?, numeric(right)?) {
        (Numeric::Int(a), Numeric::Int(b)) => Some(a.cmp(&b)),
        (a, b) => a.as_float().partial_cmp(&b.as_float()),
    };
    Ok(Value::Bool(ordering.is_some_and(wanted)))
}

fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Result<Value, Error> {
    let (a, b) = (numeric(left)?, numeric(right)?);
    if matches!(operator, Operator::Divide | Operator::Remainder) && b.as_float() == 0.0 {
        return Err(Error::operation("division by zero"));
    }
    if let (Numeric::Int(a), Numeric::Int(b)) = (a, b)
        && let Some(exact) = integers(operator, a, b)
    {
        return from_numeric(Numeric::Int(exact));
    }
    let (a, b) = (a.as_float(), b.as_float());
    from_numeric(Numeric::Float(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::Remainder => a % b,
        Operator::Power => a.powf(b),
        _ => return Err(Error::operation("not an operator of numbers")),
    }))
}

/// The exact result, if there is one that fits.
fn integers(operator: Operator, a: i64, b: i64) -> Option<i64> {
    match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide => (a.checked_rem(b)? == 0).then(|| a.checked_div(b))?,
        Operator::Remainder => a.checked_rem(b),
        Operator::Power => a.checked_pow(u32::try_from(b).ok()?),
        _ => None,
    }
}
