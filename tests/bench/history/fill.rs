//! Results of tests for the executions that the benchmark `search` makes, made by the database itself.
//!
//! 5,000 tests of 50 suites; each execution has ten of its suite by default. One test in 50 is unstable, one in 500
//! has failed for a fifth of the time. Beside them one test that a fifth of all executions have, one with ten
//! results, and three executions with 20,000 tests of their own: two at the top, and one that is a child.

use anyhow::ensure;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::search::fill as executions;

/// Tests of each execution that has many.
pub(super) const MANY: i64 = 20_000;

/// Another project has tests as well, which searches by name have to pass by.
const TESTS: &str = "
INSERT INTO projects (id, name, display_name, create_time)
  VALUES ('00000000-0000-7000-8000-000000000001', 'other', 'Other', 0);
CREATE TEMPORARY TABLE numbered_tests AS
SELECT number, decode(md5('test-' || number), 'hex') AS identity FROM (
  SELECT generate_series(0, 4999) UNION ALL SELECT generate_series(100000, 99999 + @MANY@)
  UNION ALL SELECT -1 UNION ALL SELECT -2) AS s (number);
ANALYZE numbered_tests;
INSERT INTO tests (project_id, identity, suite, class, name, parameters, variants, file, line, create_time)
SELECT p.id, n.identity, 'suite ' || n.number / 100,
  'com.example.service' || n.number / 100 || '.package' || n.number / 10 % 10 || '.ClassOfTests' || n.number / 5,
  CASE n.number WHEN -1 THEN 'the_hot_test' WHEN -2 THEN 'the_rare_test' ELSE 'it_does_what_number_' || n.number || '_wants' END,
  CASE WHEN n.number % 7 = 0 THEN 'case ' || n.number % 5 END, '', 'src/test/java/ClassOfTests' || n.number / 5 || '.java',
  abs(n.number) % 400, 0
FROM numbered_tests n, projects p WHERE p.name = 'default' OR (p.name = 'other' AND n.number > 0)
";

const CASES: &str = "
CREATE TEMPORARY TABLE large AS SELECT id, number FROM executions
  WHERE number IN (@COUNT@ - 7, @COUNT@ - 5, @COUNT@ - 11);
INSERT INTO test_results (execution_id, identity, project_id, root_id, artifact_id, epoch, position, rank, state, flaky,
  tries, duration, run_time, revision, message, kind, stack, detail_json)
SELECT id, identity, project_id, root_id, id, 1, place, CASE WHEN state IN ('failed', 'error') THEN 0 ELSE 1 END, state,
  state = 'passed' AND is_flaky, CASE WHEN state = 'passed' AND is_flaky THEN 2 ELSE 1 END,
  CASE WHEN state <> 'skipped' THEN 5 + test % 300 + luck % 40 END, create_time,
  CASE WHEN i % 5 <> 1 THEN md5('' || i / 2000) || '01234567' END,
  CASE WHEN state IN ('failed', 'error') THEN 'expected status 200 of /api/v1/things/' || i || ' but it was 503 after ' || luck || ' ms' END,
  CASE state WHEN 'failed' THEN 'AssertionError' WHEN 'error' THEN 'TimeoutException' END,
  CASE WHEN state IN ('failed', 'error') THEN (SELECT string_agg('  at com.example.' || md5(luck || ' ' || line) || '.run', E'\\n')
    FROM generate_series(1, 30) AS line) END,
  CASE WHEN luck % 10 = 3 THEN '{\"outputs\":[{\"stream\":\"stdout\",\"start\":1234,\"end\":2345}],\"attachments\":[],\"properties\":{}}' END
FROM (
  SELECT id, project_id, root_id, create_time, i, place, test, luck,
    CASE WHEN test % 500 = 13 AND i > @COUNT@ * 4 / 5 AND luck < 900 THEN 'failed'
      WHEN test % 50 = 7 AND luck < 50 THEN 'failed'
      WHEN luck < 6 THEN 'failed' WHEN luck < 8 THEN 'error' WHEN luck BETWEEN 700 AND 720 THEN 'skipped' ELSE 'passed' END AS state,
    CASE WHEN test % 50 = 7 THEN luck < 130 ELSE luck = 130 END AS is_flaky
  FROM (
    SELECT id, project_id, root_id, create_time, i, place, test, (hashint8(i * 131071 + test) & 2147483647) % 1000 AS luck
    FROM (
      SELECT id, project_id, COALESCE(parent_id, id) AS root_id, create_time, number AS i, place,
        CASE WHEN place = 0 AND number % 5 = 0 THEN -1
          WHEN place = 1 AND number % (@COUNT@ / 10) = 1 THEN -2
          ELSE number % 50 * 100 + (number / 50 * @EACH@ + place) % 100 END AS test
      FROM executions, generate_series(0, @EACH@ - 1) AS place
      WHERE workflow <> 'lifecycle'
      UNION ALL
      SELECT e.id, e.project_id, COALESCE(e.parent_id, e.id), e.create_time, e.number, @EACH@ + test, 100000 + test
      FROM large l, executions e, generate_series(0, @MANY@ - 1) AS test WHERE e.id = l.id
    ) AS chosen
  ) AS lucky
) AS ended JOIN numbered_tests ON numbered_tests.number = test
";

