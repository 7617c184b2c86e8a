//! Streams of ids, newest first, each from an index that knows a filter.

use std::fmt::Write as _;

use muster_core::execution::State;
use sea_orm::{
    ConnectionTrait, DbBackend, Statement, Value,
    sea_query::{Expr, SimpleExpr},
};
use uuid::Uuid;

use super::{Executions, Filter, labels, numbered, tested};
use crate::{text, transaction::Failure};

/// Most workflows whose executions are merged into one stream; with more of them the filter that has
/// found them is no help, since much fits it.
const MOST_WORKFLOWS: usize = 12;

/// A stretch of ids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// Only smaller ones.
    pub(super) before: Option<Uuid>,
    /// Not smaller than this.
    pub(super) floor: Option<Uuid>,
}

/// Rows of a table in which ids of executions stand.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) table: &'static str,
    pub(super) id: &'static str,
    /// With a `?` for each value.
    pub(super) condition: &'static str,
    pub(super) values: Vec<Value>,
}

impl Part {
    fn executions(condition: &'static str, values: Vec<Value>) -> Self {
        Self {
            table: "executions",
            id: "id",
            condition,
            values,
        }
    }

    fn attempts(condition: &'static str, values: Vec<Value>) -> Self {
        Self {
            table: "attempts",
            id: "execution_id",
            condition,
            values,
        }
    }
}

/// The streams of a filter. What is in none of them does not fit; a stream may have more than what
/// fits.
#[derive(Debug)]
pub(super) struct Streams(Vec<Vec<Part>>);

impl Streams {
    /// The streams that indexes have for a filter; `None` when nothing can fit.
    pub(super) async fn of(
        executions: &Executions<'_>,
        filter: &Filter,
    ) -> Result<Option<Self>, Failure> {
        let project = || Value::from(executions.project.as_uuid());
        let mut streams = Vec::new();
        if let Some(parent) = filter.parent {
            let condition = "project_id = ? AND parent_id = ?";
            let values = vec![project(), parent.as_uuid().into()];
            streams.push(vec![Part::executions(condition, values)]);
        }
        if let Some(group) = &filter.concurrency_group {
            let condition = "project_id = ? AND concurrency_group = ?";
            let values = vec![project(), group.as_str().into()];
            streams.push(vec![Part::executions(condition, values)]);
        }
        for (key, value) in &filter.tags {
            streams.push(vec![Part {
                table: "execution_tags",
                id: "execution_id",
                condition: "project_id = ? AND key = ? AND value = ?",
                values: vec![project(), key.as_str().into(), value.as_str().into()],
            }]);
        }
        if let Some(agent) = &filter.agent {
            let values = || vec![project(), agent.as_str().into()];
            let ended = "project_id = ? AND agent_name = ? AND status <> 'live'";
            let live = "project_id = ? AND agent_name = ? AND status = 'live'";
            streams.push(vec![
                Part::attempts(ended, values()),
                Part::attempts(live, values()),
            ]);
        }
        if let Some(workflow) = &filter.workflow {
            streams.push(vec![of_workflow(project(), workflow)]);
        }
        for names in workflows(executions, filter).await? {
            if names.is_empty() {
                return Ok(None);
            }
            if names.len() <= MOST_WORKFLOWS {
                let parts = names.iter().map(|name| of_workflow(project(), name));
                streams.push(parts.collect());
            }
        }
        if !filter.states.is_empty() {
            streams.push(of_states(&project, &filter.states));
        }
        if let Some(tests) = &filter.tests {
            if tests.is_empty() {
                return Ok(None);
            }
            streams.push(tested::stream(&project, tests, &filter.test_states));
        }
        if filter.text.is_some() {
            let condition = "project_id = ? AND (message <> '' OR reason <> '')";
            streams.push(vec![Part::executions(condition, vec![project()])]);
        }
        if streams.is_empty() {
            streams.push(vec![Part::executions(ALL, vec![project()])]);
        }
        Ok(Some(Self(streams)))
    }

    /// The sparsest stream: nothing that fits lies within the span, at or above the end of its window,
    /// but what this stream has there.
    pub(super) async fn sparsest<C: ConnectionTrait>(
        &self,
        db: &C,
        span: &Span,
        window: u32,
    ) -> Result<Sparsest<'_>, Failure> {
        let mut sparsest: Option<(Uuid, &[Part])> = None;
        for parts in &self.0 {
            let statement = last_of_window(db.get_database_backend(), parts, span, window);
            let Some(row) = db.query_one_raw(statement).await? else {
                return Ok(Sparsest { end: None, parts });
            };
            let last: Uuid = row.try_get_by_index(0)?;
            if sparsest.is_none_or(|(end, _)| last < end) {
                sparsest = Some((last, parts));
            }
        }
        let (end, parts) = sparsest.unzip();
        Ok(Sparsest {
            end,
            parts: parts.unwrap_or_default(),
        })
    }
}

/// The window of a stream.
#[derive(Debug)]
pub(super) struct Sparsest<'a> {
    /// Its last id; `None` when it reaches to the end of the span.
    pub(super) end: Option<Uuid>,
    parts: &'a [Part],
}

