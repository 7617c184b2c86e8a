//! How the database finds what `history` asks for. The statements are those of `storage/src/test`, written once
//! more without what a plan does not depend on: whoever changes them there looks here.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// Each with words in capitals for values of the database at hand.
const STATEMENTS: [(&str, &str); 8] = [
    (
        "tests of an execution with 20,000, a page",
        "SELECT * FROM test_results WHERE root_id = LARGE
         ORDER BY rank, execution_id, artifact_id, position LIMIT 51",
    ),
    (
        "how many of them ended how",
        "SELECT state, flaky, count(position) FROM test_results WHERE root_id = LARGE GROUP BY state, flaky",
    ),
    (
        "tests of a child, a page",
        "SELECT * FROM test_results WHERE root_id = PARENT AND rank = 1 AND execution_id = CHILD
         ORDER BY rank, execution_id, artifact_id, position LIMIT 51",
    ),
    (
        "history of a test, a page",
        "SELECT execution_id, state, flaky, tries, duration, run_time, revision, message FROM test_results
         WHERE project_id = PROJECT AND identity = TEST ORDER BY run_time DESC, execution_id DESC LIMIT 50",
    ),
    (
        "tests that may be flaky",
        "SELECT identity, max(run_time) AS newest FROM (
           SELECT identity, run_time FROM test_results WHERE project_id = PROJECT AND run_time >= SINCE
             AND rank = 0 AND revision IS NOT NULL
           ORDER BY run_time DESC LIMIT 5000) AS recent
         GROUP BY identity ORDER BY count(*) DESC, newest DESC, identity LIMIT 200",
    ),
    (
        "newest results of 64 tests",
        "SELECT r.* FROM (SELECT DISTINCT identity FROM (SELECT identity FROM tests WHERE project_id = PROJECT LIMIT 64) AS v)
           AS wanted
         CROSS JOIN LATERAL (SELECT identity, state, flaky, duration, revision FROM test_results AS t
           WHERE t.project_id = PROJECT AND t.identity = wanted.identity AND t.run_time >= SINCE
           ORDER BY t.run_time DESC LIMIT 100) AS r",
    ),
    (
        "tests by a part of the name",
        "SELECT * FROM tests WHERE project_id = PROJECT AND lower(class || ' ' || name || ' ' || variants) LIKE '%rare%'
         ORDER BY class, name, identity LIMIT 100",
    ),
    (
        "two executions of 20,000 compared, without the lists",
        "WITH base AS (SELECT identity, min(state) AS state, max(duration) AS duration FROM test_results
             WHERE root_id = LARGE GROUP BY identity),
           newer AS (SELECT identity, min(state) AS state, max(duration) AS duration FROM test_results
             WHERE root_id = OTHER GROUP BY identity)
         SELECT b.state, n.state, count(*) FROM base AS b FULL OUTER JOIN newer AS n ON n.identity = b.identity
         GROUP BY b.state, n.state",
    ),
];

/// Prints them.
#[expect(clippy::print_stdout, reason = "the purpose of this program")]
pub(super) async fn print(url: &str, executions: u32) -> anyhow::Result<()> {
    let last = i64::from(executions);
    let mut database = PgConnection::connect(url).await?;
    let mut words = Vec::new();
    for (word, query) in [
        (
            "PROJECT",
            "SELECT id::text FROM projects WHERE name = 'default' AND $1 = $1".to_owned(),
        ),
        ("TEST", "SELECT md5('test--1') WHERE $1 = $1".to_owned()),
        ("LARGE", numbered("id", 7)),
        ("OTHER", numbered("id", 5)),
        ("CHILD", numbered("id", 11)),
        ("PARENT", numbered("parent_id", 11)),
    ] {
        let value: String = sqlx::query_scalar(AssertSqlSafe(query))
            .bind(last)
            .fetch_one(&mut database)
            .await?;
        let value = match word {
            "TEST" => format!("'\\x{value}'::bytea"),
            _ => format!("'{value}'::uuid"),
        };
        words.push((word, value));
    }
    let since = crate::search::fill::day(crate::search::fill::DAYS - 14) * 1000;
    words.push(("SINCE", since.to_string()));
    for (name, statement) in STATEMENTS {
        let mut statement =
            format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {statement}");
        for (word, value) in &words {
            statement = statement.replace(word, value);
        }
        let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(statement))
            .fetch_all(&mut database)
            .await?;
        println!("\n{name}:");
        for line in lines {
            println!("  {line}");
        }
    }
    database.close().await?;
    Ok(())
}

/// A column of an execution, as a text, by how far its number is from the last.
fn numbered(column: &str, back: i64) -> String {
    format!("SELECT {column}::text FROM executions WHERE number = $1 - {back}")
}