/// Each tenth execution has a report; who counts those that wait looks for them.
const REPORTS: [&str; 2] = [
    "INSERT INTO artifacts (id, project_id, execution_id, attempt_id, path, size, sha256, content_type, mode, step, blob,
       create_time)
     SELECT id, project_id, id, id, 'report.xml', 9999, repeat('0', 64), 'application/xml', 420, 's', 'artifacts/' || id || '/1',
       create_time
     FROM executions WHERE number % 10 = 3",
    "INSERT INTO reports (artifact_id, project_id, execution_id, root_id, epoch, path, format, state, message, passed, failed,
       errors, skipped, flaky, duration, summary_json, create_time)
     SELECT id, project_id, id, COALESCE(parent_id, id), 1, 'report.xml', 'junit', 'read', '', 10, 0, 0, 0, 0, 1234, '{}', create_time
     FROM executions WHERE number % 10 = 3",
];

const ANALYZE: [&str; 4] = [
    "VACUUM ANALYZE test_results",
    "VACUUM ANALYZE tests",
    "VACUUM ANALYZE reports",
    "VACUUM ANALYZE artifacts",
];

/// Fills a database, unless that was done before.
pub(super) async fn fill(url: &str, count: u32, results: u32) -> anyhow::Result<()> {
    executions::fill(url, count, &[]).await?;
    let mut database = PgConnection::connect(url).await?;
    let found: i64 = sqlx::query_scalar("SELECT count(*) FROM test_results")
        .fetch_one(&mut database)
        .await?;
    if found > 0 {
        let wanted = i64::from(count) * i64::from(results / count) + 3 * MANY;
        ensure!(
            found == wanted,
            "the database has {found} results where {wanted} are wanted: give what it was filled with, or an empty one"
        );
        database.close().await?;
        return Ok(());
    }
    database.execute("SET statement_timeout = 0").await?;
    database.execute("SET synchronous_commit = off").await?;
    database
        .execute("SET maintenance_work_mem = '512MB'")
        .await?;
    // Indexes are made when all is there, and each execution is not looked up for each of its results.
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "SELECT indexname::text, indexdef FROM pg_indexes WHERE tablename = 'test_results' AND indexname NOT LIKE '%pkey'",
    )
    .fetch_all(&mut database)
    .await?;
    let references: Vec<(String, String)> = sqlx::query_as(
        "SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint
         WHERE conrelid = 'test_results'::regclass AND contype = 'f'",
    )
    .fetch_all(&mut database)
    .await?;
    let mut statements = Vec::new();
    for (name, _) in &indexes {
        statements.push(format!("DROP INDEX {name}"));
    }
    for (name, _) in &references {
        statements.push(format!("ALTER TABLE test_results DROP CONSTRAINT {name}"));
    }
    for statement in [TESTS, CASES].into_iter().chain(REPORTS) {
        let statement = statement
            .replace("@COUNT@", &count.to_string())
            .replace("@EACH@", &(results / count).to_string())
            .replace("@MANY@", &MANY.to_string());
        statements.push(statement);
    }
    statements.extend(indexes.into_iter().map(|(_, definition)| definition));
    for (name, definition) in references {
        statements.push(format!(
            "ALTER TABLE test_results ADD CONSTRAINT {name} {definition}"
        ));
    }
    statements.extend(ANALYZE.map(str::to_owned));
    for statement in statements {
        let begin = std::time::Instant::now();
        sqlx::raw_sql(AssertSqlSafe(statement.clone()))
            .execute(&mut database)
            .await?;
        let first = statement.trim().lines().next().unwrap_or_default();
        eprintln!("{:.1?}: {first}", begin.elapsed());
    }
    database.close().await?;
    Ok(())
}

/// A table or an index, and its bytes.
pub(super) async fn sizes(url: &str) -> anyhow::Result<Vec<(String, i64)>> {
    let mut database = PgConnection::connect(url).await?;
    // What is long stands beside its table.
    let sizes = sqlx::query_as(
        "SELECT c.relname::text, pg_relation_size(c.oid) + CASE WHEN c.reltoastrelid <> 0 THEN pg_total_relation_size(c.reltoastrelid)
           ELSE 0 END AS bytes
         FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
         JOIN pg_class t ON t.oid = COALESCE(i.indrelid, c.oid)
         WHERE t.relname IN ('tests', 'test_results', 'executions') AND c.relkind IN ('r', 'i')
         ORDER BY t.relname DESC, bytes DESC",
    )
    .fetch_all(&mut database)
    .await?;
    database.close().await?;
    Ok(sizes)
}
