//! Tests and their results over runs. They come out of reports, which are in [`report`].

mod compare;
mod durations;
mod failed;
mod history;
mod unsteady;

use muster_core::{
    id::{ArtifactId, ExecutionId, ProjectId},
    test_history::TestState,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, Select, sea_query::Expr,
};
use std::collections::HashMap;
use uuid::Uuid;

use crate::{
    Error, Page, Store,
    entity::{test as test_row, test_result as row},
    execution::counts_for,
    page,
    quarantine::Mark,
    report,
    transaction::Failure,
};

pub use compare::{Change, Comparison, MOST_CHANGES, Outcome};
pub use durations::Durations;
pub use failed::{Failed, FailedTest};
pub use history::{Entry, RunFilter};
pub use unsteady::Unsteady;

/// What a test is over all runs: 16 bytes.
pub type Identity = [u8; 16];

/// Bytes of accounts that a page holds: it travels in one message.
const MOST_BYTES: usize = 2 << 20;
/// Most tests that a search finds.
pub const MOST_FOUND: u64 = 100;

/// A test, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// What it is over all runs.
    pub identity: Identity,
    /// The suites around it.
    pub suite: String,
    /// Its class, module or file.
    pub class: String,
    /// Its name.
    pub name: String,
    /// Parameters in its name.
    pub parameters: Option<String>,
    /// What sets it apart in one run.
    pub variants: String,
    /// The file that it stands in.
    pub file: Option<String>,
    /// The line there.
    pub line: Option<i32>,
}

/// A test in an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The test.
    pub test: Test,
    /// The execution: a child's own, where a child ran it.
    pub execution: ExecutionId,
    /// The report that tells of it.
    pub artifact: ArtifactId,
    /// How it ended.
    pub state: TestState,
    /// It passed after a try that did not.
    pub flaky: bool,
    /// How often it was tried.
    pub tries: i32,
    /// How long it took, in milliseconds.
    pub duration: Option<i64>,
    /// Why it did not pass.
    pub message: Option<String>,
    /// The type of the failure.
    pub kind: Option<String>,
    /// The whole account of it.
    pub stack: Option<String>,
    /// Places of its output, attachments, properties: a JSON object.
    pub detail: Option<String>,
    /// It did not pass and was in quarantine.
    pub quarantine: Option<Mark>,
    cursor: Cursor,
}

/// Which tests of an execution are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only with these states; empty for all.
    pub states: Vec<TestState>,
    /// Only those that passed after a try that did not.
    pub flaky: bool,
}

/// Where a list of tests goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// 0 for bad ones, which come first.
    pub rank: i32,
    /// The execution of the last one.
    pub execution: Uuid,
    /// Its report.
    pub artifact: Uuid,
    /// Its place there.
    pub position: i32,
}

/// How many tests of an execution ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// By state.
    pub counts: report::Counts,
    /// Reports that were not read yet.
    pub pending: u64,
}

/// The tests of one project.
#[derive(Debug)]
pub struct Tests<'a> {
    pub(crate) store: &'a Store,
    pub(crate) project: ProjectId,
}

