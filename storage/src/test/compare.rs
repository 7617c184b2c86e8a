//! Two runs side by side: the database joins their tests, and tells what differs and how many there are.

use std::collections::HashMap;

use muster_core::{id::ExecutionId, test_history::TestState};
use sea_orm::{DbBackend, FromQueryResult, Statement};

use super::{Test, Tests};
use crate::{
    Error,
    entity::place,
    execution::has_taken_over,
    report::{self, Counts},
    transaction::Failure,
};

/// Most tests of each list of a comparison.
pub const MOST_CHANGES: usize = 500;
/// A test is slower that took more than this, in milliseconds, and half as long again.
const SLOWER: i64 = 100;
/// Tests whose names are asked for together.
const PART: usize = 1000;

/// What came of a test in one run, for a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended; the worst of all, when several children ran it.
    pub state: TestState,
    /// How long it took, in milliseconds; the longest, when several children ran it.
    pub duration: Option<i64>,
    /// It did not pass and was in quarantine, wherever it did not pass.
    pub quarantined: bool,
}

/// A test in two executions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The test.
    pub test: Test,
    /// What came of it in the older one, when it was there.
    pub before: Option<Outcome>,
    /// What came of it in the newer one.
    pub after: Outcome,
}

/// Two executions side by side. Each list has at most [`MOST_CHANGES`]; which of more those are is the same
/// every time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Those that do not pass, and did; by name.
    pub new_failures: Vec<Change>,
    /// Those that pass, and did not; by name.
    pub fixed: Vec<Change>,
    /// Those that do not pass, as before; by name.
    pub still_failing: Vec<Change>,
    /// Those that take longer, the worst first.
    pub slower: Vec<Change>,
    /// Those that do not pass, and did, and are in quarantine; by name.
    pub quarantined: Vec<Change>,
    /// How many are new.
    pub added: i64,
    /// How many are gone.
    pub removed: i64,
    /// Of the older one.
    pub base: Counts,
    /// Of the newer one.
    pub counts: Counts,
}

/// States by how bad they are, and whether in quarantine, as the statement has them.
const WORST: [Standing; 6] = [
    (TestState::Error, false),
    (TestState::Failed, false),
    (TestState::Error, true),
    (TestState::Failed, true),
    (TestState::Passed, false),
    (TestState::Skipped, false),
];

/// Which tests count for an execution.
#[derive(Debug, Clone, Copy)]
enum Side {
    /// Its own.
    Own,
    /// Those of all that it has started, too.
    All,
    /// And those of what it has taken over.
    WithTakenOver,
}

impl Side {
    fn condition(self, place: &str) -> String {
        match self {
            Self::Own => format!("execution_id = {place}"),
            Self::All => format!("root_id = {place}"),
            Self::WithTakenOver => format!(
                "(root_id = {place} OR execution_id IN
                   (SELECT execution_id FROM counted_executions WHERE root_id = {place}))"
            ),
        }
    }
}

/// A row of the answer: of a list, or of the sums.
#[derive(Debug, FromQueryResult)]
struct Row {
    list: i32,
    identity: Option<Vec<u8>>,
    state_before: Option<i32>,
    duration_before: Option<i64>,
    state_after: Option<i32>,
    duration_after: Option<i64>,
    many: i64,
}

impl Tests<'_> {
    /// Compares the tests of two executions, each with all that it has started.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for one of the executions.
    pub async fn compare(
        &self,
        base: ExecutionId,
        newer: ExecutionId,
    ) -> Result<Comparison, Error> {
        self.store
            .read("compare_tests", || async {
                let db = self.store.searcher();
                let mut sides = [Side::Own; 2];
                for (side, execution) in sides.iter_mut().zip([base, newer]) {
                    if report::is_top(db, self.project, execution).await? {
                        *side = match has_taken_over(db, execution).await? {
                            true => Side::WithTakenOver,
                            false => Side::All,
                        };
                    }
                }
                let backend = db.get_database_backend();
                let values = [base.as_uuid().into(), newer.as_uuid().into()];
                let sql = sql(backend, sides);
                let statement = Statement::from_sql_and_values(backend, sql, values);
                let rows = Row::find_by_statement(statement).all(db).await?;
                let mut wanted: Vec<&Vec<u8>> = rows
                    .iter()
                    .filter_map(|row| row.identity.as_ref())
                    .collect();
                wanted.sort_unstable();
                wanted.dedup();
                let mut names = HashMap::with_capacity(wanted.len());
                for part in wanted.chunks(PART) {
                    names.extend(self.names(db, part.iter().copied()).await?);
                }
                Comparison::of(rows, &names)
            })
            .await
    }
}

