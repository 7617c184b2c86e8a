//! Finding executions: a page of those that fit all filters, newest first, without looking at more than
//! a bounded number of them.
//!
//! Each filter that an index knows gives a stream of ids, newest first (`search/stream.rs`). A look
//! takes a window of the next ids of each stream; the one whose window reaches back furthest is the
//! sparsest, and nothing that fits can be between its ids. So one statement with all filters over
//! that stretch finds what fits, and the next look begins behind it, with a larger window. When the
//! looks of a call have seen enough, the page ends early and says where to go on.

mod labels;
mod stream;
mod tested;

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use muster_core::id::ExecutionId;
use sea_orm::{
    ColumnTrait, Condition, DbBackend, QueryFilter, QueryOrder, QuerySelect, Value,
    sea_query::{Expr, SimpleExpr},
};
use uuid::Uuid;

use super::{Execution, Executions, Filter, child, row};
use crate::{
    Error, Page, entity::execution as execution_row, page, text, time, transaction::Failure,
};
pub(crate) use labels::KnownLabels;
use stream::{Span, Streams};

/// Ids of a first look: most lists are answered by it.
const FIRST_WINDOW: u32 = 256;
/// How much larger a window is than the one before.
const GROWTH: u32 = 8;
/// Ids of the largest look: PostgreSQL fetches so many rows in some 10 ms.
const LARGEST_WINDOW: u32 = 4096;
/// No further look of a call after so many ids, or after this time, so that a call takes less than
/// 100 ms whatever it is asked.
const MOST_LOOKED: u32 = 6_000;
/// See [`MOST_LOOKED`].
const PATIENCE: Duration = Duration::from_millis(30);
/// How far the time in an id may be from the one that is stored beside it. Both come from the clock of
/// one machine, a moment apart; this bears that it is set meanwhile.
const CLOCK_STEP: SignedDuration = SignedDuration::from_hours(1);

impl Executions<'_> {
    pub(super) async fn load_page(
        &self,
        filter: &Filter,
        after: Option<ExecutionId>,
        limit: u32,
    ) -> Result<Page<Execution, ExecutionId>, Error> {
        let limit = page::limit(limit);
        self.store
            .read("list_executions", || self.look(filter, after, limit))
            .await
    }

    async fn look(
        &self,
        filter: &Filter,
        after: Option<ExecutionId>,
        limit: u32,
    ) -> Result<Page<Execution, ExecutionId>, Failure> {
        let Some(streams) = Streams::of(self, filter).await? else {
            return Ok(Page::new(Vec::new(), limit, |item: &Execution| item.id));
        };
        let begun = Instant::now();
        let mut span = span(filter, after);
        let mut window = FIRST_WINDOW.max(limit * 2);
        let mut looked = 0;
        let mut items: Vec<Execution> = Vec::new();
        loop {
            let db = self.store.searcher();
            let sparsest = streams.sparsest(db, &span, window).await?;
            let end = sparsest.end;
            let stretch = Span {
                floor: end.or(span.floor),
                ..span
            };
            let held = sparsest.holds(self.store.backend(), &span, window);
            let missing = (limit as usize + 1).saturating_sub(items.len());
            let rows = self
                .fitting(filter, &stretch)
                .filter(Condition::all().add_option(held))
                .limit(missing as u64)
                .all(db)
                .await?;
            for row in &rows {
                items.push(row::record(row)?);
            }
            let Some(end) = end.filter(|_| items.len() <= limit as usize) else {
                return Ok(Page::new(items, limit, |item: &Execution| item.id));
            };
            looked += window;
            if looked >= MOST_LOOKED || begun.elapsed() >= PATIENCE {
                let next = Some(end.into());
                return Ok(Page { items, next });
            }
            span.before = Some(end);
            window = (window * GROWTH).min(LARGEST_WINDOW);
        }
    }

    /// Those of a stretch that fit all filters.
    fn fitting(&self, filter: &Filter, span: &Span) -> sea_orm::Select<execution_row::Entity> {
        use execution_row::Column;
        let backend = self.store.backend();
        let mut all = Condition::all();
        if let Some(before) = span.before {
            all = all.add(Column::Id.lt(before));
        }
        if let Some(floor) = span.floor {
            all = all.add(Column::Id.gte(floor));
        }
        all = match filter.parent {
            Some(parent) => all.add(Column::ParentId.eq(parent.as_uuid())),
            None => all.add(child::is_shown()),
        };
        if let Some(workflow) = &filter.workflow {
            all = all.add(Column::Workflow.eq(workflow));
        }
        if let Some(prefix) = &filter.workflow_prefix {
            all = all.add(Column::Workflow.gte(prefix));
            all = all.add(Column::Workflow.lt(text::after_prefix(prefix)));
        }
        if let Some(revision) = filter.workflow_revision {
            all = all.add(Column::WorkflowRevision.eq(revision));
        }
        if !filter.states.is_empty() {
            let states = filter.states.iter().map(|state| state.as_str());
            all = all.add(Column::State.is_in(states));
        }
        for (key, value) in &filter.tags {
            let tagged = "EXISTS (SELECT 1 FROM execution_tags AS tagged \
                          WHERE tagged.execution_id = executions.id AND tagged.project_id = ? \
                          AND tagged.key = ? AND tagged.value = ?)";
            let project = self.project.as_uuid().into();
            let values = [project, key.as_str().into(), value.as_str().into()];
            all = all.add(custom(backend, tagged, values));
        }
        for (key, value) in &filter.labels {
            all = all.add(labels::has(backend, key, value.as_deref()));
        }
        for (column, period) in [
            (Column::CreateTime, filter.created),
            (Column::FinishTime, filter.finished),
        ] {
            if let Some(since) = period.since {
                all = all.add(column.gte(time::millis(since)));
            }
            if let Some(until) = period.until {
                all = all.add(column.lt(time::millis(until)));
            }
        }
        if let Some(agent) = &filter.agent {
            let placed = "EXISTS (SELECT 1 FROM attempts AS placed \
                          WHERE placed.execution_id = executions.id AND placed.agent_name = ?)";
            all = all.add(custom(backend, placed, [agent.as_str().into()]));
        }
        if let Some(text) = &filter.text {
            all = all.add(mentions(backend, text));
        }
        if let Some(group) = &filter.concurrency_group {
            all = all.add(Column::ConcurrencyGroup.eq(group));
        }
        if let Some(tests) = &filter.tests {
            let project = self.project.as_uuid();
            all = all.add(tested::has(backend, project, tests, &filter.test_states));
        }
        self.rows().filter(all).order_by_desc(Column::Id)
    }
}

