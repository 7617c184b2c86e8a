//! A database of executions that have ended over 90 days, made by the database itself.

use anyhow::{Context as _, ensure};
use muster_tests::{control_plane::ControlPlane, database::Database};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// The first day, in seconds since 1970.
const FIRST_DAY: i64 = 1_780_000_000;
/// How many days there are.
pub(crate) const DAYS: i64 = 90;

/// The beginning of a day, in seconds since 1970.
pub(crate) const fn day(number: i64) -> i64 {
    FIRST_DAY + number * 86_400
}

/// The time of number `i`, in milliseconds, and its id, which carries that.
const NUMBERED: &str = "
CREATE TEMPORARY TABLE numbered AS
SELECT i, at, (lpad(to_hex(at), 12, '0') || '7' || lpad(to_hex(i % 4096), 3, '0') || '8'
  || lpad(to_hex(i), 15, '0'))::uuid AS id
FROM (SELECT i, @FIRST@ + i * @STEP@ AS at FROM generate_series(1::bigint, @COUNT@) AS i) AS s
";

/// 1 of 10 is of the workflow `api` in ten revisions, few old ones of `rare`, the others of 50 suites; 1
/// of 20 has failed, 1 of 100 was aborted, 20 old ones have timed out; 1 of 10 is a worker of the one
/// before it.
const EXECUTIONS: &str = "
INSERT INTO executions (id, project_id, workflow, workflow_revision, number, display_name, revision,
  state, last_epoch, reason, message, tags_json, labels_json, config_json, target_json,
  warnings_json, queue_rank, creator, create_time, assign_time, start_time, finish_time, log_size,
  log_complete, artifact_count, event_count, concurrency_group, concurrency_most, parent_id, parent_attempt_id,
  child_group, child_index, child_step, role, description)
SELECT id, (SELECT id FROM projects WHERE name = 'default'), workflow, 1 + i * 10 / (@COUNT@ + 1), i, workflow || '-' || i,
  9, state, 1,
  CASE state WHEN 'passed' THEN '' WHEN 'failed' THEN 'STEP_FAILED' WHEN 'aborted' THEN 'EVICTED' ELSE 'RUN_TIMEOUT' END,
  CASE WHEN state = 'passed' THEN '' WHEN i <= 20000 AND i % 2000 = 27 THEN 'the needle of ' || i
    WHEN state = 'failed' THEN 'step ''Test'' failed with exit code 1 after ' || i % 977 || ' s'
    WHEN state = 'aborted' THEN 'the pod was evicted: out of memory' ELSE 'it has run for longer than 1 h' END,
  CASE WHEN i % 5 = 1 THEN '{\"branch\":\"main\"}' ELSE '{}' END,
  CASE workflow WHEN 'api' THEN '{\"team\":\"t0\"}' WHEN 'rare' THEN '{\"legacy\":\"yes\"}'
    ELSE '{\"team\":\"t' || i % 5 || '\",\"tier\":\"1\"}' END,
  '{}', '{\"matches\":{},\"not\":{},\"replicate\":[]}', '[]', 0, 'ci', at, at + 100, at + 900, at + 60000 + i % 9000, 4096,
  TRUE, 0, 6, CASE WHEN i % 100 = 50 THEN 'deploy' END, CASE WHEN i % 100 = 50 THEN 1 END,
  parent, parent, CASE WHEN parent IS NOT NULL THEN 'g' END, CASE WHEN parent IS NOT NULL THEN 0 END,
  CASE WHEN parent IS NOT NULL THEN 's' END, CASE WHEN parent IS NOT NULL THEN 'worker' END,
  CASE WHEN parent IS NOT NULL THEN '' END
FROM (SELECT i, at, id,
    CASE WHEN i <= 3000 AND i % 100 = 3 THEN 'rare' WHEN i % 10 = 0 THEN 'api' ELSE 'suite-' || i % 50 END AS workflow,
    CASE WHEN i <= 2000 AND i % 100 = 5 THEN 'timed_out' WHEN i % 20 = 7 OR i % 200 = 90 THEN 'failed' WHEN i % 100 = 33 THEN 'aborted'
      ELSE 'passed' END AS state,
    CASE WHEN i % 10 = 9 THEN lag(id) OVER (ORDER BY i) END AS parent
  FROM numbered) AS s
";

