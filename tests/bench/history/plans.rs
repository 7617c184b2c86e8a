//! How the database finds what `history` asks for. The statements are those of `storage/src/test`, written once
//! more: whoever changes them there changes them here.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

const STATEMENTS: [(&str, &str); 1] = [("bare", "SELECT 1")];

/// Prints them.
#[expect(clippy::print_stdout, reason = "the purpose of this program")]
pub(super) async fn print(url: &str, _executions: u32) -> anyhow::Result<()> {
    let mut database = PgConnection::connect(url).await?;
    for (name, statement) in STATEMENTS {
        let statement = format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {statement}");
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