/// A condition in words of both databases, with a `?` for each value.
fn custom<const N: usize>(backend: DbBackend, sql: &str, values: [Value; N]) -> SimpleExpr {
    match backend {
        DbBackend::Postgres => Expr::cust_with_values(numbered(sql, 0), values),
        _ => Expr::cust_with_values(sql.to_owned(), values),
    }
}

/// Gives placeholders their numbers.
fn numbered(sql: &str, mut last: usize) -> String {
    let mut numbered = String::with_capacity(sql.len() + 16);
    for part in sql.split_inclusive('?') {
        match part.strip_suffix('?') {
            Some(head) => {
                last += 1;
                numbered.push_str(head);
                numbered.push('$');
                numbered.push_str(&last.to_string());
            }
            None => numbered.push_str(part),
        }
    }
    numbered
}

/// Whether reason or message holds a text. Letters are folded from A to Z alone, which both databases
/// do alike.
fn mentions(backend: DbBackend, text: &str) -> SimpleExpr {
    let folded = text.to_ascii_lowercase();
    let sql = match backend {
        DbBackend::Postgres => {
            "(strpos(lower(message COLLATE \"C\"), ?) > 0 OR strpos(lower(reason COLLATE \"C\"), ?) > 0)"
        }
        _ => "(instr(lower(message), ?) > 0 OR instr(lower(reason), ?) > 0)",
    };
    custom(backend, sql, [folded.clone().into(), folded.into()])
}

/// The ids that can fit: behind the page before, and within the times that are asked for.
fn span(filter: &Filter, after: Option<ExecutionId>) -> Span {
    let id_at = |time: Timestamp| {
        let millis = u64::try_from(time.as_millisecond()).unwrap_or(0);
        crate::time::first_id(millis)
    };
    let floor = filter.created.since.map(|since| {
        let early = since.checked_sub(CLOCK_STEP).unwrap_or(Timestamp::MIN);
        id_at(early)
    });
    // What has ended was accepted before.
    let until = [filter.created.until, filter.finished.until];
    let until = until.into_iter().flatten().min().map(|until| {
        let late = until.checked_add(CLOCK_STEP).unwrap_or(Timestamp::MAX);
        id_at(late)
    });
    let after = after.map(ExecutionId::as_uuid);
    let before: Option<Uuid> = [until, after].into_iter().flatten().min();
    Span { before, floor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_get_their_numbers() {
        assert_eq!(numbered("a = ? AND b < ?", 0), "a = $1 AND b < $2");
        assert_eq!(numbered("?", 4), "$5");
    }

    #[test]
    fn a_time_bounds_the_ids_with_room_for_a_clock_that_is_set() {
        let id = ExecutionId::generate();
        let now = Timestamp::now();
        let filter = |since: Option<i64>, until: Option<i64>| {
            let at = |hours: i64| now + SignedDuration::from_hours(hours);
            let mut filter = Filter::default();
            filter.created.since = since.map(at);
            filter.created.until = until.map(at);
            filter
        };
        let within = |filter: &Filter| {
            let Span { before, floor } = span(filter, None);
            let id = id.as_uuid();
            before.is_none_or(|before| id < before) && floor.is_none_or(|floor| id >= floor)
        };
        assert!(within(&filter(Some(-1), Some(1))));
        assert!(within(&filter(Some(0), Some(0))), "room for a clock");
        assert!(!within(&filter(Some(2), None)));
        assert!(!within(&filter(None, Some(-2))));
    }
}