impl Sparsest<'_> {
    /// The condition that an execution is in this window. It is said as a list of ids, and not as a
    /// join: PostgreSQL would guess how many there are, and read the whole table when it guesses wrong.
    /// Nothing for the stream of all executions, which the bounds of the window are enough for.
    pub(super) fn holds(&self, backend: DbBackend, span: &Span, window: u32) -> Option<SimpleExpr> {
        if matches!(self.parts, [only] if only.condition == ALL) {
            return None;
        }
        let (union, values) = union(self.parts, span, window);
        let ids = format!("{union} ORDER BY id DESC LIMIT {window}");
        let sql = match backend {
            DbBackend::Postgres => {
                let ids = numbered(&ids, 0);
                format!("executions.id = ANY(ARRAY(SELECT id FROM ({ids}) AS looked_at))")
            }
            _ => format!("executions.id IN (SELECT id FROM ({ids}) AS looked_at)"),
        };
        Some(Expr::cust_with_values(sql, values))
    }
}

/// The condition of the stream of all executions.
const ALL: &str = "project_id = ?";

fn of_workflow(project: Value, workflow: &str) -> Part {
    let condition = "project_id = ? AND workflow = ?";
    Part::executions(condition, vec![project, workflow.into()])
}

/// Conditions are spelled out: an index over a part of the rows is only used where the statement says
/// that part in its own words.
fn of_states(project: &impl Fn() -> Value, states: &[State]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut leased = false;
    for (index, state) in states.iter().enumerate() {
        if states[..index].contains(state) {
            continue;
        }
        if state.is_terminal() {
            let condition = "project_id = ? AND state = ? AND finish_time IS NOT NULL";
            let values = vec![project(), state.as_str().into()];
            parts.push(Part::executions(condition, values));
        } else if *state == State::Queued {
            let condition = "project_id = ? AND state = 'queued'";
            parts.push(Part::executions(condition, vec![project()]));
        } else if !leased {
            // All others are held by an attempt.
            leased = true;
            let condition = "project_id = ? AND status = 'live'";
            parts.push(Part::attempts(condition, vec![project()]));
        }
    }
    parts
}

/// For each filter that names workflows by something else than their name, those that it names.
async fn workflows(
    executions: &Executions<'_>,
    filter: &Filter,
) -> Result<Vec<Vec<String>>, Failure> {
    let project = || Value::from(executions.project.as_uuid());
    let db = executions.store.searcher();
    let most = MOST_WORKFLOWS + 1;
    let mut found = Vec::new();
    if let Some(prefix) = &filter.workflow_prefix {
        let condition = "SELECT workflow FROM counters \
                         WHERE project_id = ? AND workflow >= ? AND workflow < ? ORDER BY workflow";
        let end = text::after_prefix(prefix);
        let values = vec![project(), prefix.as_str().into(), end.into()];
        found.push(labels::names(db, condition, values, most).await?);
    }
    for (key, value) in &filter.labels {
        let (condition, mut values) = (
            "SELECT DISTINCT workflow FROM workflow_labels WHERE project_id = ? AND key = ?",
            vec![project(), key.as_str().into()],
        );
        let condition = match value {
            Some(value) => {
                values.push(value.as_str().into());
                format!("{condition} AND value = ?")
            }
            None => condition.to_owned(),
        };
        found.push(labels::names(db, &condition, values, most).await?);
    }
    Ok(found)
}

/// The newest of all parts, as many of each as the window has, not in order yet: PostgreSQL would read
/// each to its end to sort them, where it is not told how many are wanted.
fn union(parts: &[Part], span: &Span, window: u32) -> (String, Vec<Value>) {
    let (mut sql, mut values) = (String::new(), Vec::new());
    for (index, part) in parts.iter().enumerate() {
        let Part {
            table,
            id,
            condition,
            values: own,
        } = part;
        let union = if index == 0 { "" } else { " UNION ALL " };
        // Writing to a string can not fail.
        let _ok = write!(
            sql,
            "{union}SELECT id FROM (SELECT {id} AS id FROM {table} WHERE {condition}"
        );
        values.extend(own.iter().cloned());
        for (bound, comparison) in [(span.before, "<"), (span.floor, ">=")] {
            if let Some(bound) = bound {
                let _ok = write!(sql, " AND {id} {comparison} ?");
                values.push(bound.into());
            }
        }
        let _ok = write!(sql, " ORDER BY {id} DESC LIMIT {window}) AS part_{index}");
    }
    (sql, values)
}

/// The last id of a window: all parts merged, newest first.
fn last_of_window(backend: DbBackend, parts: &[Part], span: &Span, window: u32) -> Statement {
    let (union, values) = union(parts, span, window);
    let offset = window.saturating_sub(1);
    let sql = format!("{union} ORDER BY id DESC LIMIT 1 OFFSET {offset}");
    let sql = match backend {
        DbBackend::Postgres => numbered(&sql, 0),
        _ => sql,
    };
    Statement::from_sql_and_values(backend, sql, values)
}