const REST: [&str; 9] = [
    "INSERT INTO execution_tags (project_id, key, value, execution_id)
     SELECT p.id, 'branch', 'main', n.id FROM numbered n, projects p WHERE p.name = 'default' AND i % 5 = 1",
    "INSERT INTO execution_tags (project_id, key, value, execution_id)
     SELECT p.id, 'release', 'one', n.id FROM numbered n, projects p
     WHERE p.name = 'default' AND i <= 2000 AND i % 100 = 2",
    "INSERT INTO attempts (id, execution_id, project_id, agent_id, agent_name, epoch, status, sequence,
       lease_expire_time, create_time, start_time, finish_time, reason, message, log_offset, log_ended)
     SELECT n.id, n.id, p.id, p.id,
       CASE WHEN i <= 10000 AND i % 200 = 4 THEN 'old-cluster' ELSE 'cluster-' || i % 8 END, 1, 'completed', 5,
       0, at, at, at, '', '', 4096, TRUE
     FROM numbered n, projects p WHERE p.name = 'default'",
    "INSERT INTO counters (project_id, workflow, value)
     SELECT project_id, workflow, max(number) FROM executions GROUP BY project_id, workflow",
    "INSERT INTO workflow_labels SELECT DISTINCT e.project_id, l.key, l.value, e.workflow
     FROM executions e, jsonb_each_text(e.labels_json::jsonb) l",
    "VACUUM ANALYZE executions",
    "VACUUM ANALYZE attempts",
    "VACUUM ANALYZE execution_tags",
    "VACUUM ANALYZE workflow_labels",
];

/// Results of two tests.
pub(crate) const RESULTS: [&str; 3] = [
    // One test in all of them, which fails in 1 of 20 and could not check in 10 old ones; one in 30 old ones.
    "INSERT INTO tests (project_id, identity, suite, class, name, variants, create_time)
     SELECT p.id, decode(repeat(t.byte, 16), 'hex'), '', 'shop', t.name, '', 0
     FROM projects p, (VALUES ('01', 'test_everywhere'), ('02', 'test_of_old')) AS t (byte, name)
     WHERE p.name = 'default'",
    "INSERT INTO test_results (execution_id, identity, project_id, root_id, artifact_id, epoch, position, rank,
       state, flaky, tries, run_time)
     SELECT e.id, decode(repeat(t.byte, 16), 'hex'), e.project_id, coalesce(e.parent_id, e.id), e.id, 1, 0,
       CASE WHEN t.byte = '01' AND (e.state = 'failed' OR old.error) THEN 0 ELSE 1 END,
       CASE WHEN t.byte = '02' THEN 'passed' WHEN old.error THEN 'error' WHEN e.state = 'failed' THEN 'failed'
         ELSE 'passed' END, FALSE, 1, e.create_time
     FROM executions e, (VALUES ('01'), ('02')) AS t (byte),
       LATERAL (SELECT e.number <= 20000 AND e.number % 2000 = 28 AS error) AS old
     WHERE t.byte = '01' OR (e.number <= 3000 AND e.number % 100 = 3)",
    "VACUUM ANALYZE test_results",
];

/// Arguments of a server on such a database, most of which is beyond what is kept.
const KEEP: [&str; 4] = ["--keep-age", "none", "--keep-count", "none"];

/// A server, which makes the tables, on the database that is given or one of its own, which is dropped with
/// what is returned first.
pub(crate) async fn open(
    given: Option<&str>,
) -> anyhow::Result<(Option<Database>, String, ControlPlane)> {
    let (own, url) = match given {
        Some(url) => {
            forget_token(url).await;
            (None, url.to_owned())
        }
        None => {
            let made = Database::from_environment().await?;
            let made = made.context("set MUSTER_TEST_POSTGRES, or give --database")?;
            let url = made.url.clone();
            (Some(made), url)
        }
    };
    let mut arguments = vec!["--database", &url];
    arguments.extend(KEEP);
    let server = ControlPlane::start_with(&arguments).await?;
    Ok((own, url, server))
}

/// Lets the next server on a database that was used before write a token again.
async fn forget_token(url: &str) {
    let delete = "DELETE FROM instance WHERE key = 'first_token'";
    // In an empty database there is none.
    muster_tests::postgres::execute(url, delete).await.ok();
}

/// Fills a database, unless that was done before, with executions and by `more` statements; its size in bytes.
pub(crate) async fn fill(url: &str, executions: u32, more: &[&str]) -> anyhow::Result<i64> {
    let mut database = PgConnection::connect(url).await?;
    let found: i64 = sqlx::query_scalar("SELECT count(*) FROM executions")
        .fetch_one(&mut database)
        .await?;
    if found == 0 {
        database.execute("SET statement_timeout = 0").await?;
        database.execute("SET synchronous_commit = off").await?;
        let first = FIRST_DAY * 1000;
        let step = (DAYS * 86_400_000 / i64::from(executions)).max(1);
        let all = [NUMBERED, EXECUTIONS].into_iter().chain(REST);
        for statement in all.chain(more.iter().copied()) {
            let statement = statement
                .replace("@FIRST@", &first.to_string())
                .replace("@STEP@", &step.to_string())
                .replace("@COUNT@", &executions.to_string());
            database.execute(AssertSqlSafe(statement)).await?;
        }
    } else {
        ensure!(
            found == i64::from(executions),
            "the database has {found} executions: give --executions {found}, or an empty one"
        );
    }
    let size = sqlx::query_scalar("SELECT pg_database_size(current_database())")
        .fetch_one(&mut database)
        .await?;
    database.close().await?;
    Ok(size)
}
