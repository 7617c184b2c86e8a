//! Tests that are not steady: which they may be by their newest flaky and bad results, and what they did of late.

use std::collections::HashMap;

use jiff::Timestamp;
use muster_core::{id::ProjectId, test_history::TestResult};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement, Value};

use super::{Test, Tests, history::duration, state};
use crate::{Error, entity::place, time, transaction::Failure};

/// Most results of each kind in a stretch of time, from which tests are taken.
const MOST_UNSTEADY: u32 = 5000;
/// Results of each test that are looked at.
const EACH: u32 = 100;
/// Tests whose results are asked for together.
const PART: usize = 64;

/// A test that is not steady, with its results, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsteady {
    /// The test.
    pub test: Test,
    /// Its newest results.
    pub results: Vec<TestResult>,
    /// When the newest of them was.
    pub last_time: Timestamp,
}

#[derive(Debug, FromQueryResult)]
struct Suspect {
    identity: Vec<u8>,
    newest: i64,
}

#[derive(Debug, FromQueryResult)]
struct Narrow {
    identity: Vec<u8>,
    state: String,
    flaky: bool,
    duration: Option<i64>,
    revision: Option<String>,
}

impl Tests<'_> {
    /// Returns tests that have passed on a retry or failed since a time, with their newest results, at most
    /// `limit`: those that have passed on a retry most often, and those that have failed most often, in turn.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn unsteady(&self, since: Timestamp, limit: u32) -> Result<Vec<Unsteady>, Error> {
        let since = time::millis(since);
        self.store
            .read("list_unsteady_tests", || async {
                let db = self.store.searcher();
                // In the words of their indexes. Failures say nothing of steadiness unless it is known what
                // was tested.
                let flaky = suspects(db, self.project, "flaky", since, limit).await?;
                let bad = "rank = 0 AND revision IS NOT NULL";
                let bad = suspects(db, self.project, bad, since, limit).await?;
                let all = in_turn(flaky, bad, limit as usize);
                let names = self.names(db, all.iter().map(|one| &one.identity)).await?;
                let mut results = newest_results(db, self.project, &all, since).await?;
                let unsteady = all.into_iter().filter_map(|one| {
                    Some(Unsteady {
                        test: names.get(&one.identity)?.clone(),
                        results: results.remove(&one.identity)?,
                        last_time: time::timestamp(one.newest),
                    })
                });
                Ok(unsteady.collect())
            })
            .await
    }
}

/// Tests of the newest results with a condition, those with most of them first.
async fn suspects<C: ConnectionTrait>(
    db: &C,
    project: ProjectId,
    condition: &str,
    since: i64,
    limit: u32,
) -> Result<Vec<Suspect>, Failure> {
    let backend = db.get_database_backend();
    let (project_place, since_place) = (place(backend, 1), place(backend, 2));
    let sql = format!(
        "SELECT identity, max(run_time) AS newest FROM (
           SELECT identity, run_time FROM test_results
           WHERE project_id = {project_place} AND run_time >= {since_place} AND {condition}
           ORDER BY run_time DESC LIMIT {MOST_UNSTEADY}
         ) AS recent GROUP BY identity ORDER BY count(*) DESC, newest DESC, identity LIMIT {limit}"
    );
    let values = [project.as_uuid().into(), since.into()];
    let statement = Statement::from_sql_and_values(backend, sql, values);
    Ok(Suspect::find_by_statement(statement).all(db).await?)
}

/// One of each list in turn, each test once, at most so many; a test's newest result counts.
fn in_turn(flaky: Vec<Suspect>, bad: Vec<Suspect>, most: usize) -> Vec<Suspect> {
    let mut newest: HashMap<Vec<u8>, i64> = HashMap::new();
    for one in flaky.iter().chain(&bad) {
        let last = newest.entry(one.identity.clone()).or_insert(one.newest);
        *last = one.newest.max(*last);
    }
    let (mut flaky, mut bad) = (flaky.into_iter(), bad.into_iter());
    let mut all = Vec::new();
    while all.len() < most {
        let (first, second) = (flaky.next(), bad.next());
        if first.is_none() && second.is_none() {
            break;
        }
        for one in [first, second].into_iter().flatten() {
            // Removed, so that it comes once.
            if let Some(newest) = newest.remove(&one.identity) {
                all.push(Suspect { newest, ..one });
            }
        }
    }
    all.truncate(most);
    all
}

/// The newest results of some tests, each with the newest first.
async fn newest_results<C: ConnectionTrait>(
    db: &C,
    project: ProjectId,
    tests: &[Suspect],
    since: i64,
) -> Result<HashMap<Vec<u8>, Vec<TestResult>>, Failure> {
    let mut results: HashMap<Vec<u8>, Vec<TestResult>> = HashMap::new();
    for part in tests.chunks(PART) {
        let backend = db.get_database_backend();
        let mut wanted: Vec<&Vec<u8>> = part.iter().map(|one| &one.identity).collect();
        // One of few numbers of places, so that connections know the statement. What is there twice is
        // asked for once by the database that this is for.
        let sql = match backend {
            DbBackend::Postgres => {
                wanted.resize(PART, wanted[0]);
                lateral(wanted.len())
            }
            _ => union(wanted.len()),
        };
        let mut values: Vec<Value> = vec![project.as_uuid().into(), since.into()];
        values.extend(wanted.into_iter().map(|identity| identity.clone().into()));
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let rows = Narrow::find_by_statement(statement).all(db).await?;
        for row in rows {
            let result = TestResult {
                state: state(&row.state)?,
                flaky: row.flaky,
                duration: duration(row.duration),
                revision: row.revision,
            };
            results.entry(row.identity).or_default().push(result);
        }
    }
    Ok(results)
}

/// What is asked for each test: an index has all of it.
const RESULTS: &str = "SELECT identity, state, flaky, duration, revision FROM test_results";

/// For PostgreSQL: one plan, whatever the number of tests.
fn lateral(count: usize) -> String {
    let places: Vec<String> = (0..count).map(|at| format!("(${})", at + 3)).collect();
    format!(
        "SELECT r.* FROM (SELECT DISTINCT identity FROM (VALUES {}) AS v (identity)) AS wanted
         CROSS JOIN LATERAL ({RESULTS} AS t WHERE t.project_id = $1 AND t.identity = wanted.identity
           AND t.run_time >= $2 ORDER BY t.run_time DESC LIMIT {EACH}) AS r",
        places.join(", ")
    )
}

/// For SQLite, which has no such joins, and makes plans quickly.
fn union(count: usize) -> String {
    let parts = (0..count).map(|at| {
        format!(
            "SELECT * FROM ({RESULTS} WHERE project_id = ?1 AND identity = ?{} AND run_time >= ?2
             ORDER BY run_time DESC LIMIT {EACH})",
            at + 3
        )
    });
    parts.collect::<Vec<_>>().join(" UNION ALL ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspect(number: u8, newest: i64) -> Suspect {
        Suspect {
            identity: vec![number; 16],
            newest,
        }
    }

    #[test]
    fn each_kind_has_its_turn_and_each_test_comes_once() {
        let flaky = vec![suspect(1, 10), suspect(2, 20), suspect(3, 30)];
        let bad = vec![suspect(9, 5), suspect(1, 15)];
        let all = in_turn(flaky, bad, 4);
        let told: Vec<_> = all
            .iter()
            .map(|one| (one.identity[0], one.newest))
            .collect();
        assert_eq!(told, [(1, 15), (9, 5), (2, 20), (3, 30)]);
    }
}