/// The statement: tests of both, those of one in which several children ran it as one; then of each list
/// the first ones, and at last how many ended how in both.
fn sql(backend: DbBackend, [base, newer]: [Side; 2]) -> String {
    let (first, second) = (place(backend, 1), place(backend, 2));
    let side = |side: Side, place: &str| {
        let condition = side.condition(place);
        format!(
            "SELECT identity, min(CASE state WHEN 'error' THEN 0 WHEN 'failed' THEN 1 WHEN 'passed' THEN 4 ELSE 5 END
                 + CASE WHEN quarantine_until IS NULL THEN 0 ELSE 2 END) AS state,
               max(duration) AS duration
             FROM test_results WHERE {condition} GROUP BY identity"
        )
    };
    let list = |number: usize, condition: &str, order: &str| {
        format!(
            "SELECT * FROM (SELECT {number} AS list, identity, state_before, duration_before, state_after, duration_after,
               CAST(1 AS bigint) AS many FROM sides WHERE {condition} ORDER BY {order} LIMIT {MOST_CHANGES}) AS list_{number}"
        )
    };
    let lists = [
        list(
            1,
            "state_after < 2 AND (state_before IS NULL OR state_before > 3)",
            "identity",
        ),
        list(2, "state_after = 4 AND state_before < 4", "identity"),
        list(3, "state_after < 4 AND state_before < 4", "identity"),
        list(
            4,
            &format!(
                "state_after = 4 AND state_before = 4 AND duration_after - duration_before > {SLOWER}
                 AND duration_after - duration_before > duration_before / 2"
            ),
            "duration_after - duration_before DESC, identity",
        ),
        list(
            5,
            "state_after IN (2, 3) AND (state_before IS NULL OR state_before > 3)",
            "identity",
        ),
    ];
    format!(
        "WITH base AS ({}), newer AS ({}), sides AS MATERIALIZED (
           SELECT COALESCE(n.identity, b.identity) AS identity, b.state AS state_before, b.duration AS duration_before,
             n.state AS state_after, n.duration AS duration_after
           FROM base AS b FULL OUTER JOIN newer AS n ON n.identity = b.identity)
         {}
         UNION ALL SELECT 0, NULL, state_before, NULL, state_after, NULL, count(*) FROM sides
           GROUP BY state_before, state_after",
        side(base, &first),
        side(newer, &second),
        lists.join(" UNION ALL ")
    )
}

impl Comparison {
    fn of(rows: Vec<Row>, names: &HashMap<Vec<u8>, Test>) -> Result<Self, Failure> {
        let mut all = Self::default();
        for row in rows {
            let before = row.state_before.map(standing).transpose()?;
            let after = row.state_after.map(standing).transpose()?;
            let Some(identity) = row.identity else {
                match (before, after) {
                    (None, _) => all.added += row.many,
                    (_, None) => all.removed += row.many,
                    _ => {}
                }
                all.base.add(before, row.many);
                all.counts.add(after, row.many);
                continue;
            };
            let test = names
                .get(&identity)
                .ok_or_else(|| Failure::internal("compare tests", "one has no name"))?;
            let after =
                after.ok_or_else(|| Failure::internal("compare tests", "one has no state"))?;
            let change = Change {
                test: test.clone(),
                before: before.map(|standing| outcome(standing, row.duration_before)),
                after: outcome(after, row.duration_after),
            };
            match row.list {
                1 => all.new_failures.push(change),
                2 => all.fixed.push(change),
                3 => all.still_failing.push(change),
                4 => all.slower.push(change),
                _ => all.quarantined.push(change),
            }
        }
        for list in [
            &mut all.new_failures,
            &mut all.fixed,
            &mut all.still_failing,
            &mut all.quarantined,
        ] {
            list.sort_by(|a, b| (&a.test.class, &a.test.name).cmp(&(&b.test.class, &b.test.name)));
        }
        all.slower.sort_by_key(|change| {
            let before = change.before.and_then(|outcome| outcome.duration);
            std::cmp::Reverse(change.after.duration.unwrap_or(0) - before.unwrap_or(0))
        });
        Ok(all)
    }
}

impl Counts {
    fn add(&mut self, standing: Option<Standing>, many: i64) {
        let Some((state, quarantined)) = standing else {
            return;
        };
        match state {
            TestState::Passed => self.passed += many,
            TestState::Skipped => self.skipped += many,
            TestState::Failed => self.failed += many,
            TestState::Error => self.errors += many,
        }
        if quarantined {
            self.quarantined += many;
        }
    }
}

/// How a test ended, and whether that is a failure in quarantine.
type Standing = (TestState, bool);

fn outcome((state, quarantined): Standing, duration: Option<i64>) -> Outcome {
    Outcome {
        state,
        duration,
        quarantined,
    }
}

fn standing(number: i32) -> Result<Standing, Failure> {
    let known = usize::try_from(number).ok().and_then(|at| WORST.get(at));
    known
        .copied()
        .ok_or_else(|| Failure::internal("compare tests", format!("unknown state {number}")))
}