impl Tests<'_> {
    /// Lists the tests of an execution and of all that it has started: bad ones first, then in the
    /// order of their reports.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn list(
        &self,
        execution: ExecutionId,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<Case, Cursor>, Error> {
        let limit = page::limit(limit);
        self.store
            .read("list_test_cases", || async {
                let db = self.store.searcher();
                let mut query = row::Entity::find()
                    .order_by_asc(row::Column::Rank)
                    .order_by_asc(row::Column::ExecutionId)
                    .order_by_asc(row::Column::ArtifactId)
                    .order_by_asc(row::Column::Position);
                if !filter.states.is_empty() {
                    let names = filter.states.iter().map(|state| state.as_str());
                    query = query.filter(row::Column::State.is_in(names));
                    // The index knows bad ones.
                    if filter.states.iter().all(|state| state.is_bad()) {
                        query = query.filter(row::Column::Rank.eq(0));
                    }
                }
                if filter.flaky {
                    query = query.filter(row::Column::Flaky.eq(true));
                }
                if let Some(after) = after {
                    let columns = [
                        row::Column::Rank,
                        row::Column::ExecutionId,
                        row::Column::ArtifactId,
                        row::Column::Position,
                    ];
                    let last = Expr::tuple([
                        Expr::value(after.rank),
                        Expr::value(after.execution),
                        Expr::value(after.artifact),
                        Expr::value(after.position),
                    ]);
                    query = query.filter(Expr::tuple(columns.map(Expr::col)).gt(last));
                }
                let rows = self.page(db, execution, query, limit).await?;
                let names = self.names(db, rows.iter().map(|row| &row.identity)).await?;
                let cases = rows
                    .into_iter()
                    .map(|row| case(row, &names))
                    .collect::<Result<Vec<_>, _>>()?;
                let shown = shown(&cases, limit);
                Ok(Page::new(cases, shown, |case: &Case| case.cursor))
            })
            .await
    }

    /// Counts the tests of an execution and of all that it has started.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn totals(&self, execution: ExecutionId) -> Result<Totals, Error> {
        let pending = self.store.reports(self.project).pending(execution).await?;
        self.store
            .read("count_test_cases", || async {
                let db = self.store.searcher();
                let of = self.of(db, execution).await?;
                let rows: Vec<(String, bool, i64)> = row::Entity::find()
                    .filter(of.clone())
                    .select_only()
                    .column(row::Column::State)
                    .column(row::Column::Flaky)
                    .column_as(row::Column::Position.count(), "count")
                    .group_by(row::Column::State)
                    .group_by(row::Column::Flaky)
                    .into_tuple()
                    .all(db)
                    .await?;
                let mut totals = Totals {
                    pending,
                    ..Totals::default()
                };
                let counts = &mut totals.counts;
                for (name, flaky, count) in rows {
                    if flaky {
                        counts.flaky += count;
                    }
                    match state(&name)? {
                        TestState::Passed => counts.passed += count,
                        TestState::Skipped => counts.skipped += count,
                        TestState::Failed => counts.failed += count,
                        TestState::Error => counts.errors += count,
                    }
                }
                // The index does not tell of quarantine: only where something failed, and of that alone.
                if totals.counts.failed + totals.counts.errors > 0 {
                    let quarantined = row::Entity::find()
                        .filter(of)
                        .filter(row::Column::Rank.eq(0))
                        .filter(row::Column::QuarantineUntil.is_not_null());
                    let count = quarantined.count(db).await?;
                    totals.counts.quarantined = i64::try_from(count).unwrap_or(i64::MAX);
                }
                Ok(totals)
            })
            .await
    }

    /// Finds tests by a part of their class or name, at most [`MOST_FOUND`], by class and name. A case
    /// of letters makes no difference.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find(&self, part: &str) -> Result<Vec<Test>, Error> {
        // As both databases do it: letters beyond ASCII are what they are.
        let part = part.to_ascii_lowercase();
        let pattern: String = part
            .chars()
            .flat_map(|c| match c {
                '%' | '_' | '\\' => vec!['\\', c],
                c => vec![c],
            })
            .collect();
        let pattern = format!("%{pattern}%");
        self.store
            .read("find_tests", || async {
                let words = "lower(class || ' ' || name || ' ' || variants)";
                let rows = test_row::Entity::find()
                    .filter(test_row::Column::ProjectId.eq(self.project.as_uuid()))
                    .filter(Expr::cust_with_values(
                        match self.store.backend() {
                            sea_orm::DbBackend::Postgres => {
                                format!("{words} LIKE $1 ESCAPE '\\'")
                            }
                            _ => format!("{words} LIKE ? ESCAPE '\\'"),
                        },
                        [pattern.clone()],
                    ))
                    .order_by_asc(test_row::Column::Class)
                    .order_by_asc(test_row::Column::Name)
                    .order_by_asc(test_row::Column::Identity)
                    .limit(MOST_FOUND)
                    .all(self.store.searcher())
                    .await?;
                rows.into_iter().map(test).collect()
            })
            .await
    }

    /// Rows of a query that belong to an execution, and one more than a page has.
    async fn page<C: ConnectionTrait>(
        &self,
        db: &C,
        execution: ExecutionId,
        query: Select<row::Entity>,
        limit: u32,
    ) -> Result<Vec<row::Model>, Failure> {
        let most = u64::from(limit) + 1;
        let id = execution.as_uuid();
        if report::is_top(db, self.project, execution).await? {
            let (top, own) = (row::Column::RootId, row::Column::ExecutionId);
            let query = query.filter(counts_for(db, execution, top, own).await?);
            return Ok(query.limit(most).all(db).await?);
        }
        // Of a child two stretches of the same index, so that none of its tests are sorted.
        let Some(root) = root(db, id).await? else {
            return Ok(Vec::new());
        };
        let mut rows = Vec::new();
        for rank in 0..=1 {
            let missing = most - rows.len() as u64;
            if missing > 0 {
                let stretch = query
                    .clone()
                    .filter(row::Column::RootId.eq(root))
                    .filter(row::Column::Rank.eq(rank))
                    .filter(row::Column::ExecutionId.eq(id));
                rows.extend(stretch.limit(missing).all(db).await?);
            }
        }
        Ok(rows)
    }

    /// The condition for results of an execution and, of one at the top, of all below it and of what it
    /// has taken over.
    async fn of<C: ConnectionTrait>(
        &self,
        db: &C,
        execution: ExecutionId,
    ) -> Result<Expr, Failure> {
        let id = execution.as_uuid();
        if report::is_top(db, self.project, execution).await? {
            let (top, own) = (row::Column::RootId, row::Column::ExecutionId);
            return counts_for(db, execution, top, own).await;
        }
        let of = row::Column::ExecutionId.eq(id);
        // In the words of an index, which has all that is counted.
        Ok(match root(db, id).await? {
            Some(root) => row::Column::RootId
                .eq(root)
                .and(row::Column::Rank.is_in([0, 1]))
                .and(of),
            None => of,
        })
    }

    pub(crate) async fn names<'a, C: ConnectionTrait>(
        &self,
        db: &C,
        identities: impl Iterator<Item = &'a Vec<u8>>,
    ) -> Result<HashMap<Vec<u8>, Test>, Failure> {
        let mut wanted: Vec<Vec<u8>> = identities.cloned().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let rows = test_row::Entity::find()
            .filter(test_row::Column::ProjectId.eq(self.project.as_uuid()))
            .filter(test_row::Column::Identity.is_in(wanted))
            .all(db)
            .await?;
        let tests = rows
            .into_iter()
            .map(|row| Ok((row.identity.clone(), test(row)?)));
        tests.collect()
    }

    /// Whether a test is one of this project's.
    pub(crate) async fn require<C: ConnectionTrait>(
        &self,
        db: &C,
        identity: Identity,
    ) -> Result<Test, Failure> {
        let row = test_row::Entity::find_by_id((self.project.as_uuid(), identity.to_vec()))
            .one(db)
            .await?;
        let row = row.ok_or_else(|| {
            let id: String = identity.iter().map(|byte| format!("{byte:02x}")).collect();
            Error::not_found(crate::error::Kind::Test, id)
        })?;
        test(row)
    }

    /// How many tests the project has.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count(&self) -> Result<u64, Error> {
        self.store
            .read("count_tests", || async {
                let tests = test_row::Entity::find()
                    .filter(test_row::Column::ProjectId.eq(self.project.as_uuid()));
                Ok(tests.count(self.store.searcher()).await?)
            })
            .await
    }
}

