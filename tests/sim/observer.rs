//! Reads what is stored, on a connection of its own: what a server of a case has in memory does not
//! count.

use anyhow::{Context as _, bail};
use muster_core::execution::State;
use sqlx::{
    ColumnIndex, Connection as _, Decode, PgConnection, Row, SqliteConnection, Type,
    postgres::PgRow, sqlite::SqliteRow,
};
use tokio::runtime::{Builder, Runtime};

use crate::seen::{Attempt, Execution, Log, Sight, Status};

/// Changes whenever a row of an execution does.
const MARK: &str = "SELECT COUNT(*), CAST(SUM(revision) AS BIGINT) FROM executions";
/// Everything, in one statement: that is one moment. `{id}` makes a text of an id.
const EVERYTHING: &str = "
SELECT 1 AS kind, {id} AS id, {lease_attempt_id} AS other,
    state AS a, reason AS b, tags_json AS c, log_sha256 AS d,
    revision AS m, last_epoch AS n, lease_epoch AS o, finish_time AS p, log_size AS q,
    pause_wanted AS x, log_complete AS y
FROM executions
UNION ALL
SELECT 2, {id}, {execution_id}, status, reason, agent_name, NULL,
    epoch, sequence, log_offset, finish_time, NULL, FALSE, FALSE
FROM attempts
UNION ALL
SELECT 3, {execution_id}, NULL, kind, NULL, NULL, NULL,
    sequence, NULL, NULL, NULL, NULL, FALSE, FALSE
FROM execution_events
ORDER BY 1, 8";

/// A reader of the database of a case.
pub(crate) struct Observer {
    runtime: Runtime,
    connection: Connection,
    mark: Option<(i64, Option<i64>)>,
    sight: Sight,
}

enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Observer {
    /// Connects.
    pub(crate) fn connect(url: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let connection = runtime.block_on(async {
            anyhow::Ok(match url.strip_prefix("sqlite://") {
                Some(path) => {
                    let url = format!("sqlite:{path}");
                    Connection::Sqlite(SqliteConnection::connect(&url).await?)
                }
                None => Connection::Postgres(PgConnection::connect(url).await?),
            })
        })?;
        Ok(Self {
            runtime,
            connection,
            mark: None,
            sight: Sight::new(),
        })
    }

    /// All executions now. Attempts and events are as they were when an execution has changed last.
    pub(crate) fn look(&mut self) -> anyhow::Result<&Sight> {
        let (runtime, connection) = (&self.runtime, &mut self.connection);
        let mark = Some(runtime.block_on(connection.mark())?);
        if self.mark != mark {
            self.look_closely()?;
            self.mark = mark;
        }
        Ok(&self.sight)
    }

    /// All executions now, everything read again.
    pub(crate) fn look_closely(&mut self) -> anyhow::Result<&Sight> {
        let (runtime, connection) = (&self.runtime, &mut self.connection);
        self.sight = runtime.block_on(connection.everything())?;
        Ok(&self.sight)
    }
}

impl Connection {
    async fn mark(&mut self) -> sqlx::Result<(i64, Option<i64>)> {
        match self {
            Self::Sqlite(connection) => sqlx::query_as(MARK).fetch_one(connection).await,
            Self::Postgres(connection) => sqlx::query_as(MARK).fetch_one(connection).await,
        }
    }

    async fn everything(&mut self) -> anyhow::Result<Sight> {
        let mut sight = Sight::new();
        match self {
            Self::Sqlite(connection) => {
                let statement = statement(|id| format!("hex({id})"));
                let query = sqlx::query(sqlx::AssertSqlSafe(statement));
                let rows: Vec<SqliteRow> = query.fetch_all(connection).await?;
                for row in rows {
                    add(&row, &mut sight)?;
                }
            }
            Self::Postgres(connection) => {
                let statement = statement(|id| format!("CAST({id} AS TEXT)"));
                let query = sqlx::query(sqlx::AssertSqlSafe(statement));
                let rows: Vec<PgRow> = query.fetch_all(connection).await?;
                for row in rows {
                    add(&row, &mut sight)?;
                }
            }
        }
        Ok(sight)
    }
}

fn statement(text: impl Fn(&str) -> String) -> String {
    let ids = ["id", "lease_attempt_id", "execution_id"];
    ids.into_iter().fold(EVERYTHING.to_owned(), |all, id| {
        all.replace(&format!("{{{id}}}"), &text(id))
    })
}

/// Adds a row of [`EVERYTHING`]; those of executions come first, then attempts and events in order.
fn add<R: Row>(row: &R, sight: &mut Sight) -> anyhow::Result<()>
where
    usize: ColumnIndex<R>,
    for<'r> i32: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> bool: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<String>: Decode<'r, R::Database> + Type<R::Database>,
{
    let uuid = |text: String| anyhow::Ok(uuid::Uuid::parse_str(&text)?.to_string());
    let id = uuid(row.try_get(1)?)?;
    let kind: i32 = row.try_get(0)?;
    match kind {
        1 => {
            let state: String = row.try_get(3)?;
            let tags: String = row.try_get(5)?;
            let tags: serde_json::Value = serde_json::from_str(&tags)?;
            let lease: Option<String> = row.try_get(2)?;
            let epoch: Option<i64> = row.try_get(9)?;
            let lease = lease.filter(|lease| !lease.is_empty()).map(uuid);
            let sha256: Option<String> = row.try_get(6)?;
            let state = State::from_name(&state).context("a state that nobody knows")?;
            let execution = Execution {
                submit: tags["submit"].as_str().unwrap_or_default().to_owned(),
                state,
                reason: row.try_get(4)?,
                revision: row.try_get(7)?,
                last_epoch: row.try_get(8)?,
                lease: lease.transpose()?.zip(epoch),
                finish_time: row.try_get(10)?,
                pause_wanted: row.try_get::<bool, _>(12)? || state == State::Paused,
                log: Log {
                    size: row.try_get(11)?,
                    sha256: sha256.unwrap_or_default(),
                    complete: row.try_get(13)?,
                },
                attempts: Vec::new(),
                events: Vec::new(),
            };
            sight.insert(id, execution);
        }
        2 => {
            let execution = sight.get_mut(&uuid(row.try_get(2)?)?);
            let status: String = row.try_get(3)?;
            execution
                .context("an attempt of nothing")?
                .attempts
                .push(Attempt {
                    id,
                    epoch: row.try_get(7)?,
                    agent: row.try_get(5)?,
                    status: match status.as_str() {
                        "live" => Status::Live,
                        "completed" => Status::Completed,
                        "declined" => Status::Declined,
                        "lost" => Status::Lost,
                        _ => bail!("an attempt is {status}"),
                    },
                    reason: row.try_get(4)?,
                    sequence: row.try_get(8)?,
                    log_offset: row.try_get(9)?,
                    finish_time: row.try_get(10)?,
                });
        }
        _ => {
            let event = (row.try_get(7)?, row.try_get(3)?);
            let execution = sight.get_mut(&id).context("an event of nothing")?;
            execution.events.push(event);
        }
    }
    Ok(())
}
