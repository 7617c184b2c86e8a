//! Executions by their tests: a result counts for the execution that has it, and for the one at its top.
//!
//! Results that are bad are few and have indexes of their own, so that a test which fails once in a
//! million runs is found at once.

use muster_core::test_history::TestState;
use sea_orm::{
    DbBackend, Value,
    sea_query::{Expr, SimpleExpr},
};
use uuid::Uuid;

use super::{numbered, stream::Part};
use crate::test::Identity;

/// Whether only results that are bad are wanted, which an index knows.
fn only_bad(states: &[TestState]) -> bool {
    !states.is_empty() && states.iter().all(|state| state.is_bad())
}

/// The stream of executions with a result of one of these tests.
pub(super) fn stream(
    project: &impl Fn() -> Value,
    tests: &[Identity],
    states: &[TestState],
) -> Vec<Part> {
    // In the words of the indexes.
    let (top, below) = match only_bad(states) {
        true => (
            "project_id = ? AND identity = ? AND rank = 0",
            "project_id = ? AND identity = ? AND rank = 0 AND execution_id <> root_id",
        ),
        false => (
            "project_id = ? AND identity = ?",
            "project_id = ? AND identity = ? AND execution_id <> root_id",
        ),
    };
    let part = |id: &'static str, condition: &'static str, test: &Identity| Part {
        table: "test_results",
        id,
        condition,
        values: vec![project(), test.to_vec().into()],
    };
    let parts = tests.iter().flat_map(|test| {
        [
            part("root_id", top, test),
            part("execution_id", below, test),
        ]
    });
    parts.collect()
}

/// Whether an execution has such a result.
pub(super) fn has(
    backend: DbBackend,
    project: Uuid,
    tests: &[Identity],
    states: &[TestState],
) -> SimpleExpr {
    let places = |count: usize| vec!["?"; count].join(", ");
    let mut condition = format!(
        "result.project_id = ? AND result.identity IN ({})",
        places(tests.len())
    );
    if only_bad(states) {
        condition.push_str(" AND result.rank = 0");
    }
    if !states.is_empty() {
        condition.push_str(&format!(" AND result.state IN ({})", places(states.len())));
    }
    let exists = |column: &str| {
        format!(
            "EXISTS (SELECT 1 FROM test_results AS result \
             WHERE result.{column} = executions.id AND {condition})"
        )
    };
    let sql = format!("({} OR {})", exists("root_id"), exists("execution_id"));
    let mut values: Vec<Value> = vec![project.into()];
    values.extend(tests.iter().map(|test| Value::from(test.to_vec())));
    values.extend(states.iter().map(|state| Value::from(state.as_str())));
    let values: Vec<Value> = [values.clone(), values].concat();
    match backend {
        DbBackend::Postgres => Expr::cust_with_values(numbered(&sql, 0), values),
        _ => Expr::cust_with_values(sql, values),
    }
}