/// The execution at the top of one that has tests.
async fn root<C: ConnectionTrait>(db: &C, execution: Uuid) -> Result<Option<Uuid>, Failure> {
    let root = row::Entity::find()
        .select_only()
        .column(row::Column::RootId)
        .filter(row::Column::ExecutionId.eq(execution))
        .limit(1)
        .into_tuple()
        .one(db);
    Ok(root.await?)
}

/// How many tests a page holds: fewer than are wanted where their accounts are long.
fn shown(cases: &[Case], limit: u32) -> u32 {
    let mut bytes = 0;
    let size = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let fit = cases.iter().take_while(|case| {
        bytes += size(&case.message) + size(&case.stack) + size(&case.detail);
        bytes <= MOST_BYTES
    });
    let fit = u32::try_from(fit.count()).unwrap_or(u32::MAX);
    // One at least, or no page would ever end.
    std::cmp::min(limit, std::cmp::max(fit, 1))
}

fn test(row: test_row::Model) -> Result<Test, Failure> {
    Ok(Test {
        identity: identity(&row.identity)?,
        suite: row.suite,
        class: row.class,
        name: row.name,
        parameters: row.parameters,
        variants: row.variants,
        file: row.file,
        line: row.line,
    })
}

pub(crate) fn identity(bytes: &[u8]) -> Result<Identity, Failure> {
    bytes
        .try_into()
        .map_err(|_error| Failure::internal("read a test", "its identity has not 16 bytes"))
}

fn state(name: &str) -> Result<TestState, Failure> {
    TestState::from_name(name)
        .ok_or_else(|| Failure::internal("read a test", format!("unknown state '{name}'")))
}

fn case(row: row::Model, names: &HashMap<Vec<u8>, Test>) -> Result<Case, Failure> {
    let test = names
        .get(&row.identity)
        .ok_or_else(|| Failure::internal("read a test", "it has no name"))?;
    Ok(Case {
        quarantine: Mark::of(&row),
        test: test.clone(),
        execution: row.execution_id.into(),
        artifact: row.artifact_id.into(),
        state: state(&row.state)?,
        flaky: row.flaky,
        tries: row.tries,
        duration: row.duration,
        message: row.message,
        kind: row.kind,
        stack: row.stack,
        detail: row.detail_json,
        cursor: Cursor {
            rank: row.rank,
            execution: row.execution_id,
            artifact: row.artifact_id,
            position: row.position,
        },
    })
}
